package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/api"
	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/fleet"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/kube/dense"
	"github.com/fairway-cd/fairway/internal/release"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/secrets/sealed"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// cluster is the package's real API server.
var cluster *testkit.Cluster

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	if os.Getenv("FAIRWAY_TEST_LOG") != "" {
		ctrl.SetLogger(logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})))
	}
	testkit.RunWithCluster(m, &cluster, testkit.ClusterOptions{})
}

// everyone may do everything: who may push is tested elsewhere.
type everyone struct{}

func (everyone) Authenticate(*http.Request) (core.User, error) { return core.User{Name: "alice"}, nil }
func (everyone) Authorize(_ context.Context, u core.User, a core.Action) error {
	if u.Name == "mallory" {
		return &core.ForbiddenError{User: u.Name, Action: a}
	}
	return nil
}

// house is the engine with all its real parts: a Git server, the renderer, the
// deployer and the drift watch, on the package's cluster.
type house struct {
	t      testing.TB
	ctx    context.Context
	kube   client.Client
	store  *git.Store
	url    string
	engine *Engine
	lost   atomic.Value // storeSources'
	stop   func()
}

// storeSources are Sources over a git.Store, as package app has them.
type storeSources struct {
	store *git.Store
	packages
	// gone is a repository that cannot be read for now, by the end of its URL.
	gone *atomic.Value
}

func (s storeSources) Resolve(ctx context.Context, r SourceRequest) (core.Snapshot, error) {
	if gone, _ := s.gone.Load().(string); gone != "" && strings.HasSuffix(r.URL, gone) {
		return core.Snapshot{}, errors.New("the repository cannot be read")
	}
	if r.Chart != "" {
		return s.chart(ctx, r)
	}
	if strings.HasPrefix(r.URL, "oci://") {
		return s.Artifact(ctx, ArtifactRequest{URL: r.URL, Digest: r.Ref.Revision, MediaType: r.Layer.MediaType, Copy: r.Layer.Copy, Auth: r.Auth})
	}
	return s.store.Resolve(ctx, r.URL, git.Ref(r.Ref), git.Auth{Username: r.Auth.Username, Password: r.Auth.Password})
}

func (s storeSources) Embedded(url string) (core.Name, bool) {
	l, err := s.store.Locate(url)
	return l.Repository, err == nil && l.Embedded()
}

func (s storeSources) Names(url string) []string { return s.store.Names(url) }

func (s storeSources) Same(url string, u core.RefUpdate) bool {
	l, err := s.store.Locate(url)
	return err == nil && l.Embedded() && l.Repository == u.Repository
}

type storeCommits struct{ store *git.Store }

func testScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, argo.AddToScheme, flux.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// newHouse starts the engine over a Git directory, which is made where it is
// empty.
func newHouse(t testing.TB, with ...func(*Options)) *house {
	t.Helper()
	h := startHouse(t, t.TempDir(), with...)
	t.Cleanup(func() { h.stop() })
	return h
}

func startHouse(t testing.TB, dir string, with ...func(*Options)) *house {
	t.Helper()
	if _, err := api.Install(t.Context(), cluster.Config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &house{t: t, ctx: ctx}
	var engine *Engine
	ready := make(chan struct{})
	store, err := git.Open(dir, git.Options{Logger: slog.New(slog.DiscardHandler), Deliver: func(_ context.Context, u core.RefUpdate) error {
		<-ready
		engine.RefUpdated(u)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/git/", store.Handler(everyone{}))
	server := httptest.NewServer(mux)
	store.SetBases(server.URL + "/git/")
	h.store, h.url = store, server.URL+"/git/"

	// The name that the program has; client-go makes a field manager of it.
	config := rest.CopyConfig(cluster.Config)
	config.UserAgent = "fairway/test"
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: testScheme(t), Metrics: metricsserver.Options{BindAddress: "0"}, NewCache: dense.NewCache})
	if err != nil {
		t.Fatal(err)
	}
	k, err := kube.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	rules := &health.Owners{}
	watcher := drift.New(k, drift.WithHealth(rules.Of))
	releases, err := release.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	deployer := deploy.New(k, deploy.WithAnswered(watcher.Observe), deploy.WithHealth(rules.Of))
	clusters := fleet.New(&fleet.Parts{Client: k, Deployer: deployer, Watcher: watcher, Releases: releases}, fleet.Opener(k, rules.Of, nil))
	sources := storeSources{store, newPackages(), &h.lost}
	stages := Stages{
		Sources: sources, Packages: sources, Releases: releases, Renderer: render.NewEngine(render.Limits{}),
		Deployer: clusters, Watcher: clusters, Fleet: clusters, Health: rules,
		Commits: storeCommits{store}, Access: everyone{},
		Fill: sealed.FillBy(func(ctx context.Context, _ string, input []byte) ([]byte, error) {
			return sealed.RunProgram(ctx, input)
		}),
	}
	options := Options{Poll: time.Hour}
	for _, set := range with {
		set(&options)
	}
	if engine, err = Setup(mgr, stages, options); err != nil {
		t.Fatal(err)
	}
	h.engine = engine
	close(ready)
	done := make(chan struct{}, 2)
	go func() { _ = store.Run(ctx); done <- struct{}{} }()
	go func() {
		if err := mgr.Start(ctx); err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		done <- struct{}{}
	}()
	if h.kube, err = client.New(cluster.Config, client.Options{Scheme: testScheme(t)}); err != nil {
		t.Fatal(err)
	}
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		server.Close()
		cancel()
		<-done
		<-done
		store.Close()
	}
	return h
}

// repo makes an embedded repository with the files, and a work tree that
// pushes to it.
func (h *house) repo(name string, files map[string]string) *testkit.Repo {
	h.t.Helper()
	r := testkit.GitRepo(h.t)
	r.Git("remote", "add", "origin", h.url+name+".git")
	h.push(r, files)
	return r
}

// in is the house for a subtest.
func (h *house) in(t testing.TB) *house {
	return &house{t: t, ctx: h.ctx, kube: h.kube, store: h.store, url: h.url, engine: h.engine, stop: h.stop}
}

// push commits the files and pushes; the hash is returned.
func (h *house) push(r *testkit.Repo, files map[string]string) string {
	h.t.Helper()
	commit := r.Commit("change", files)
	r.Git("push", "-q", "origin", "HEAD:main")
	return commit
}

// apply creates or replaces the objects of the YAML text.
func (h *house) apply(text string) []*unstructured.Unstructured {
	h.t.Helper()
	var out []*unstructured.Unstructured
	for _, doc := range strings.Split(text, "\n---\n") {
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &u.Object); err != nil {
			h.t.Fatalf("%v in\n%s", err, doc)
		}
		if len(u.Object) == 0 {
			continue
		}
		if err := h.kube.Patch(h.t.Context(), u, client.Apply, client.FieldOwner("test"), client.ForceOwnership); err != nil { //nolint:staticcheck // one call for any kind
			h.t.Fatalf("%v in\n%s", err, doc)
		}
		out = append(out, u)
	}
	return out
}

