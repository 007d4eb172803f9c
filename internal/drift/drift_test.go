package drift_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
	"github.com/fairway-cd/fairway/internal/testkit"
)

var cluster *testkit.Cluster

func TestMain(m *testing.M) { testkit.RunWithCluster(m, &cluster, testkit.ClusterOptions{}) }

var owner = core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: "shop"}

// bench is a watcher that runs, and a deployer that gives it work.
type bench struct {
	testing.TB
	client    *kube.Client
	deployer  *deploy.Cluster
	watcher   *drift.Cluster
	namespace string
	owner     core.Owner
}

func newBench(t testing.TB, opts ...drift.Option) *bench {
	t.Helper()
	client, err := kube.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{TB: t, client: client, watcher: drift.New(client, opts...), namespace: cluster.Namespace(t), owner: owner}
	b.owner.Name = b.namespace // an owner of its own
	b.deployer = deploy.New(client, deploy.WithAnswered(b.watcher.Observe))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.watcher.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the watcher ended with %v", err)
		}
	})
	return b
}

func (b *bench) plan(owner core.Owner, manifests ...string) deploy.Plan {
	b.Helper()
	p := deploy.Plan{Owner: owner, Options: deploy.Options{Namespace: b.namespace}, Known: b.watcher.Known(owner)}
	for _, m := range manifests {
		j, err := yaml.YAMLToJSON([]byte(m))
		if err != nil {
			b.Fatal(err)
		}
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(j); err != nil {
			b.Fatal(err)
		}
		p.Objects = append(p.Objects, obj)
	}
	return p
}

// deliver applies a plan as a controller does.
func (b *bench) deliver(p deploy.Plan) *deploy.Outcome {
	b.Helper()
	out, err := b.deployer.Apply(b.Context(), p)
	if err != nil {
		b.Fatal(err)
	}
	b.watcher.Expect(p.Owner, out.Inventory)
	return out
}

// until waits for the owner's states to be as wanted, by Changes alone.
func (b *bench) until(owner core.Owner, what string, ok func([]drift.ObjectState) bool) {
	b.Helper()
	timeout := time.After(time.Minute)
	for !ok(b.watcher.State(owner)) {
		select {
		case <-b.watcher.Changes():
		case <-timeout:
			b.Fatalf("waiting for %s: %+v", what, b.watcher.State(owner))
		}
	}
}

// seen waits until all of the owner's objects are known, which is not
// announced where all is well.
func (b *bench) seen(owner core.Owner, n int) {
	b.Helper()
	testkit.Eventually(b, "the watch to be there", func() error {
		states := b.watcher.State(owner)
		if len(states) != n {
			return fmt.Errorf("%d objects are known", len(states))
		}
		for _, s := range states {
			if s.Drift != drift.None {
				return fmt.Errorf("%s is %s by %s", s.Ref, s.Drift, s.By)
			}
		}
		return nil
	})
}

func (b *bench) patch(group, kind, name, manager, patch string, sub ...string) {
	b.Helper()
	res, err := b.client.For(core.ObjectRef{Group: group, Version: "v1", Kind: kind, Namespace: b.namespace, Name: name})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := res.Patch(b.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: manager}, sub...); err != nil {
		b.Fatal(err)
	}
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {key: value}"
}

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example.com/web:1", ports: [{containerPort: 80}]}]}`

func is(d drift.Drift, by string) func([]drift.ObjectState) bool {
	return func(states []drift.ObjectState) bool {
		return len(states) == 1 && states[0].Drift == d && states[0].By == by
	}
}

func TestScaledByHand(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.owner, web)
	b.deliver(p)
	b.until(b.owner, "the pods", func(s []drift.ObjectState) bool { return len(s) == 1 && s[0].Health == core.Healthy })
	b.patch("apps", "Deployment", "web", "kubectl", `{"spec":{"replicas":5}}`, "scale")
	b.until(b.owner, "the drift", is(drift.Modified, "kubectl"))
	p.Only = []core.ObjectRef{b.watcher.State(b.owner)[0].Ref}
	if out := b.deliver(p); out.Results[0].Action != deploy.Configured {
		t.Errorf("the heal was %s", out.Results[0].Action)
	}
	if s := b.watcher.State(b.owner); s[0].Drift != drift.None {
		t.Errorf("right after the heal it is %s by %s", s[0].Drift, s[0].By)
	}
}

