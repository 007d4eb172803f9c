package controller

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// TestApplicationDelivery reads all that a source can say into the model.
func TestApplicationDelivery(t *testing.T) {
	app, err := readApplication(parse(t, `
metadata: {name: web, namespace: argocd, annotations: {fairway-cd.io/pinned-revision: abc, fairway-cd.io/pinned-by: me}}
spec:
  project: default
  destination: {name: in-cluster, namespace: prod}
  sources:
  - repoURL: https://example.com/a
    path: chart
    targetRevision: 1.*
    helm:
      valueFiles: [values.yaml, $values/prod.yaml]
      parameters: [{name: a, value: "1", forceString: true}]
      values: "ignored: true"
      valuesObject: {image: {tag: v1}}
      skipCrds: true
  - repoURL: https://example.com/values
    ref: values
  - repoURL: https://example.com/k
    path: k
    kustomize:
      images: ["web=quay.io/web:v2", "nginx@sha256:00", "reg:5000/app"]
      replicas: [{name: web, count: "3"}]
      patches: [{patch: "[]", target: {kind: Deployment}}]
  syncPolicy:
    automated: {prune: true, enabled: true}
    syncOptions: [CreateNamespace=true, Validate=false, PrunePropagationPolicy=background, ServerSideApply=true]
    managedNamespaceMetadata: {labels: {team: a}}
  ignoreDifferences: [{group: apps, kind: Deployment, jsonPointers: [/spec/replicas]}]
`))
	if err != nil {
		t.Fatal(err)
	}
	d, err := applicationDelivery(app, capabilities{KubeVersion: "v1.36.0"})
	if err != nil {
		t.Fatal(err)
	}
	o := d.options
	if !o.CreateNamespace || !o.SkipValidate || o.PropagationPolicy != "background" || !o.Prune || o.Namespace != "prod" ||
		o.NamespaceLabels["team"] != "a" || len(o.IgnoreDifferences) != 1 || !o.WaitBetweenWaves {
		t.Errorf("options %+v", o)
	}
	helm := d.sources[0].render.Helm
	if d.sources[0].from.Ref.Revision != "1.*" || helm.Values != `{"image":{"tag":"v1"}}` || helm.ReleaseName != "web" || helm.KubeVersion != "v1.36.0" ||
		len(helm.ValueFiles) != 2 || !helm.Parameters[0].ForceString || !helm.SkipCRDs {
		t.Errorf("helm %+v", helm)
	}
	if s := d.sources[1]; s.render != nil || s.name != "values" {
		t.Errorf("a source of values only: %+v", s)
	}
	k := d.sources[2].render.Kustomize
	want := []render.KustomizeImage{
		{Name: "web", NewName: "quay.io/web", NewTag: "v2"}, {Name: "nginx", Digest: "sha256:00"}, {Name: "reg:5000/app"},
	}
	for i := range want {
		if k.Images[i] != want[i] {
			t.Errorf("image %d is %+v, want %+v", i, k.Images[i], want[i])
		}
	}
	if k.Replicas[0].Count != 3 || k.Patches[0].Target.Kind != "Deployment" {
		t.Errorf("kustomize %+v", k)
	}
	if d.pin.Revision != "abc" || !strings.Contains(d.pin.String(), "by me") {
		t.Errorf("pin %+v", d.pin)
	}
}

