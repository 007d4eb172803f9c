package controller

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// scopes says whether kinds are namespaced.
type scopes struct {
	// known are the cluster's kinds, and declared those that come with the
	// objects themselves.
	known    func(schema.GroupVersionKind) (*meta.RESTMapping, error)
	declared map[schema.GroupKind]meta.RESTScopeName
}

// of is "" where it cannot be told.
func (s scopes) of(gvk schema.GroupVersionKind) meta.RESTScopeName {
	if m, err := s.known(gvk); err == nil {
		return m.Scope.Name()
	}
	return s.declared[gvk.GroupKind()]
}

// declaredScopes are those of the kinds that CustomResourceDefinitions among
// the objects define. Where two say different things it is not known.
func declaredScopes(objects []*unstructured.Unstructured) map[schema.GroupKind]meta.RESTScopeName {
	declared := map[schema.GroupKind]meta.RESTScopeName{}
	for _, o := range objects {
		if o.GroupVersionKind().GroupKind() != (schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}) {
			continue
		}
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
		named, _, _ := unstructured.NestedString(o.Object, "spec", "scope")
		var scope meta.RESTScopeName
		switch named {
		case "Namespaced":
			scope = meta.RESTScopeNameNamespace
		case "Cluster":
			scope = meta.RESTScopeNameRoot
		}
		gk := schema.GroupKind{Group: group, Kind: kind}
		if other, twice := declared[gk]; twice && other != scope {
			scope = ""
		}
		declared[gk] = scope
	}
	return declared
}
