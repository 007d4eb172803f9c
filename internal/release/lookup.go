package release

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// maxListed bounds what a template may list.
const maxListed = 500

// Lookup answers the template function lookup, as Helm's does: an object, a
// list of them where there is no name, and nothing where there is none.
func (r *Release) Lookup(ctx context.Context, apiVersion, kind, namespace, name string) (map[string]any, error) {
	gvk := schema.FromAPIVersionAndKind(apiVersion, kind)
	m, err := r.id.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, fmt.Errorf("find the resource of %s %s: %w", apiVersion, kind, err)
	}
	var at dynamic.ResourceInterface = r.id.dynamic.Resource(m.Resource)
	if m.Scope.Name() == meta.RESTScopeNameNamespace && namespace != "" {
		at = r.id.dynamic.Resource(m.Resource).Namespace(namespace)
	}
	if name != "" {
		obj, err := at.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return obj.Object, nil
	}
	list, err := at.List(ctx, metav1.ListOptions{Limit: maxListed + 1})
	if err != nil {
		return nil, err
	}
	if len(list.Items) > maxListed {
		return nil, fmt.Errorf("there are more than %d objects", maxListed)
	}
	return list.UnstructuredContent(), nil
}