func TestWhatIsNoDrift(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.owner, web)
	b.deliver(p)
	b.seen(b.owner, 1)
	b.patch("apps", "Deployment", "web", "somebody", `{"metadata":{"annotations":{"theirs":"yes"}},"spec":{"minReadySeconds":3}}`)
	b.patch("apps", "Deployment", "web", "somebody", `{"status":{"collisionCount":7}}`, "status")
	// The watch shows things in their order: once it shows this, it has shown
	// what was before.
	marker := b.owner
	marker.Name += "-marker"
	other := strings.ReplaceAll(web, "web", "marker")
	b.deliver(b.plan(marker, other))
	b.patch("apps", "Deployment", "marker", "last", `{"spec":{"replicas":3}}`)
	b.until(marker, "the marker", is(drift.Modified, "last"))
	if s := b.watcher.State(b.owner)[0]; s.Drift != drift.None {
		t.Errorf("it is %s by %s", s.Drift, s.By)
	}
}

func TestDeletedAndMadeAnew(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.owner, configMap("m"))
	b.deliver(p)
	b.seen(b.owner, 1)
	if err := cluster.Client.CoreV1().ConfigMaps(b.namespace).Delete(t.Context(), "m", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	b.until(b.owner, "the deletion", is(drift.Deleted, ""))
	if out := b.deliver(p); out.Results[0].Action != deploy.Created {
		t.Errorf("the heal was %s", out.Results[0].Action)
	}
	b.seen(b.owner, 1)
}

func TestLabelRemoved(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.owner, configMap("m"))
	b.deliver(p)
	b.seen(b.owner, 1)
	b.patch("", "ConfigMap", "m", "kubectl-label", `{"metadata":{"labels":{"`+mark.LabelManaged+`":null}}}`)
	// Who only removes something owns nothing, so nobody knows who it was.
	b.until(b.owner, "the drift", is(drift.Modified, ""))
	b.deliver(p)
	b.seen(b.owner, 1)
}

func TestTakenByAnother(t *testing.T) {
	b := newBench(t)
	first := core.Owner{Dialect: core.Flux, Kind: "Kustomization", Namespace: "flux-system", Name: "first-" + b.namespace}
	second := first
	second.Name = "second-" + b.namespace
	b.deliver(b.plan(first, configMap("m")))
	b.seen(first, 1)
	b.deliver(b.plan(second, configMap("m")))
	b.until(first, "the loss", func(s []drift.ObjectState) bool { return s[0].TakenBy != nil && *s[0].TakenBy == second })
	if s := b.watcher.State(first)[0]; s.Drift != drift.None {
		t.Errorf("what another took is drift %s", s.Drift)
	}
	if _, ok := b.watcher.Known(first)(b.watcher.State(first)[0].Ref); ok {
		t.Error("what another took is known as the first one's")
	}
}

func TestKubectlUnderFlux(t *testing.T) {
	b := newBench(t)
	flux := core.Owner{Dialect: core.Flux, Kind: "Kustomization", Namespace: "flux-system", Name: "f-" + b.namespace}
	p := b.plan(flux, configMap("m"))
	b.deliver(p)
	b.seen(flux, 1)
	// A field that was never in Git: Flux undoes what kubectl did.
	b.patch("", "ConfigMap", "m", "kubectl-edit", `{"data":{"more":"x"}}`)
	b.until(flux, "the drift", is(drift.Modified, "kubectl-edit"))
	b.deliver(p)
	b.seen(flux, 1)
	m, err := cluster.Client.CoreV1().ConfigMaps(b.namespace).Get(t.Context(), "m", metav1.GetOptions{})
	if err != nil || len(m.Data) != 1 {
		t.Errorf("data is %v, %v", m.Data, err)
	}
}