// TestApplicationRefuses names each field that is wrong, all at once.
func TestApplicationRefuses(t *testing.T) {
	app, err := readApplication(parse(t, `
metadata: {name: web, namespace: argocd}
spec:
  project: default
  colour: red
  destination: {server: https://kubernetes.default.svc, nmespace: prod}
  sources:
  - {repoURL: https://example.com/a, path: a}
  - {repoURL: https://example.com/a, path: b, plugin: {name: x}, kustomize: {version: v5}}
`))
	for _, want := range []string{`spec.colour: unknown field`, "spec.destination.nmespace: unknown field", "spec.sources[1].plugin: ", "spec.sources[1].kustomize.version: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	app.Spec = argo.ApplicationSpec{
		Source:      &argo.ApplicationSource{Path: "/etc", Chart: "c", Helm: &argo.SourceHelm{Version: "v2"}, Kustomize: &argo.SourceKustomize{}},
		Destination: argo.ApplicationDestination{Server: "https://elsewhere", Name: "elsewhere"},
		SyncPolicy:  &argo.SyncPolicy{SyncOptions: []string{"Nonsense", "Replace=perhaps"}},
	}
	_, err = applicationDelivery(app, capabilities{})
	var refused *SpecError
	if !errors.As(err, &refused) {
		t.Fatalf("%v is no SpecError", err)
	}
	for _, want := range []string{"spec.source.repoURL", "spec.source: path and chart", "only one of", "spec.destination: server and name", "syncOptions[0]", "syncOptions[1]"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

func TestHealBackoff(t *testing.T) {
	h, at := &healBackoff{}, time.Unix(0, 0)
	for i, want := range []time.Duration{0, 2, 6, 18, 54, 162, 300, 300} {
		want *= time.Second
		if got := h.drifted(at); got != want {
			t.Fatalf("heal %d waits %s, want %s", i, got, want)
		}
		at = at.Add(want)
		h.healed(at)
		h.synced(at) // for no time at all
	}
	if got := h.drifted(at.Add(healForget)); got != 0 {
		t.Errorf("after a second in sync a heal waits %s", got)
	}
}

func TestRetryPause(t *testing.T) {
	factor := int64(3)
	r := argo.RetryStrategy{Backoff: &argo.Backoff{Duration: "1s", Factor: &factor, MaxDuration: "10"}}
	for n, want := range map[int64]time.Duration{1: time.Second, 2: 3 * time.Second, 3: 9 * time.Second, 4: 10 * time.Second, 90: 10 * time.Second} {
		if got := retryPause(r, n); got != want {
			t.Errorf("retry %d after %s, want %s", n, got, want)
		}
	}
	huge := int64(math.MaxInt64 / 3)
	r.Backoff.Factor = &huge
	for n, want := range map[int64]time.Duration{1: time.Second, 2: 10 * time.Second, 64: 10 * time.Second} {
		if got := retryPause(r, n); got != want {
			t.Errorf("with a huge factor retry %d after %s, want %s", n, got, want)
		}
	}
	if got := retryPause(argo.RetryStrategy{}, 2); got != 10*time.Second {
		t.Errorf("default: %s", got)
	}
}

func TestProjectPermits(t *testing.T) {
	p := &argo.AppProject{Spec: argo.AppProjectSpec{
		SourceRepos:  []string{"https://github.com/myorg/*", "!https://github.com/myorg/secret"},
		Destinations: []argo.ApplicationDestination{{Server: "*", Namespace: "team-*"}, {Server: "*", Namespace: "!team-x"}},
	}}
	for url, want := range map[string]bool{
		"https://github.com/myorg/web.git": true, "https://github.com/myorg/secret": false, "https://github.com/other/web": false,
	} {
		if got := permitsSource(p, []string{normalURL(url)}); got != want {
			t.Errorf("source %s: %v", url, got)
		}
	}
	for _, c := range []struct {
		patterns []string
		want     bool
	}{{[]string{"*"}, true}, {[]string{"*", "!https://github.com/myorg/secret"}, false}, {[]string{"https://*"}, false}} {
		if got := permitsSource(&argo.AppProject{Spec: argo.AppProjectSpec{SourceRepos: c.patterns}}, nil); got != c.want {
			t.Errorf("what has no name is permitted by %q: %v", c.patterns, got)
		}
	}
	for ns, want := range map[string]bool{"team-a": true, "team-x": false, "kube-system": false} {
		if got := destinationProblem(p, home.destination(ns)) == ""; got != want {
			t.Errorf("namespace %s: %v", ns, got)
		}
	}
	if clusterKindPermitted(p, core.ObjectRef{Kind: "Namespace"}) {
		t.Error("cluster-scoped kinds are denied by default")
	}
}

func TestIndex(t *testing.T) {
	x := newIndex()
	a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Name: "b"}
	x.set(a, "one", "two")
	x.set(b, "two")
	if got := x.of("two"); len(got) != 2 {
		t.Errorf("two: %v", got)
	}
	x.set(a, "three")
	if got := x.of("two"); len(got) != 1 || got[0] != b {
		t.Errorf("two after the change: %v", got)
	}
	x.set(b)
	if got := x.on(func(string) bool { return true }); len(got) != 1 || got[0] != a {
		t.Errorf("all: %v", got)
	}
}

func TestWakerKeepsReasons(t *testing.T) {
	w, key := newWaker(), types.NamespacedName{Name: "a"}
	w.wake(key, drifted)
	w.wake(key, sourceMoved)
	if got := w.peek(key); got != drifted|sourceMoved {
		t.Errorf("peek: %b", got)
	}
	if got := w.take(key); got != drifted|sourceMoved {
		t.Errorf("take: %b", got)
	}
	if got := w.take(key); got != timerFired {
		t.Errorf("nothing noted is the timer's: %b", got)
	}
}

func FuzzInventoryID(f *testing.F) {
	for _, id := range []string{"ns_name_apps_Deployment", "_cluster__ClusterRole", "_system__controller__x_rbac.authorization.k8s.io_ClusterRole", "", "____", "a_b"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		ref, ok := parseInventoryID(id, "v1")
		if !ok {
			return
		}
		if ref.Kind == "" || ref.Name == "" {
			t.Fatalf("%q is read as %+v", id, ref)
		}
		again, ok := parseInventoryID(inventoryID(ref), "v1")
		if !ok || again != ref {
			t.Fatalf("%q is read as %+v, written and read again as %+v", id, ref, again)
		}
	})
}

