package app

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/web"
)

var _ web.Sources = (*sourceList)(nil)

// sourceList shows the API where deliveries come from, from the engine's own
// cache.
type sourceList struct{ reader client.Reader }

// Sources implements web.Sources.
func (l *sourceList) Sources(ctx context.Context) ([]web.Source, error) {
	var all []web.Source
	for _, kind := range []schema.GroupVersionKind{flux.GitRepository, flux.HelmChart, flux.HelmRepository, flux.OCIRepository} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		if err := l.reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing %ss: %w", kind.Kind, err)
		}
		for i := range list.Items {
			all = append(all, sourceSummary(kind.Kind, &list.Items[i]))
		}
	}
	slices.SortFunc(all, func(a, b web.Source) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// sourceSummary changes nothing of u, which is the cache's.
func sourceSummary(kind string, u *unstructured.Unstructured) web.Source {
	s := web.Source{Kind: kind, Namespace: u.GetNamespace(), Name: u.GetName(), Ready: "Unknown", Created: u.GetCreationTimestamp().Time}
	text := func(path ...string) string {
		v, _, _ := unstructured.NestedString(u.Object, path...)
		return v
	}
	s.URL = withoutUser(text("spec", "url"))
	if kind == flux.HelmChart.Kind {
		s.URL = text("spec", "sourceRef", "kind") + "/" + text("spec", "sourceRef", "name") + " " + text("spec", "chart")
	}
	s.Suspended, _, _ = unstructured.NestedBool(u.Object, "spec", "suspend")
	s.Revision = shortRevision(text("status", "artifact", "revision"))
	if kind == flux.HelmRepository.Kind && text("spec", "type") == "oci" {
		s.Ready = "True" // nothing is asked of it by itself, and it has no status
	}
	conditions, _, _ := unstructured.NestedFieldNoCopy(u.Object, "status", "conditions")
	list, _ := conditions.([]any)
	for _, c := range list {
		if c, _ := c.(map[string]any); c["type"] == "Ready" {
			status, _ := c["status"].(string)
			s.Ready = cmp.Or(status, s.Ready)
			s.Message, _ = c["message"].(string)
		}
	}
	return s
}

// withoutUser is an address as it may be shown.
func withoutUser(address string) string {
	if !strings.Contains(address, "://") {
		return address // ssh's USER@HOST:PATH has no password
	}
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User = nil
	return u.String()
}