// An object without drift costs no API call, after a restart too.
func TestKnownCostsNothing(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.owner, configMap("m"), web)
	out := b.deliver(p)
	again := newBench(t) // another process
	again.watcher.Expect(b.owner, out.Inventory)
	again.seen(b.owner, 2)
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
	again.deployer = deploy.New(client)
	again.deliver(p) // it looks up the kinds
	asked := calls.Load()
	p.Known = again.watcher.Known(b.owner)
	for _, r := range again.deliver(p).Results {
		if r.Action != deploy.Unchanged || r.Live != nil {
			t.Errorf("%s was %s, live %v", r.Ref, r.Action, r.Live != nil)
		}
	}
	c, err := again.deployer.Compare(t.Context(), p)
	if err != nil || !c.InSync {
		t.Errorf("the comparison is %+v, %v", c, err)
	}
	if n := calls.Load() - asked; n != 0 {
		t.Errorf("it cost %d API calls", n)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestChangesWhileNobodyWatched(t *testing.T) {
	b := newBench(t)
	out := b.deliver(b.plan(b.owner, configMap("m"), configMap("gone")))
	b.patch("", "ConfigMap", "m", "somebody", `{"data":{"key":"theirs"}}`)
	if err := cluster.Client.CoreV1().ConfigMaps(b.namespace).Delete(t.Context(), "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	again := newBench(t)
	again.watcher.Expect(b.owner, out.Inventory)
	again.until(b.owner, "what happened meanwhile", func(s []drift.ObjectState) bool {
		return len(s) == 2 && s[0].Drift == drift.Deleted && s[1].Drift == drift.Modified
	})
	again.watcher.Forget(b.owner)
	if s := again.watcher.State(b.owner); len(s) != 0 {
		t.Errorf("what is forgotten has a state: %v", s)
	}
}

func TestAnApplyIsNeverDrift(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.owner, configMap("m"), web)
	b.deliver(p)
	b.seen(b.owner, 2)
	ctx, cancel := context.WithCancel(t.Context())
	found := make(chan error, 1)
	go func() {
		defer close(found)
		for ctx.Err() == nil {
			for _, s := range b.watcher.State(b.owner) {
				if s.Drift != drift.None {
					found <- fmt.Errorf("%s is %s by %q", s.Ref, s.Drift, s.By)
					return
				}
			}
		}
	}()
	for i := range 20 {
		for _, o := range p.Objects {
			_ = unstructured.SetNestedField(o.Object, fmt.Sprint(i), "metadata", "annotations", "try")
			if o.GetKind() == "Deployment" {
				_ = unstructured.SetNestedField(o.Object, int64(i%4), "spec", "replicas")
			}
		}
		b.deliver(p)
	}
	cancel()
	if err := <-found; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWhatTheWatchMissed(t *testing.T) {
	missed := make(chan core.ObjectRef, 100)
	b := newBench(t, drift.WithGrace(time.Millisecond), drift.WithResync(20*time.Millisecond), drift.WithMissed(func(ref core.ObjectRef) { missed <- ref }))
	b.deliver(b.plan(b.owner, configMap("m")))
	b.seen(b.owner, 1)
	b.patch("", "ConfigMap", "m", "somebody", `{"data":{"key":"theirs"}}`)
	b.until(b.owner, "the drift", is(drift.Modified, "somebody"))
	ref := b.watcher.State(b.owner)[0].Ref
	for len(missed) > 0 { // what was shown within less than the grace
		<-missed
	}
	b.watcher.Forgetful(ref)
	b.until(b.owner, "the drift that was missed", is(drift.Modified, "somebody"))
	if got := <-missed; got != ref.Key() {
		t.Errorf("missed is %s", got)
	}
}

// An object that is not there is found out once, however often it is expected:
// a delivery that fails expects the same again and again, and would be woken
// by its own failure for ever.
func TestWhatIsNotThereIsFoundOutOnce(t *testing.T) {
	b := newBench(t)
	ghost := []core.ObjectRef{{Version: "v1", Kind: "ConfigMap", Namespace: b.namespace, Name: "ghost"}}
	b.watcher.Expect(b.owner, ghost)
	gone := func(s []drift.ObjectState) bool { return len(s) == 1 && s[0].Drift == drift.Deleted }
	b.until(b.owner, "the ghost is known not to be there", gone)
	for range 3 {
		b.watcher.Expect(b.owner, ghost)
		if s := b.watcher.State(b.owner); !gone(s) {
			t.Fatalf("it is to be found out again: %v", s)
		}
	}
}
