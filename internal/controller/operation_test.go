package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/deploy"
)

const manual = "  syncPolicy: {syncOptions: [CreateNamespace=true]}\n"

// ask sets the operation, as "argocd app sync" does.
func (h *house) ask(name string, op argo.Operation) {
	h.t.Helper()
	a, err := h.app(name)
	if err != nil {
		h.t.Fatal(err)
	}
	before := a.DeepCopy()
	a.Operation = &op
	if err := h.kube.Patch(h.t.Context(), a, client.MergeFrom(before)); err != nil {
		h.t.Fatal(err)
	}
}

// TestManualSync: nothing happens by itself; an operation prunes only when it
// says so, syncs only what it names, and changes nothing in a dry run.
func TestManualSync(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	repo := h.repo("manual", map[string]string{"app/a.yaml": configMap("a", "1"), "app/b.yaml": configMap("b", "1")})
	// What it deployed goes with it, for the next run of the test.
	h.apply(strings.Replace(h.application("manual", "manual", "app", "manual", manual), "  namespace: argocd\n", "  namespace: argocd\n  finalizers: ["+argo.Finalizer+"]\n", 1))
	defer h.delete(appObject("manual"))
	outOfSync := func(a *argo.Application) bool {
		return a.Status.Sync.Status == argo.SyncOutOfSync && a.Operation == nil
	}
	a := h.waitApp("manual", "to be out of sync", outOfSync)
	if len(a.Status.Resources) < 2 || a.Status.OperationState != nil {
		t.Fatalf("before any sync: %s", describe(a))
	}

	sync := &argo.SyncOperation{DryRun: true, SyncOptions: []string{"CreateNamespace=true"}}
	h.ask("manual", argo.Operation{Sync: sync})
	h.waitApp("manual", "to have run dry", func(a *argo.Application) bool {
		return outOfSync(a) && a.Status.OperationState != nil && strings.Contains(a.Status.OperationState.Message, "dry run")
	})
	if _, err := h.live("v1", "ConfigMap", "manual", "a"); err == nil {
		t.Fatal("a dry run has made an object")
	}

	sync = &argo.SyncOperation{SyncOptions: []string{"CreateNamespace=true"}}
	h.ask("manual", argo.Operation{Sync: sync, InitiatedBy: argo.OperationInitiator{Username: "alice"}})
	a = h.waitApp("manual", "to be synced", healthy)
	if len(a.Status.History) != 1 || a.Status.History[0].InitiatedBy.Username != "alice" {
		t.Fatalf("history: %+v", a.Status.History)
	}

	repo.Remove("app/b.yaml")
	h.push(repo, map[string]string{"app/a.yaml": configMap("a", "2"), "app/c.yaml": configMap("c", "2")})
	h.waitApp("manual", "to see the push", func(a *argo.Application) bool { return outOfSync(a) && a.Status.Sync.Revision == repo.Head() })
	h.waitLive("v1", "ConfigMap", "manual", "a", field("1", "data", "key"))

	// Only c is named, so a stays as it is, and no deployment is noted.
	h.ask("manual", argo.Operation{Sync: &argo.SyncOperation{Resources: []argo.SyncOperationResource{{Kind: "ConfigMap", Namespace: "manual", Name: "c"}}}})
	h.waitLive("v1", "ConfigMap", "manual", "c", field("2", "data", "key"))
	a = h.waitApp("manual", "to have synced c alone", outOfSync)
	h.waitLive("v1", "ConfigMap", "manual", "a", field("1", "data", "key"))
	if len(a.Status.History) != 1 {
		t.Fatalf("a selective sync is no deployment: %+v", a.Status.History)
	}

	h.ask("manual", argo.Operation{Sync: &argo.SyncOperation{}})
	h.waitLive("v1", "ConfigMap", "manual", "a", field("2", "data", "key"))
	a = h.waitApp("manual", "to wait for a prune", func(a *argo.Application) bool { return outOfSync(a) && len(a.Status.History) == 2 })
	var waiting []string
	for _, r := range a.Status.Resources {
		if r.RequiresPruning {
			waiting = append(waiting, r.Name)
		}
	}
	if fmt.Sprint(waiting) != "[b]" {
		t.Fatalf("to be pruned: %v", waiting)
	}
	h.ask("manual", argo.Operation{Sync: &argo.SyncOperation{Prune: true}})
	h.waitGone("v1", "ConfigMap", "manual", "b")
	h.waitApp("manual", "to be synced", healthy)

	// A change by hand is seen and left alone.
	live := h.waitLive("v1", "ConfigMap", "manual", "a", nil)
	live.Object["data"] = map[string]any{"key": "by hand"}
	if err := h.kube.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	h.waitApp("manual", "to see the drift", outOfSync)
	h.waitLive("v1", "ConfigMap", "manual", "a", field("by hand", "data", "key"))
}

