package deploy_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/kube"
)

// beforeDelete calls do before each deletion is sent.
type beforeDelete struct {
	http.RoundTripper
	do func()
}

func (b beforeDelete) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodDelete {
		b.do()
	}
	return b.RoundTripper.RoundTrip(r)
}

// What is to be pruned is changed between the look at it and its deletion. What
// controllers write does not save it; that it was applied anew, is another
// one's by now, or is to be kept does.
func TestPruneOfWhatChangesMeanwhile(t *testing.T) {
	for name, c := range map[string]struct {
		patch string
		gone  bool
	}{
		"data":         {`{"data":{"key":"of a controller"}}`, true},
		"annotation":   {`{"metadata":{"annotations":{"deployment.kubernetes.io/revision":"2"}}}`, true},
		"kept":         {`{"metadata":{"annotations":{"argocd.argoproj.io/sync-options":"Prune=false"}}}`, false},
		"another's":    {`{"metadata":{"annotations":{"argocd.argoproj.io/tracking-id":"other:/ConfigMap:x/second"}}}`, false},
		"applied anew": {`{"metadata":{"annotations":{"fairway-cd.io/applied":"by a successor"}}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			maps, err := b.client.For(core.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: b.namespace, Name: "second"})
			if err != nil {
				t.Fatal(err)
			}
			var changes atomic.Int64
			cfg := rest.CopyConfig(cluster.Config)
			cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
				return beforeDelete{next, func() {
					if changes.Add(1) > 1 {
						return
					}
					if _, err := maps.Patch(t.Context(), "second", types.MergePatchType, []byte(c.patch), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
						t.Error(err)
					}
				}}
			})
			client, err := kube.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			owner := application("pruned")
			b.apply(b.plan(owner, strings.ReplaceAll(fencedManifests, "VALUE", "one")))
			first, _, _ := strings.Cut(fencedManifests, "---")
			p := b.plan(owner, first)
			p.Inventory = []core.ObjectRef{{Version: "v1", Kind: "ConfigMap", Namespace: b.namespace, Name: "second"}}
			p.Options.Prune, p.Options.PropagationPolicy = true, "background"
			_, err = deploy.New(client).Apply(t.Context(), p)
			if changes.Load() == 0 {
				t.Fatalf("nothing was deleted: %v", err)
			}
			_, getErr := maps.Get(t.Context(), "second", metav1.GetOptions{})
			if gone := apierrors.IsNotFound(getErr); gone != c.gone || c.gone != (err == nil) {
				t.Errorf("it is gone: %v, want %v; %v", gone, c.gone, err)
			}
			var plan *deploy.PlanError
			if !c.gone && (!errors.As(err, &plan) || plan.Objects[0].Reason != deploy.Conflict) {
				t.Errorf("the error is %v, want a conflict", err)
			}
		})
	}
}
