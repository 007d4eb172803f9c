package deploy_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/fence"
	"github.com/fairway-cd/fairway/internal/deploy"
)

type gate struct{ closed atomic.Bool }

func (g *gate) Holds() bool { return !g.closed.Load() }

const fencedManifests = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: first}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: second}
data: {key: VALUE}
`

// A fenced write is bound to what it was decided on. Who is late looks again.
func TestFencedApply(t *testing.T) {
	b := newBench(t)
	ctx := fence.With(t.Context(), &gate{})
	maps, err := b.client.For(core.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: b.namespace, Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"made", "changed"} {
		p := b.plan(application("fenced"), strings.ReplaceAll(fencedManifests, "VALUE", value))
		changed := false
		p.Progress = func(r deploy.ObjectResult) {
			// After the second was looked at, and before it is applied.
			if r.Ref.Name != "first" || changed {
				return
			}
			changed = true
			body := []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"second"},"data":{"key":"somebody's","other":"` + value + `"}}`)
			force := true
			if _, err := maps.Patch(t.Context(), "second", types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: "somebody", Force: &force}); err != nil {
				t.Error(err)
			}
		}
		if _, err := b.deployer.Apply(ctx, p); err != nil {
			t.Fatalf("%s: %v", value, err)
		}
		live, err := maps.Get(t.Context(), "second", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		data, _ := live.Object["data"].(map[string]any)
		if !changed || data["key"] != value || data["other"] != value {
			t.Errorf("%s: the live object has %v", value, data)
		}
	}
}

// Who is not responsible any more writes nothing more.
func TestFencedApplyThatIsLost(t *testing.T) {
	b := newBench(t)
	g := &gate{}
	p := b.plan(application("lost"), fencedManifests)
	p.Progress = func(r deploy.ObjectResult) { g.closed.Store(true) }
	_, err := b.deployer.Apply(fence.With(t.Context(), g), p)
	var lost *fence.LostError
	if !errors.As(err, &lost) {
		t.Fatalf("the error is %v", err)
	}
	list, err := b.client.Mapping(core.ObjectRef{Version: "v1", Kind: "ConfigMap"}.GroupVersionKind())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.In(list, b.namespace).Get(t.Context(), "second", metav1.GetOptions{}); err == nil {
		t.Error("the second was made")
	}
}

// Somebody writes between the look at an object whose fields are to be taken
// over and that: it is looked at again, with a fence and without.
func TestTakeOverWhatIsWrittenMeanwhile(t *testing.T) {
	b := newBench(t)
	maps, err := b.client.For(core.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: b.namespace, Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	byHand := func(patch string) {
		if _, err := maps.Patch(t.Context(), "second", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
			t.Fatal(err)
		}
	}
	p := b.plan(kustomization("taken"), strings.ReplaceAll(fencedManifests, "VALUE", "wanted"))
	b.apply(p)
	byHand(`{"data":{"key":"by-hand"}}`)
	changed := false
	p.Progress = func(r deploy.ObjectResult) {
		if r.Ref.Name == "first" && !changed {
			changed = true
			byHand(`{"metadata":{"annotations":{"example.com/seen":"meanwhile"}}}`)
		}
	}
	if _, err := b.deployer.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	live, err := maps.Get(t.Context(), "second", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := live.Object["data"].(map[string]any); !changed || data["key"] != "wanted" {
		t.Errorf("the live object has %v", data)
	}
}
