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
// What ignored names is left out, and so are the values of the evidence's own
// annotations, which hold the result. It is "" where we own nothing.
//
// The set of owned fields is read as the API server writes it: an object
// whose keys are "f:FIELD", "k:{KEYS}", "v:VALUE" and "i:INDEX"
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
//
// Where managers are ignored, what each leaf was is added to it (see leaves):
// without that nobody could tell what they took over from what is gone.
func Owned(obj *unstructured.Unstructured, ignored Ignored) string {
	h, found := sha256.New(), leaves(nil)
	w := walker{ignored: ignored.Pointers, visit: func(path, pointer string, value any) {
		var b []byte
		if !slices.Contains(evidence, pointer) {
			// What was decoded from JSON encodes; an error would hash as absent.
			b, _ = json.Marshal(value)
		}
		// A hash's Write returns no error.
		fmt.Fprintf(h, "%s=%s\x00", path, b)
		found = append(found, leafOf(path, b))
	}}
	for _, e := range entries(obj) {
		if e.manager == FieldManager && e.subresource == "" {
			w.walk(e.fields, obj.Object, "", "")
		}
	}
	switch {
	case len(found) == 0:
		return ""
	case len(ignored.Managers) == 0 || len(found) > maxLeaves:
		return short(h)
	}
	return short(h) + leafMark + found.String()
}

// Intact says whether the object is as its last apply left it, but for what is
// ignored: each field is still ours and what it was, or an ignored manager's.
func Intact(obj *unstructured.Unstructured) bool {
	a, ok := ReadApplied(obj)
	if !ok {
		return false
	}
	ignored := ReadIgnored(obj)
	now := Owned(obj, ignored)
	if a.Owned == now {
		return true
	}
	if len(ignored.Managers) == 0 {
		return false
	}
	before, kept := readLeaves(a.Owned)
	after, keptToo := readLeaves(now)
	if !kept || now != "" && !keptToo {
		return false
	}
	taken := map[uint32]bool{}
	w := walker{visit: func(path, _ string, _ any) { taken[leafOf(path, nil).path] = true }}
	for _, e := range entries(obj) {
		if e.subresource != "status" && slices.Contains(ignored.Managers, e.manager) {
			w.walk(e.fields, obj.Object, "", "")
		}
	}
	return before.without(taken).equal(after.without(taken))
}

// walker visits the leaves of a set of owned fields.
type walker struct {
	ignored []string
	// visit is called with how the owned fields name a leaf (an element of a
	// list by its keys, so that its place does not count), how RFC 6901 does,
	// and what the object has there.
	visit func(path, pointer string, value any)
}

// OwnedPointers returns the RFC 6901 pointers to the fields that manager owns.
func OwnedPointers(obj *unstructured.Unstructured, manager string) []string {
	var ps []string
	w := walker{visit: func(_, pointer string, _ any) { ps = append(ps, pointer) }}
	for _, e := range entries(obj) {
		if e.manager == manager {
			w.walk(e.fields, obj.Object, "", "")
		}
	}
	return ps
}

// evidence is where the hash is kept, and what it was made with.
var evidence = []string{
	"/metadata/annotations/" + escape(AnnotationApplied),
	"/metadata/annotations/" + escape(AnnotationIgnored),
}

// walk visits each owned leaf below fields, in the order of their names. value
// is what the object has at path.
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
		w.visit(to, at, v)
	}
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

// EscapePointer makes an element of an RFC 6901 pointer of s.
func EscapePointer(s string) string { return escape(s) }

func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}

func short(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)[:hashLength]) }