// TestRefresh answers the annotation and removes it.
func TestRefresh(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("refresh", map[string]string{"app/a.yaml": configMap("a", "1")})
	h.apply(h.application("refresh", "refresh", "app", "refresh", automated))
	defer h.delete(appObject("refresh"))
	h.waitApp("refresh", "to be synced", healthy)
	for _, kind := range []string{"normal", "hard"} {
		a, err := h.app("refresh")
		if err != nil {
			t.Fatal(err)
		}
		before := a.DeepCopy()
		a.Annotations = map[string]string{argo.AnnotationRefresh: kind}
		if err := h.kube.Patch(t.Context(), a, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		h.waitApp("refresh", kind+" to be answered", func(a *argo.Application) bool {
			return a.Annotations[argo.AnnotationRefresh] == "" && healthy(a)
		})
	}
}

// TestFinalizer: with the finalizer what was deployed goes too, without it
// stays.
func TestFinalizer(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("final", map[string]string{"app/a.yaml": configMap("a", "1")})
	for _, finalizer := range []string{"", argo.Finalizer, argo.BackgroundFinalizer} {
		text := h.application("final", "final", "app", "final", automated)
		if finalizer != "" {
			text = strings.Replace(text, "  namespace: argocd\n", "  namespace: argocd\n  finalizers: ["+finalizer+"]\n", 1)
		}
		h.apply(text)
		h.waitApp("final", "to be synced", healthy)
		h.delete(appObject("final"))
		if finalizer == "" {
			h.waitLive("v1", "ConfigMap", "final", "a", nil)
		} else {
			h.waitGone("v1", "ConfigMap", "final", "a")
		}
	}
}

// TestFailedSyncIsNotRepeated: a pair of revision and parameters that failed
// is left alone without selfHeal; the next commit is tried.
func TestFailedSyncIsNotRepeated(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	bad := "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\nspec:\n  ports: [{port: 99999}]\n"
	repo := h.repo("failing", map[string]string{"app/x.yaml": bad})
	h.apply(h.application("failing", "failing", "app", "failing", "  syncPolicy:\n    automated: {}\n    retry: {limit: 1, backoff: {duration: 10ms}}\n    syncOptions: [CreateNamespace=true]\n"))
	defer h.delete(appObject("failing"))
	a := h.waitApp("failing", "to have failed", func(a *argo.Application) bool {
		s := a.Status.OperationState
		return a.Operation == nil && s != nil && s.Phase == argo.OperationFailed && s.RetryCount == 1
	})
	first := a.Status.OperationState.StartedAt
	// An unrelated look does not sync again.
	before := a.DeepCopy()
	a.Annotations = map[string]string{argo.AnnotationRefresh: "normal"}
	if err := h.kube.Patch(t.Context(), a, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	a = h.waitApp("failing", "to have looked again", func(a *argo.Application) bool { return a.Annotations[argo.AnnotationRefresh] == "" })
	if s := a.Status.OperationState; !s.StartedAt.Equal(&first) || !(hasCondition(a, argo.ConditionSyncError, "port") || hasCondition(a, argo.ConditionComparisonError, "port")) {
		t.Fatalf("it was synced again: %s", describe(a))
	}
	h.push(repo, map[string]string{"app/x.yaml": configMap("x", "1")})
	h.waitApp("failing", "to be well", func(a *argo.Application) bool { return healthy(a) && len(a.Status.Conditions) == 0 })
}

// TestSharedResource: an object that another Application tracks is a warning,
// and is not taken; with FailOnSharedResource it is an error.
func TestSharedResource(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("mine", map[string]string{"app/a.yaml": configMap("a", "mine")})
	h.repo("theirs", map[string]string{"app/a.yaml": configMap("a", "theirs")})
	h.apply(h.application("mine", "mine", "app", "shared", automated))
	defer h.delete(appObject("mine"))
	h.waitApp("mine", "to be synced", healthy)
	failing := strings.Replace(automated, "CreateNamespace=true", "FailOnSharedResource=true", 1)
	h.apply(h.application("theirs", "theirs", "app", "shared", failing))
	defer h.delete(appObject("theirs"))
	h.waitApp("theirs", "to be refused", func(a *argo.Application) bool {
		return a.Status.Sync.Status != argo.SyncSynced && hasCondition(a, argo.ConditionSyncError, "ConfigMap", "mine")
	})
	h.waitLive("v1", "ConfigMap", "shared", "a", field("mine", "data", "key"))
}

// TestAppOfApps: an Application that delivers Applications.
func TestAppOfApps(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("leaf", map[string]string{"app/a.yaml": configMap("a", "1")})
	h.repo("root", map[string]string{"apps/leaf.yaml": h.application("leaf", "leaf", "app", "leaf", automated)})
	h.apply(h.application("root", "root", "apps", "argocd", automated))
	defer h.delete(appObject("leaf"))
	defer h.delete(appObject("root"))
	h.waitApp("root", "to be synced", healthy)
	h.waitApp("leaf", "to be synced", healthy)
	h.waitLive("v1", "ConfigMap", "leaf", "a", nil)
}

// TestMultiSource: the value files of one source for the chart of another.
func TestMultiSource(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("chart", map[string]string{
		"chart/Chart.yaml":        "apiVersion: v2\nname: c\nversion: 1.0.0\n",
		"chart/templates/cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"{{ .Release.Name }}-who\"}\ndata: {key: \"{{ .Values.who }}\"}\n",
	})
	values := h.repo("values", map[string]string{"prod.yaml": "who: first\n"})
	text := strings.Replace(h.application("multi", "chart", "chart", "multi", automated), fmt.Sprintf("  source:\n    repoURL: %schart.git\n    path: chart\n", h.url),
		fmt.Sprintf("  sources:\n  - repoURL: %[1]schart.git\n    path: chart\n    helm: {valueFiles: [$values/prod.yaml]}\n  - repoURL: %[1]svalues.git\n    ref: values\n", h.url), 1)
	h.apply(text)
	defer h.delete(appObject("multi"))
	a := h.waitApp("multi", "to be synced", healthy)
	if len(a.Status.Sync.Revisions) != 2 || a.Status.Sync.Revisions[1] != values.Head() {
		t.Errorf("revisions: %v", a.Status.Sync.Revisions)
	}
	h.waitLive("v1", "ConfigMap", "multi", "multi-who", field("first", "data", "key"))
	h.push(values, map[string]string{"prod.yaml": "who: second\n"})
	h.waitLive("v1", "ConfigMap", "multi", "multi-who", field("second", "data", "key"))
}

// TestProjectLimits: a project holds where from and where to.
func TestProjectLimits(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("limited", map[string]string{"app/a.yaml": configMap("a", "1")})
	project := "apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: narrow, namespace: argocd}\nspec:\n  sourceRepos: [%q]\n  destinations: [{server: '*', namespace: limited}]\n"
	objs := h.apply(fmt.Sprintf(project, "https://elsewhere.example/*"))
	defer h.delete(objs[0])
	h.namespace("limited")
	h.apply(strings.Replace(h.application("limited", "limited", "app", "limited", "  syncPolicy: {automated: {}}\n"), "project: default", "project: narrow", 1))
	defer h.delete(appObject("limited"))
	h.waitApp("limited", "to be refused", func(a *argo.Application) bool {
		return hasCondition(a, argo.ConditionInvalidSpecError, "narrow", "does not permit the source")
	})
	// The project changes, and the Application is looked at again by that event.
	h.apply(fmt.Sprintf(project, h.url+"*"))
	h.waitApp("limited", "to be synced", healthy)
}

// TestRestart: what was pushed while nobody ran is brought out once, and what
// was deployed before is neither forgotten nor deployed again.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	h := startHouse(t, dir)
	h.namespace("argocd")
	repo := h.repo("again", map[string]string{"app/a.yaml": configMap("a", "1"), "app/b.yaml": configMap("b", "1")})
	// The address changes with each start: the manifest names a path.
	text := strings.ReplaceAll(h.application("again", "again", "app", "again", automated), h.url, "https://github.com/myorg/")
	if err := h.store.Rules().Add(gitRule("https://github.com/myorg/again", "again")); err != nil {
		t.Fatal(err)
	}
	h.apply(text)
	h.waitApp("again", "to be synced", healthy)
	h.stop()

	h = startHouse(t, dir)
	defer func() { h.stop() }()
	defer func() { h.delete(appObject("again")) }()
	repo.Git("remote", "set-url", "origin", h.url+"again.git")
	h.waitApp("again", "to be as it was", func(a *argo.Application) bool { return healthy(a) && len(a.Status.History) == 1 })
	if err := h.kube.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "again", Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "ConfigMap", "again", "a", field("1", "data", "key"))
	repo.Remove("app/b.yaml")
	h.push(repo, map[string]string{"app/a.yaml": configMap("a", "2")})
	h.waitLive("v1", "ConfigMap", "again", "a", field("2", "data", "key"))
	h.waitGone("v1", "ConfigMap", "again", "b")
	h.waitApp("again", "to have two entries", func(a *argo.Application) bool { return healthy(a) && len(a.Status.History) == 2 })
}

