package mark

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// hashLength is the number of bytes that are kept of a SHA-256: 128 bits are
// past any accident, and an attacker who can write the object needs no
// collision.
const hashLength = 16

// Digest is the digest of a manifest as it is sent. Maps are hashed in the
// order of their keys. The evidence itself is not part of it.
func Digest(obj *unstructured.Unstructured) string {
	h := sha256.New()
	content := obj.Object
	if _, ok := obj.GetAnnotations()[AnnotationApplied]; ok {
		c := obj.DeepCopy()
		a := c.GetAnnotations()
		delete(a, AnnotationApplied)
		c.SetAnnotations(a)
		content = c.Object
	}
	// What an API server's JSON was decoded to, encodes.
	if err := json.NewEncoder(h).Encode(content); err != nil {
		fmt.Fprintf(h, "unencodable: %v", err)
	}
	return short(h)
}

// Owned is the hash of the fields of a live object that FieldManager owns:
// which they are, and what is in them. It changes when one is changed,
// removed, or taken over with another value, and when we apply something
// else; never when others write fields of their own (status included).
// What ignored names is left out, and so is the value of AnnotationApplied,
// which holds the result. It is "" where we own nothing.
//
// The set of owned fields is read as the API server writes it: an object
// whose keys are "f:FIELD", "k:{KEYS}", "v:VALUE" and "i:INDEX"
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
func Owned(obj *unstructured.Unstructured, ignored Ignored) string {
	w := walker{hash: sha256.New(), ignored: ignored.Pointers}
	for _, e := range entries(obj) {
		if e.manager == FieldManager && e.subresource == "" {
			w.walk(e.fields, obj.Object, "", "")
		}
	}
	if w.leaves == 0 {
		return ""
	}
	return short(w.hash)
}

// Intact says whether the object is as its last apply left it.
func Intact(obj *unstructured.Unstructured) bool {
	a, ok := ReadApplied(obj)
	return ok && a.Owned == Owned(obj, ReadIgnored(obj))
}

type walker struct {
	hash    hash.Hash
	ignored []string
	leaves  int
}

// pointerApplied is where the hash itself is kept.
var pointerApplied = "/metadata/annotations/" + escape(AnnotationApplied)

// walk hashes each owned leaf below fields as "PATH=VALUE". value is what the
// object has there, path how the owned fields name it (an element of a list
// by its keys, so that its place does not count), pointer how RFC 6901 does.
func (w *walker) walk(fields map[string]any, value any, path, pointer string) {
	keys := make([]string, 0, len(fields))
	for k := range fields {
		if k != "." {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		v, at := child(value, k)
		at = pointer + "/" + at
		if w.skip(at) {
			continue
		}
		to := path + "/" + escape(k)
		if below, ok := fields[k].(map[string]any); ok && hasChildren(below) {
			w.walk(below, v, to, at)
			continue
		}
		w.leaf(to, v, at == pointerApplied)
	}
}

func (w *walker) leaf(path string, value any, blind bool) {
	w.leaves++
	var b []byte
	if !blind {
		// What was decoded from JSON encodes; an error would hash as absent.
		b, _ = json.Marshal(value)
	}
	// A hash's Write returns no error.
	fmt.Fprintf(w.hash, "%s=%s\x00", path, b)
}

func (w *walker) skip(pointer string) bool {
	for _, i := range w.ignored {
		if pointer == i || strings.HasPrefix(pointer, i+"/") {
			return true
		}
	}
	return false
}

// hasChildren tells a leaf ({}) from a node; {".":{}} owns the node itself.
func hasChildren(fields map[string]any) bool {
	_, self := fields["."]
	return len(fields) > 1 || len(fields) == 1 && !self
}

// child returns what the path element key selects of value, and the element
// of a JSON pointer that does the same.
func child(value any, key string) (any, string) {
	kind, rest, _ := strings.Cut(key, ":")
	switch kind {
	case "f":
		m, _ := value.(map[string]any)
		return m[rest], escape(rest)
	case "k":
		var want map[string]any
		list, _ := value.([]any)
		if json.Unmarshal([]byte(rest), &want) != nil {
			return nil, escape(key)
		}
		for i, item := range list {
			if m, ok := item.(map[string]any); ok && matches(m, want) {
				return item, strconv.Itoa(i)
			}
		}
	case "v":
		var want any
		list, _ := value.([]any)
		if json.Unmarshal([]byte(rest), &want) != nil {
			return nil, escape(key)
		}
		for _, item := range list {
			if equalScalar(item, want) {
				return item, escape(key)
			}
		}
	case "i":
		list, _ := value.([]any)
		if i, err := strconv.Atoi(rest); err == nil && i >= 0 && i < len(list) {
			return list[i], rest
		}
	}
	return nil, escape(key)
}

// matches says whether item has the keys of a list element. A key that the
// item does not spell out has its schema's default, which is not known here;
// such keys ("protocol": "TCP") match when absent.
func matches(item, keys map[string]any) bool {
	for k, want := range keys {
		if have, ok := item[k]; ok && !equalScalar(have, want) {
			return false
		}
	}
	return true
}

// equalScalar compares two decoded scalars, one of which may have its number
// as float64 and the other as int64.
func equalScalar(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}

func short(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:hashLength]) }
