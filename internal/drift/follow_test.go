package drift_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/kube"
)

// followed waits for what the owner follows to be as wanted, by Changes alone.
func (b *bench) followed(owner core.Owner, what string, ok func([]drift.ObjectState) bool) {
	b.Helper()
	timeout := time.After(time.Minute)
	for !ok(b.watcher.Followed(owner)) {
		select {
		case <-b.watcher.Changes():
		case <-timeout:
			b.Fatalf("waiting for %s: %+v", what, b.watcher.Followed(owner))
		}
	}
}

// TestFollow: an object that nobody manages is seen to be missing, to come, to
// become healthy and to go, by the rules of who follows it.
func TestFollow(t *testing.T) {
	b := newBench(t)
	flux := core.Owner{Dialect: core.Flux, Kind: "Kustomization", Namespace: b.namespace, Name: "follower"}
	pod := core.ObjectRef{Version: "v1", Kind: "Pod", Namespace: b.namespace, Name: "p"}
	other := core.ObjectRef{Version: "v1", Kind: "ConfigMap", Namespace: b.namespace, Name: "m"}
	health := func(want ...core.Health) func([]drift.ObjectState) bool {
		return func(states []drift.ObjectState) bool {
			if len(states) != len(want) {
				return false
			}
			for i, s := range states {
				if s.Health != want[i] || (s.Drift == drift.Deleted) != (want[i] == core.Missing) {
					return false
				}
			}
			return true
		}
	}
	b.watcher.Follow(flux, []core.ObjectRef{pod, other})
	b.followed(flux, "both to be missing", health(core.Missing, core.Missing))
	// Neither label nor tracking is asked for.
	res, err := b.client.For(pod)
	if err != nil {
		t.Fatal(err)
	}
	obj := b.plan(owner, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}").Objects[0]
	if _, err := res.Create(t.Context(), obj, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.followed(flux, "the Pod to run", health(core.Healthy, core.Missing))
	// What is followed still keeps its place; what is not ends.
	b.watcher.Follow(flux, []core.ObjectRef{pod})
	b.followed(flux, "the Pod alone", health(core.Healthy))
	zero := int64(0)
	if err := res.Delete(t.Context(), "p", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	b.followed(flux, "the end of the Pod", health(core.Missing))
	b.watcher.Forget(flux)
	if states := b.watcher.Followed(flux); len(states) != 0 {
		t.Errorf("after Forget: %v", states)
	}
}

// TestAnnouncedWhenSeen: an owner is told when what it expects comes into view
// for the first time, well as it may be: it may be waiting for just that.
func TestAnnouncedWhenSeen(t *testing.T) {
	b := newBench(t)
	b.deployer = deploy.New(b.client) // so that nothing but the watch shows it
	b.deliver(b.plan(b.owner, configMap("m")))
	b.until(b.owner, "the object", func(s []drift.ObjectState) bool { return len(s) == 1 && s[0].Health == core.Healthy })
}

// TestResumedCostsNothing: an apply that waits between waves, and is resumed
// before what it waits for has come, asks the cluster for nothing.
func TestResumedCostsNothing(t *testing.T) {
	b := newBench(t)
	var calls atomic.Int64
	counted := rest.CopyConfig(cluster.Config)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			calls.Add(1)
			return next.RoundTrip(r)
		})
	})
	client, err := kube.New(counted)
	if err != nil {
		t.Fatal(err)
	}
	b.deployer = deploy.New(client, deploy.WithAnswered(b.watcher.Observe))
	p := b.plan(b.owner, configMap("first"),
		"apiVersion: v1\nkind: Pod\nmetadata: {name: never}\nspec: {schedulingGates: [{name: example.com/hold}], containers: [{name: c, image: i}]}",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: second, annotations: {argocd.argoproj.io/sync-wave: '1'}}")
	p.Options.WaitBetweenWaves, p.Options.CreateNamespace = true, true
	waits := func() *deploy.Outcome {
		t.Helper()
		out, err := b.deployer.Apply(t.Context(), p)
		var waiting *deploy.WaitingError
		if !errors.As(err, &waiting) || len(waiting.Objects) != 1 || waiting.Objects[0].Ref.Name != "never" {
			t.Fatalf("error is %v", err)
		}
		return out
	}
	out := waits()
	b.watcher.Expect(b.owner, out.Inventory)
	p.Inventory, p.Resumed = out.Inventory, true
	asked := calls.Load()
	for range 3 {
		waits()
	}
	if n := calls.Load() - asked; n != 0 {
		t.Errorf("it cost %d API calls", n)
	}
}
