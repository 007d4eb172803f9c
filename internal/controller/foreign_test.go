package controller

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Another Fairway that delivers something else to the same place writes the
// same evidence as we do: the object alone does not tell that it has drifted.
func TestAnotherFairwayDeliversHere(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.namespace("foreign")
	r := h.repo("foreign", map[string]string{"app/a.yaml": configMap("of-app", "1"), "flux/a.yaml": configMap("of-flux", "1")})
	h.apply(h.application("foreign", "foreign", "app", "foreign", automated))
	defer h.delete(appObject("foreign"))
	h.apply(h.fluxPair("foreign", "foreign", "foreign", "flux", "  targetNamespace: foreign\n  prune: true\n"))
	defer h.dropFlux("foreign", "foreign")
	is := func(value string) func(u *unstructured.Unstructured) error {
		return func(u *unstructured.Unstructured) error {
			if got, _, _ := unstructured.NestedString(u.Object, "data", "key"); got != value {
				return fmt.Errorf("the key is %q", got)
			}
			return nil
		}
	}
	names := []string{"of-app", "of-flux"}
	old := map[string]*unstructured.Unstructured{}
	for _, name := range names {
		old[name] = h.waitLive("v1", "ConfigMap", "foreign", name, is("1"))
	}
	h.push(r, map[string]string{"app/a.yaml": configMap("of-app", "2"), "flux/a.yaml": configMap("of-flux", "2")})
	for _, name := range names {
		h.waitLive("v1", "ConfigMap", "foreign", name, is("2"))
	}
	h.waitApp("foreign", "to be synced", healthy)
	for _, name := range names {
		u := old[name]
		u.SetManagedFields(nil)
		u.SetResourceVersion("")
		u.SetUID("")
		u.SetCreationTimestamp(metav1.Time{})
		//nolint:staticcheck // Apply of client-go has no unstructured form
		if err := h.kube.Patch(t.Context(), u, client.Apply, client.ForceOwnership, client.FieldOwner(mark.FieldManager)); err != nil {
			t.Fatal(err)
		}
		if err := is("1")(u); err != nil || !mark.Intact(u) {
			t.Fatalf("%s is not as another Fairway would have left it: %v", name, err)
		}
	}
	for _, name := range names {
		h.waitLive("v1", "ConfigMap", "foreign", name, is("2"))
	}
	h.waitApp("foreign", "to be synced again", func(a *argo.Application) bool { return healthy(a) })
}