// TestInterruptedOperation: an operation that was running when the process
// died is finished, with one entry in the history.
func TestInterruptedOperation(t *testing.T) {
	dir := t.TempDir()
	h := startHouse(t, dir)
	h.namespace("argocd")
	h.repo("cut", map[string]string{"app/a.yaml": configMap("a", "1")})
	if err := h.store.Rules().Add(gitRule("https://github.com/myorg/cut", "cut")); err != nil {
		t.Fatal(err)
	}
	h.stop()
	// As the process left it: the operation begun, the object half applied.
	objs := h.apply(strings.ReplaceAll(h.application("cut", "cut", "app", "cut", manual), h.url, "https://github.com/myorg/") + `operation:
  sync: {syncOptions: [CreateNamespace=true]}
  initiatedBy: {username: alice}
status:
  operationState:
    operation: {sync: {syncOptions: [CreateNamespace=true]}, initiatedBy: {username: alice}, retry: {}}
    phase: Running
    startedAt: "2026-01-02T03:04:05Z"
`)
	_ = objs
	h = startHouse(t, dir)
	defer func() { h.stop() }()
	defer func() { h.delete(appObject("cut")) }()
	a := h.waitApp("cut", "to be finished", healthy)
	s := a.Status.OperationState
	if s.Phase != argo.OperationSucceeded || s.StartedAt.UTC().Format("2006-01-02") != "2026-01-02" || len(a.Status.History) != 1 {
		t.Fatalf("after the restart: %s", describe(a))
	}
}