// namespace makes the namespace for a test.
func (h *house) namespace(name string) {
	h.t.Helper()
	h.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + name + "}\n")
}

// delete deletes the object and waits until it is gone.
func (h *house) delete(obj client.Object) {
	h.t.Helper()
	if err := h.kube.Delete(h.t.Context(), obj); client.IgnoreNotFound(err) != nil {
		h.t.Fatal(err)
	}
	key := client.ObjectKeyFromObject(obj)
	testkit.Eventually(h.t, "deletion of "+key.String(), func() error {
		err := h.kube.Get(h.t.Context(), key, obj)
		if err == nil {
			return fmt.Errorf("still there: %v", obj.GetFinalizers())
		}
		return client.IgnoreNotFound(err)
	})
}

// app reads an Application.
func (h *house) app(name string) (*argo.Application, error) {
	a := &argo.Application{}
	err := h.kube.Get(h.t.Context(), types.NamespacedName{Namespace: "argocd", Name: name}, a)
	return a, err
}

// waitApp waits until the Application is as check wants it.
func (h *house) waitApp(name, what string, check func(*argo.Application) bool) *argo.Application {
	h.t.Helper()
	var last *argo.Application
	testkit.Eventually(h.t, "Application "+name+" "+what, func() error {
		a, err := h.app(name)
		if err != nil {
			return err
		}
		last = a
		if !check(a) {
			return errors.New(describe(a))
		}
		return nil
	})
	return last
}

func describe(a *argo.Application) string {
	s := a.Status
	s.History = nil
	text, err := yaml.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return "\n" + string(text)
}

// live reads any object.
func (h *house) live(apiVersion, kind, namespace, name string) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.FromAPIVersionAndKind(apiVersion, kind))
	err := h.kube.Get(h.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, u)
	return u, err
}

// waitLive waits until the object is there and as check wants it.
func (h *house) waitLive(apiVersion, kind, namespace, name string, check func(*unstructured.Unstructured) error) *unstructured.Unstructured {
	h.t.Helper()
	var last *unstructured.Unstructured
	testkit.Eventually(h.t, kind+" "+namespace+"/"+name, func() error {
		u, err := h.live(apiVersion, kind, namespace, name)
		if err != nil {
			return err
		}
		last = u
		if check != nil {
			return check(u)
		}
		return nil
	})
	return last
}

// waitGone waits until the object is not there.
func (h *house) waitGone(apiVersion, kind, namespace, name string) {
	h.t.Helper()
	testkit.Eventually(h.t, "the end of "+kind+" "+name, func() error {
		_, err := h.live(apiVersion, kind, namespace, name)
		if err == nil {
			return errors.New("it is still there")
		}
		return client.IgnoreNotFound(err)
	})
}

// field wants a field to have a value.
func field(want any, path ...string) func(*unstructured.Unstructured) error {
	return func(u *unstructured.Unstructured) error {
		got, _, _ := unstructured.NestedFieldNoCopy(u.Object, path...)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%s is %v, want %v", strings.Join(path, "."), got, want)
		}
		return nil
	}
}

func synced(a *argo.Application) bool {
	return a.Status.Sync.Status == argo.SyncSynced && a.Operation == nil
}

func healthy(a *argo.Application) bool { return synced(a) && a.Status.Health.Status == "Healthy" }

// configMap is a manifest for tests that need nothing better.
func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  key: %q\n", name, value)
}

// application is an Application of the repository; extra is more of its spec,
// in lines of two spaces.
func (h *house) application(name, repo, path, namespace, extra string) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: %s
  namespace: argocd
spec:
  project: default
  source:
    repoURL: %s%s.git
    path: %s
  destination:
    server: https://kubernetes.default.svc
    namespace: %s
%s`, name, h.url, repo, path, namespace, extra)
}

const automated = `  syncPolicy:
    automated: {prune: true, selfHeal: true}
    syncOptions: [CreateNamespace=true]
`

// appObject is the name of an Application, to delete it.
func appObject(name string) *argo.Application {
	return &argo.Application{ObjectMeta: metav1.ObjectMeta{Namespace: "argocd", Name: name}}
}
