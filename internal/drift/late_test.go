package drift

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// An answer to a write that comes late does not bring an object back which the
// watch has shown to be gone since.
func TestLateAnswer(t *testing.T) {
	c := New(nil)
	owner := core.Owner{Dialect: core.ArgoCD, Kind: mark.KindApplication, Namespace: "argocd", Name: "app"}
	ref := core.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: "here", Name: "it"}
	answer := func(version string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}}
		u.SetNamespace(ref.Namespace)
		u.SetName(ref.Name)
		u.SetResourceVersion(version)
		u.SetLabels(map[string]string{mark.LabelManaged: "true"})
		return u
	}
	c.Expect(owner, []core.ObjectRef{ref})
	k, key := c.kinds[groupKindOf(ref)], kube.Key{Namespace: ref.Namespace, Name: ref.Name}
	c.Observe(answer("7"))
	drift := func() Drift {
		t.Helper()
		states := c.State(owner)
		if len(states) != 1 {
			t.Fatalf("states: %v", states)
		}
		return states[0].Drift
	}
	// The watch shows its end; while it is asked for, the answer to the write
	// before that comes.
	k.Delete(key)
	_, ask, ok := k.takeDoubt()
	if !ok {
		t.Fatal("its end is not asked for")
	}
	c.Observe(answer("7"))
	k.gone(key, ask)
	if got := drift(); got != Deleted {
		t.Errorf("an answer that came while it was asked for has made it %q", got)
	}
	c.Observe(answer("7"))
	if got := drift(); got != Deleted {
		t.Errorf("an answer that came after it was found to be gone has made it %q", got)
	}
	c.Observe(answer("9"))
	if got := drift(); got == Deleted {
		t.Error("it was made anew, and is taken for gone")
	}
}