// dying is a deployer whose process dies right after it has applied.
type dying struct {
	deploy.Deployer
	die func()
}

func (d dying) Apply(ctx context.Context, p deploy.Plan) (*deploy.Outcome, error) {
	outcome, _ := d.Deployer.Apply(ctx, p)
	d.die()
	<-ctx.Done()
	return outcome, ctx.Err()
}

// TestNotedBeforeApplied: the process dies after an apply and before it wrote
// what came of it, and what it had made is removed from Git meanwhile. The next
// process knows what it was, and prunes it.
func TestNotedBeforeApplied(t *testing.T) {
	dir := t.TempDir()
	h := startHouse(t, dir)
	h.namespace("argocd")
	h.namespace("noted")
	died := make(chan struct{}, 2)
	h.engine.stages.Deployer = dying{h.engine.stages.Deployer, func() { died <- struct{}{} }}
	repo := h.repo("noted", map[string]string{"app/a.yaml": configMap("a", "1"), "app/gone.yaml": configMap("gone", "1")})
	flux := h.repo("noted-flux", map[string]string{"app/b.yaml": configMap("b", "1"), "app/lost.yaml": configMap("lost", "1")})
	for _, name := range []string{"noted", "noted-flux"} {
		if err := h.store.Rules().Add(gitRule("https://github.com/myorg/"+name, name)); err != nil {
			t.Fatal(err)
		}
	}
	h.apply(strings.ReplaceAll(h.application("noted", "noted", "app", "noted", automated), h.url, "https://github.com/myorg/"))
	h.apply(strings.ReplaceAll(h.fluxPair("noted", "noted", "noted-flux", "./app", "  targetNamespace: noted\n"), h.url, "https://github.com/myorg/"))
	<-died
	<-died
	h.waitLive("v1", "ConfigMap", "noted", "gone", nil)
	h.waitLive("v1", "ConfigMap", "noted", "lost", nil)
	repo.Remove("app/gone.yaml")
	h.push(repo, nil)
	flux.Remove("app/lost.yaml")
	h.push(flux, nil)
	h.stop()

	h = startHouse(t, dir)
	defer func() { h.stop() }()
	defer func() { h.delete(appObject("noted")); h.dropFlux("noted", "noted") }()
	h.waitApp("noted", "to be synced", func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == repo.Head() })
	h.waitGone("v1", "ConfigMap", "noted", "gone")
	h.kustomization("noted", "noted", "to be ready", readyAt(flux.Head()))
	h.waitGone("v1", "ConfigMap", "noted", "lost")
}