func FuzzReadApplication(f *testing.F) {
	f.Add([]byte(`{"spec":{"source":{"repoURL":"x","path":"a"},"destination":{"name":"in-cluster"}}}`))
	f.Add([]byte(`{"spec":{"sources":[{"kustomize":{"images":["=@:"],"replicas":[{"count":{}}]}}],"syncPolicy":{"syncOptions":["="]}},"operation":{"sync":[]}}`))
	f.Add([]byte(`{"metadata":1,"spec":"no","status":[],"operation":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		u := &unstructured.Unstructured{}
		if json.Unmarshal(data, &u.Object) != nil || u.Object == nil {
			return
		}
		app, err := readApplication(u)
		if err != nil {
			return
		}
		// Whatever was read is a delivery, or is refused by name.
		_, err = applicationDelivery(app, capabilities{})
		var refused *SpecError
		if err != nil && (!errors.As(err, &refused) || len(refused.Fields) == 0) {
			t.Fatalf("%v", err)
		}
	})
}

func FuzzKustomizeImage(f *testing.F) {
	for _, s := range []string{"a", "a:b", "a@b", "a=b:c", "r:5000/a", "a=*:x", "=", "@", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		i := parseKustomizeImage(s)
		if i.NewTag != "" && i.Digest != "" {
			t.Fatalf("%q has both a tag and a digest: %+v", s, i)
		}
	})
}

// TestSourceErrorHidesThePassword: an address may have a password in it, and
// conditions are read by more people than the spec's author.
func TestSourceErrorHidesThePassword(t *testing.T) {
	err := &sourceError{URL: "https://ada:secret@example.com/x.git", Err: errors.New("no")}
	if got := err.Error(); strings.Contains(got, "secret") || !strings.Contains(got, "example.com/x.git at HEAD: no") {
		t.Errorf("says %q", got)
	}
}
