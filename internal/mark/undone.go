package mark

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Cause is how fields of ours came to be something else.
type Cause string

// The causes.
const (
	// ByManager: a field manager other than ours had written them.
	ByManager Cause = "manager"
	// ByAdmission: they were ours all along, and yet the same manifest is
	// answered otherwise than before: something on the way into the cluster, an
	// admission webhook or policy, changes what is sent. It writes in our name,
	// so that no managed fields name it.
	ByAdmission Cause = "admission"
	// ByRemoval: somebody had removed them. Who removes owns nothing, so that no
	// managed fields name him.
	ByRemoval Cause = "removal"
)

// Change is what somebody had made of fields that a manager owns.
type Change struct {
	Cause Cause
	// Manager is the field manager, where the cause is one.
	Manager string
	// Fields are RFC 6901 pointers, sorted.
	Fields []string
}

// Undone says what an apply of manager has undone: the fields that it owns in
// after, which the API server has answered, and that were something else in
// before, which was there until then. Both have to be of the same manifest, or
// else the changes are the manager's own.
func Undone(manager string, before, after *unstructured.Unstructured) []Change {
	ours := func(obj, values *unstructured.Unstructured, visit func(path, pointer string, value any)) {
		w := walker{visit: visit}
		for _, e := range entries(obj) {
			if e.manager == manager && e.subresource == "" {
				w.walk(e.fields, values.Object, "", "")
			}
		}
	}
	type field struct{ pointer, value string }
	now := map[string]field{}
	ours(after, after, func(path, pointer string, value any) { now[path] = field{pointer, encoded(value)} })
	was := map[string]string{}
	ours(after, before, func(path, _ string, value any) { was[path] = encoded(value) })
	owned := map[string]bool{}
	ours(before, before, func(path, _ string, _ any) { owned[path] = true })
	others := ownersOf(before, manager)

	by := map[[2]string][]string{}
	for path, f := range now {
		if slices.Contains(evidence, f.pointer) || was[path] == f.value {
			continue
		}
		cause, other := ByRemoval, others.of(path)
		switch {
		case other != "":
			cause = ByManager
		case owned[path]:
			cause = ByAdmission
		}
		key := [2]string{string(cause), other}
		by[key] = append(by[key], f.pointer)
	}
	changes := make([]Change, 0, len(by))
	for key, fields := range by {
		slices.Sort(fields)
		changes = append(changes, Change{Cause(key[0]), key[1], fields})
	}
	slices.SortFunc(changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.Manager, b.Manager))
	})
	return changes
}

// owners are the paths that managers own.
type owners map[string]string

// ownersOf are those of all managers but one.
func ownersOf(obj *unstructured.Unstructured, but string) owners {
	o := owners{}
	for _, e := range entries(obj) {
		if e.manager == but {
			continue
		}
		w := walker{visit: func(path, _ string, _ any) { o[path] = e.manager }}
		w.walk(e.fields, obj.Object, "", "")
	}
	return o
}

// of is who owns the path, or what it is part of.
func (o owners) of(path string) string {
	for path != "" {
		if manager := o[path]; manager != "" {
			return manager
		}
		path = path[:strings.LastIndex(path, "/")]
	}
	return ""
}

// encoded is a value to compare by. What was decoded from JSON encodes.
func encoded(value any) string {
	b, _ := json.Marshal(value)
	return string(b)
}
