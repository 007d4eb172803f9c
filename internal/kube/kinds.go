package kube

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// NamespacedKinds are the kinds of namespaced objects that can be listed and
// watched, each in the version that the API server prefers. Groups whose
// discovery fails are left out.
func (c *Client) NamespacedKinds() ([]*meta.RESTMapping, error) {
	lists, err := discovery.ServerPreferredNamespacedResources(c.found.client)
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, fmt.Errorf("ask the API server for its kinds: %w", err)
	}
	var kinds []*meta.RESTMapping
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("read the API server's kinds: %w", err)
		}
		for _, r := range list.APIResources {
			if slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "watch") {
				kinds = append(kinds, &meta.RESTMapping{Resource: gv.WithResource(r.Name), GroupVersionKind: gv.WithKind(r.Kind), Scope: meta.RESTScopeNamespace})
			}
		}
	}
	return kinds, nil
}
