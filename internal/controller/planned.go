package controller

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// planned returns the objects of a target that are not in the inventory yet.
// They are noted before they are applied: an object that is made right before
// the process dies would otherwise belong to nobody if it were removed from
// Git meanwhile. Objects of a kind that is not known yet are left out; they
// cannot be made before a definition is, and are noted with what was applied.
func (e *Engine) planned(objects []*unstructured.Unstructured, namespace string, inventory []core.ObjectRef) []core.ObjectRef {
	known := make(map[core.ObjectRef]bool, len(inventory))
	for _, ref := range inventory {
		known[ref.Key()] = true
	}
	var fresh []core.ObjectRef
	for _, o := range objects {
		ref, ok := e.place(o, namespace)
		if ok && ref.Name != "" && !known[ref.Key()] && !isHook(o) {
			fresh = append(fresh, ref)
		}
	}
	return fresh
}

// place names the object with the namespace that it is applied to; namespace
// is that of objects that name none.
func (e *Engine) place(o *unstructured.Unstructured, namespace string) (core.ObjectRef, bool) {
	ref := refOf(o)
	m, err := e.client.RESTMapper().RESTMapping(ref.GroupVersionKind().GroupKind(), ref.Version)
	switch {
	case err != nil:
		return ref, false
	case m.Scope.Name() != meta.RESTScopeNameNamespace:
		ref.Namespace = ""
	case ref.Namespace == "":
		ref.Namespace = namespace
	}
	return ref, true
}
