package deploy_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/testkit"
)

var cluster *testkit.Cluster

// TestMain starts a cluster, but not for fuzzing, which needs none and would
// start one in each of its workers.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run())
	}
	testkit.RunWithCluster(m, &cluster, testkit.ClusterOptions{})
}

// bench is what a test works with: a deployer, and a namespace of its own.
type bench struct {
	*testing.T
	client    *kube.Client
	deployer  *deploy.Cluster
	namespace string
	// operations counts those that were begun.
	operations int
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if cluster == nil {
		t.Skip("there is no cluster while fuzzing")
	}
	client, err := kube.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{T: t, client: client, deployer: deploy.New(client), namespace: cluster.Namespace(t)}
}

func application(name string) core.Owner {
	return core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: name}
}

func kustomization(name string) core.Owner {
	return core.Owner{Dialect: core.Flux, Kind: "Kustomization", Namespace: "flux-system", Name: name}
}

// plan is of manifests in the bench's namespace.
func (b *bench) plan(owner core.Owner, manifests string) deploy.Plan {
	b.Helper()
	return deploy.Plan{Owner: owner, Objects: objects(b, manifests), Options: deploy.Options{Namespace: b.namespace}}
}

func (b *bench) apply(p deploy.Plan) *deploy.Outcome {
	b.Helper()
	out, err := b.finish(p)
	if err != nil {
		b.Fatalf("apply: %v", err)
	}
	return out
}

// finish applies a plan to its end: where it waits it is resumed, as a
// controller does.
func (b *bench) finish(p deploy.Plan) (*deploy.Outcome, error) {
	b.Helper()
	if p.Hooks == nil {
		b.operations++
		p.Hooks = &deploy.HookLog{Operation: fmt.Sprint(b.operations), Started: time.Now()}
	}
	keep(p.Hooks)
	var before []deploy.ObjectResult
	return b.resumed(func() (*deploy.Outcome, error) {
		out, err := b.deployer.Apply(b.Context(), p)
		out.After(before)
		before, p.Inventory, p.Resumed = out.Results, out.Inventory, true
		p.Hooks.Failure = begun(p.Hooks, out, err)
		return out, err
	})
}

// delete does so with a deletion.
func (b *bench) delete(d deploy.Deletion) (*deploy.Outcome, error) {
	b.Helper()
	if d.Log == nil {
		d.Log = &deploy.HookLog{Operation: "delete"}
	}
	keep(d.Log)
	var before []deploy.ObjectResult
	return b.resumed(func() (*deploy.Outcome, error) {
		out, err := b.deployer.Delete(b.Context(), d)
		out.After(before)
		before, d.Inventory = out.Results, out.Inventory
		begun(d.Log, out, err)
		return out, err
	})
}

// resumed calls f until it waits no more.
func (b *bench) resumed(f func() (*deploy.Outcome, error)) (*deploy.Outcome, error) {
	b.Helper()
	for end := time.Now().Add(waitLimit); ; time.Sleep(20 * time.Millisecond) {
		out, err := f()
		var waiting *deploy.WaitingError
		if !errors.As(err, &waiting) {
			return out, err
		}
		if time.Now().After(end) {
			b.Fatalf("it still is %v", err)
		}
	}
}

// keep has the log keep what it is told.
func keep(l *deploy.HookLog) {
	var mu sync.Mutex
	done, note := map[deploy.HookRun]error{}, l.Note
	maps.Copy(done, l.Done)
	l.Done, l.Begun = done, map[deploy.HookRun]bool{}
	l.Note = func(ctx context.Context, r deploy.HookRun, failure error) error {
		mu.Lock()
		defer mu.Unlock()
		done[r] = failure
		if note == nil {
			return nil
		}
		return note(ctx, r, failure)
	}
}

// begun notes the hooks that run, and returns why the operation has failed
// already.
func begun(l *deploy.HookLog, out *deploy.Outcome, err error) error {
	for _, r := range out.Results {
		if r.Hook != "" && r.Action == deploy.Created {
			l.Begun[deploy.HookRun{Ref: r.Ref.Key(), Phase: r.Hook}] = true
		}
	}
	var waiting *deploy.WaitingError
	if errors.As(err, &waiting) {
		return waiting.Failure
	}
	return nil
}

// live returns an object of the bench's namespace, or nil.
func (b *bench) live(kind, name string) *unstructured.Unstructured {
	b.Helper()
	ref := core.ObjectRef{Version: "v1", Kind: kind, Namespace: b.namespace, Name: name}
	switch kind {
	case "Deployment", "StatefulSet":
		ref.Group = "apps"
	case "Job":
		ref.Group = "batch"
	}
	res, err := b.client.For(ref)
	if err != nil {
		b.Fatal(err)
	}
	obj, err := res.Get(b.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		b.Fatal(err)
	}
	return obj
}

// field returns what stands at the path of an object, as text; "" is nothing.
func field(obj *unstructured.Unstructured, path ...string) string {
	if obj == nil {
		return ""
	}
	v, ok, err := unstructured.NestedFieldNoCopy(obj.Object, path...)
	if !ok || err != nil {
		return ""
	}
	b, _ := yaml.Marshal(v)
	return strings.TrimSpace(string(b))
}

func objects(t testing.TB, manifests string) []*unstructured.Unstructured {
	t.Helper()
	var objs []*unstructured.Unstructured
	for _, doc := range strings.Split(manifests, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		j, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(j); err != nil {
			t.Fatal(err)
		}
		objs = append(objs, obj)
	}
	return objs
}

// actions are the results as "ACTION KIND NAME", in their order.
func actions(out *deploy.Outcome) []string {
	var list []string
	for _, r := range out.Results {
		list = append(list, string(r.Action)+" "+r.Ref.Kind+" "+r.Ref.Name)
	}
	return list
}

func expect(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func configMap(name, value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {key: " + value + "}"
}

// edit changes an object as somebody else does, with kubectl edit.
func (b *bench) edit(kind, name string, change func(*unstructured.Unstructured)) {
	b.Helper()
	obj := b.live(kind, name)
	change(obj)
	gvk := obj.GroupVersionKind()
	res, err := b.client.For(core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: kind, Namespace: b.namespace, Name: name})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := res.Update(b.Context(), obj, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
		b.Fatal(err)
	}
}
