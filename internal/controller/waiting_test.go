package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// stuck is a Pod that is not scheduled: it is Progressing, in both dialects,
// until a test says otherwise.
func stuck(name, annotations string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  annotations: {%s}\nspec:\n  restartPolicy: Never\n  schedulingGates: [{name: example.com/hold}]\n  containers: [{name: c, image: i}]\n", name, annotations)
}

const (
	hookAnnotation = "argocd.argoproj.io/hook: "
	waveAnnotation = "argocd.argoproj.io/sync-wave: "
)

// phase gives a stuck Pod a phase, as its node would.
func (h *house) phase(namespace, name string, phase corev1.PodPhase) {
	h.t.Helper()
	h.uid(namespace, name)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	patch := fmt.Sprintf(`{"status": {"phase": %q}}`, phase)
	if err := h.kube.Status().Patch(h.t.Context(), pod, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		h.t.Fatal(err)
	}
}

// crash has a stuck Pod fail again and again, which is what Flux' rules call
// failed.
func (h *house) crash(namespace, name string) {
	h.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	patch := `{"status": {"phase": "Running", "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 9, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}`
	h.uid(namespace, name)
	if err := h.kube.Status().Patch(h.t.Context(), pod, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		h.t.Fatal(err)
	}
}

// uid waits for a Pod, and returns its UID.
func (h *house) uid(namespace, name string) types.UID {
	h.t.Helper()
	return h.waitLive("v1", "Pod", namespace, name, nil).GetUID()
}

// phaseIs wants the operation to be in a phase, and its message to say so.
func phaseIs(phase argo.OperationPhase, says ...string) func(*argo.Application) bool {
	return func(a *argo.Application) bool {
		s := a.Status.OperationState
		if s == nil || s.Phase != phase || phase.Completed() && a.Operation != nil {
			return false
		}
		for _, text := range says {
			if !strings.Contains(s.Message, text) {
				return false
			}
		}
		return true
	}
}

func progressing(k *kustomizev1.Kustomization) bool {
	for _, kind := range []string{"Ready", "Healthy"} {
		c := apimeta.FindStatusCondition(k.Status.Conditions, kind)
		if c == nil || c.Status != metav1.ConditionUnknown || c.Reason != "Progressing" {
			return false
		}
	}
	return apimeta.IsStatusConditionTrue(k.Status.Conditions, "Reconciling")
}

// remote writes the manifest with an address that stays the same when the
// house is started again.
func (h *house) remote(manifest string, repos ...string) string {
	h.t.Helper()
	for _, name := range repos {
		if err := h.store.Rules().Add(gitRule("https://github.com/myorg/"+name, name)); err != nil {
			h.t.Fatal(err)
		}
	}
	return strings.ReplaceAll(manifest, h.url, "https://github.com/myorg/")
}

// TestWaitingHoldsNoWorker: more deliveries wait than there are workers, each
// in its way, and another one is delivered all the same.
func TestWaitingHoldsNoWorker(t *testing.T) {
	h := newHouse(t, func(o *Options) { o.Workers = 2 })
	h.namespace("argocd")
	h.namespace("crowd")
	h.repo("crowd", map[string]string{
		"pod/p.yaml": stuck("waited", ""), "hook/h.yaml": stuck("hook", hookAnnotation+"PreSync"),
		"wave/p.yaml": stuck("wave", waveAnnotation+"'-1'"), "wave/m.yaml": configMap("after", "1"),
		"free/m.yaml": configMap("free", "1"),
	})
	for i := range 4 {
		name := fmt.Sprintf("crowd-%d", i)
		h.apply(h.fluxPair("crowd", name, "crowd", "./pod", "  targetNamespace: crowd\n  wait: true\n  timeout: 1h\n  namePrefix: "+name+"-\n"))
		defer h.dropFlux("crowd", name)
	}
	for _, kind := range []string{"hook", "wave"} {
		for i := range 2 {
			name := fmt.Sprintf("crowd-%s-%d", kind, i)
			h.apply(h.application(name, "crowd", kind, name, automated))
			defer h.delete(appObject(name))
		}
	}
	for i := range 4 {
		h.kustomization("crowd", fmt.Sprintf("crowd-%d", i), "to wait", progressing)
	}
	for i := range 2 {
		h.waitApp(fmt.Sprintf("crowd-hook-%d", i), "to wait for its hook", phaseIs(argo.OperationRunning, "waiting for completion of hook Pod"))
		h.waitApp(fmt.Sprintf("crowd-wave-%d", i), "to wait for its wave", phaseIs(argo.OperationRunning, "waiting for healthy state of Pod"))
	}
	h.apply(h.application("crowd-free", "crowd", "free", "crowd-free", automated))
	defer h.delete(appObject("crowd-free"))
	h.waitApp("crowd-free", "to be synced while all others wait", healthy)

	// What is waited for comes, and nobody has to be told.
	h.phase("crowd-wave-0", "wave", corev1.PodSucceeded)
	h.waitApp("crowd-wave-0", "to be through", healthy)
	h.waitLive("v1", "ConfigMap", "crowd-wave-0", "after", nil)
	h.phase("crowd-hook-1", "hook", corev1.PodSucceeded)
	a := h.waitApp("crowd-hook-1", "to be through", healthy)
	if r := a.Status.OperationState.SyncResult.Resources; len(r) != 1 || r[0].HookPhase != argo.OperationSucceeded {
		t.Errorf("results: %+v", r)
	}
	h.phase("crowd", "crowd-2-waited", corev1.PodSucceeded)
	h.kustomization("crowd", "crowd-2", "to be ready", readyAt(""))
}

// TestKustomizationHealth: what fails is told at once, and when it is healthy,
// or is no more, the conditions say so by that event, also of an object that
// another delivers.
func TestKustomizationHealth(t *testing.T) {
	h := newHouse(t)
	h.namespace("healing")
	h.repo("healing", map[string]string{"own/p.yaml": stuck("own", ""), "none/m.yaml": configMap("m", "1")})
	h.apply(h.fluxPair("healing", "own", "healing", "./own", "  targetNamespace: healing\n  wait: true\n  timeout: 1h\n"))
	defer h.dropFlux("healing", "own")
	h.apply(h.fluxPair("healing", "other", "healing", "./none", "  targetNamespace: healing\n  timeout: 1h\n  healthChecks: [{apiVersion: v1, kind: Pod, name: other, namespace: healing}]\n"))
	defer h.dropFlux("healing", "other")
	h.kustomization("healing", "own", "to wait", progressing)
	h.kustomization("healing", "other", "to wait", progressing)
	h.apply(strings.Replace(stuck("other", ""), "name: other\n", "name: other\n  namespace: healing\n", 1))
	for _, name := range []string{"own", "other"} {
		h.crash("healing", name)
		h.kustomization("healing", name, "to say that it failed", notReady("HealthCheckFailed", "Pod healing/"+name))
		h.phase("healing", name, corev1.PodSucceeded)
		k := h.kustomization("healing", name, "to be ready", readyAt(""))
		if !apimeta.IsStatusConditionTrue(k.Status.Conditions, "Healthy") || apimeta.FindStatusCondition(k.Status.Conditions, "Reconciling") != nil {
			t.Errorf("conditions: %v", k.Status.Conditions)
		}
		h.crash("healing", name)
		h.kustomization("healing", name, "to say that it failed again", notReady("HealthCheckFailed", "Pod healing/"+name))
		h.phase("healing", name, corev1.PodPending)
		h.kustomization("healing", name, "to wait again", progressing)
		h.phase("healing", name, corev1.PodSucceeded)
		h.kustomization("healing", name, "to be ready again", readyAt(""))
	}
}

// TestKustomizationTimeout: what was waited for longer than the timeout has
// failed, though the process that began to wait is not there any more; it is
// ready as soon as it is healthy all the same.
func TestKustomizationTimeout(t *testing.T) {
	dir := t.TempDir()
	h := startHouse(t, dir)
	h.namespace("overdue")
	h.repo("overdue", map[string]string{"k/p.yaml": stuck("p", "")})
	h.apply(h.remote(h.fluxPair("overdue", "overdue", "overdue", "./k", "  targetNamespace: overdue\n  wait: true\n  timeout: 1h\n"), "overdue"))
	k := h.kustomization("overdue", "overdue", "to wait", progressing)
	h.stop()
	before := k.DeepCopy()
	for i := range k.Status.Conditions {
		k.Status.Conditions[i].LastTransitionTime = metav1.NewTime(time.Now().Add(-2 * time.Hour))
	}
	if err := h.kube.Status().Patch(t.Context(), k, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}

	h = startHouse(t, dir)
	defer func() { h.stop() }()
	defer func() { h.dropFlux("overdue", "overdue") }()
	h.kustomization("overdue", "overdue", "to have waited", notReady("HealthCheckFailed", "Pod overdue/p", "after 1h0m0s it is still Progressing"))
	h.phase("overdue", "p", corev1.PodSucceeded)
	h.kustomization("overdue", "overdue", "to be ready", readyAt(""))
}

// TestOvertakesWaiting: a newer commit ends a sync that waits, for a wave or
// for a hook, whose object goes.
func TestOvertakesWaiting(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	for name, annotations := range map[string]string{"late-wave": waveAnnotation + "'-1'", "late-hook": hookAnnotation + "PreSync"} {
		repo := h.repo(name, map[string]string{"app/p.yaml": stuck("p", annotations), "app/m.yaml": configMap("m", "1")})
		h.apply(h.application(name, name, "app", name, automated))
		defer h.delete(appObject(name))
		h.waitApp(name, "to wait", phaseIs(argo.OperationRunning, "waiting for"))
		// One that changes nothing of it leaves it alone.
		before := h.uid(name, "p")
		h.push(repo, map[string]string{"readme": "new"})
		h.push(repo, map[string]string{"app/kustomization.yaml": "resources: [nowhere.yaml]\n"})
		h.waitApp(name, "to say that the source is broken", func(a *argo.Application) bool {
			return hasCondition(a, argo.ConditionComparisonError, "nowhere.yaml") && phaseIs(argo.OperationRunning)(a)
		})
		if h.uid(name, "p") != before {
			t.Errorf("%s: the Pod was made anew", name)
		}
		repo.Remove("app/p.yaml", "app/kustomization.yaml")
		h.push(repo, map[string]string{"app/m.yaml": configMap("m", "2")})
		h.waitApp(name, "to be at the newer commit", func(a *argo.Application) bool {
			return healthy(a) && a.Status.OperationState.SyncResult.Revision == repo.Head()
		})
		h.waitLive("v1", "ConfigMap", name, "m", field("2", "data", "key"))
		h.waitGone("v1", "Pod", name, "p")
	}
}

// TestOvertakesRetries: a newer commit does not wait for the pause before the
// older one is tried again.
func TestOvertakesRetries(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	bad := "apiVersion: v1\nkind: Service\nmetadata:\n  name: m\nspec:\n  ports: [{port: 99999}]\n"
	repo := h.repo("patient", map[string]string{"app/m.yaml": bad})
	h.apply(h.application("patient", "patient", "app", "patient", automated+"    retry: {limit: 3, backoff: {duration: 1h, maxDuration: 2h}}\n"))
	defer h.delete(appObject("patient"))
	h.waitApp("patient", "to be tried again in an hour", phaseIs(argo.OperationRunning, "retry 1 of 3 in 1h"))
	h.push(repo, map[string]string{"app/m.yaml": configMap("m", "1")})
	a := h.waitApp("patient", "to be synced", healthy)
	if a.Status.OperationState.RetryCount != 0 {
		t.Errorf("state: %s", describe(a))
	}
}

// TestDriftWhileWaiting: what a sync has applied is put right while it waits,
// be it what it waits for; the last of several waves is waited for too.
func TestDriftWhileWaiting(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("shaken", map[string]string{"app/p.yaml": stuck("p", waveAnnotation+"'1'"), "app/m.yaml": configMap("m", "1")})
	h.apply(h.application("shaken", "shaken", "app", "shaken", automated))
	defer h.delete(appObject("shaken"))
	h.waitApp("shaken", "to wait for its last wave", phaseIs(argo.OperationRunning, "waiting for healthy state of Pod"))
	if err := h.kube.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shaken", Name: "m"}}); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "ConfigMap", "shaken", "m", field("1", "data", "key"))
	first := h.uid("shaken", "p")
	if err := h.kube.Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shaken", Name: "p"}}); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "Pod", "shaken", "p", func(u *unstructured.Unstructured) error {
		if u.GetUID() == first {
			return errors.New("it is still the first one")
		}
		return nil
	})
	h.waitApp("shaken", "to wait still", phaseIs(argo.OperationRunning, "waiting for healthy state of Pod"))
	h.phase("shaken", "p", corev1.PodSucceeded)
	h.waitApp("shaken", "to be synced", func(a *argo.Application) bool { return healthy(a) && len(a.Status.History) == 1 })
}

// TestEndOfWaiting: an operation that waits is ended by a person, in the two
// ways there are, and by the time that a sync may take; its hook goes.
func TestEndOfWaiting(t *testing.T) {
	ends := map[string]struct {
		limit time.Duration
		end   func(h *house, a *argo.Application)
		says  string
	}{
		"terminating": {-1, func(h *house, a *argo.Application) {
			before := a.DeepCopy()
			a.Status.OperationState.Phase = argo.OperationTerminating
			if err := h.kube.Patch(h.t.Context(), a, client.MergeFrom(before)); err != nil {
				h.t.Fatal(err)
			}
		}, "terminated"},
		"removed": {-1, func(h *house, a *argo.Application) {
			before := a.DeepCopy()
			a.Operation = nil
			if err := h.kube.Patch(h.t.Context(), a, client.MergeFrom(before)); err != nil {
				h.t.Fatal(err)
			}
		}, "removed"},
		"overdue": {2 * time.Second, nil, "not through within 2s"},
	}
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(o *Options) { o.SyncTimeout = c.limit })
			h.namespace("argocd")
			app := "end-" + name
			h.repo(app, map[string]string{"app/h.yaml": stuck("h", hookAnnotation+"PreSync"), "app/m.yaml": configMap("m", "1")})
			h.apply(h.application(app, app, "app", app, manual))
			defer h.delete(appObject(app))
			h.ask(app, argo.Operation{Sync: &argo.SyncOperation{SyncOptions: []string{"CreateNamespace=true"}}, Retry: argo.RetryStrategy{Limit: 3}})
			if c.end != nil {
				a := h.waitApp(app, "to wait", phaseIs(argo.OperationRunning, "waiting for completion of hook"))
				h.uid(app, "h")
				c.end(h, a)
			}
			a := h.waitApp(app, "to have ended", phaseIs(argo.OperationFailed, c.says))
			if a.Status.OperationState.FinishedAt == nil || a.Status.OperationState.RetryCount != 0 {
				t.Errorf("state: %s", describe(a))
			}
			if r := a.Status.OperationState.SyncResult.Resources; len(r) != 1 || r[0].HookPhase != argo.OperationFailed {
				t.Errorf("results: %+v", r)
			}
			h.waitGone("v1", "Pod", app, "h")
			if _, err := h.live("v1", "ConfigMap", app, "m"); client.IgnoreNotFound(err) != nil || err == nil {
				t.Errorf("the sync went on: %v", err)
			}
			if c.limit > 0 {
				return
			}
			// The next one is like any other.
			h.ask(app, argo.Operation{Sync: &argo.SyncOperation{}})
			h.waitApp(app, "to wait again", phaseIs(argo.OperationRunning, "waiting for completion of hook"))
			h.phase(app, "h", corev1.PodSucceeded)
			h.waitApp(app, "to be synced", healthy)
		})
	}
}

// TestKilledWhileWaiting: the process dies while deliveries wait. The next one
// waits for the same objects, and goes on from there.
func TestKilledWhileWaiting(t *testing.T) {
	dir := t.TempDir()
	h := startHouse(t, dir)
	h.namespace("argocd")
	h.namespace("killed")
	h.repo("killed", map[string]string{
		"app/h.yaml": stuck("h", hookAnnotation+"PreSync"), "app/w.yaml": stuck("w", waveAnnotation+"'0'"), "app/m.yaml": strings.Replace(configMap("m", "1"), "metadata:\n", "metadata:\n  annotations: {"+waveAnnotation+"'1'}\n", 1),
		"k/p.yaml": stuck("p", ""),
	})
	h.apply(h.remote(h.application("killed", "killed", "app", "killed", automated), "killed"))
	h.apply(strings.ReplaceAll(h.fluxPair("killed", "killed", "killed", "./k", "  targetNamespace: killed\n  wait: true\n  timeout: 1h\n"), h.url, "https://github.com/myorg/"))
	a := h.waitApp("killed", "to wait for its hook", phaseIs(argo.OperationRunning, "waiting for completion of hook"))
	k := h.kustomization("killed", "killed", "to wait", progressing)
	hook, pod := h.uid("killed", "h"), h.uid("killed", "p")
	h.stop()

	h = startHouse(t, dir)
	h.phase("killed", "h", corev1.PodSucceeded)
	h.waitApp("killed", "to wait for its wave", phaseIs(argo.OperationRunning, "waiting for healthy state"))
	again := h.kustomization("killed", "killed", "to wait", progressing)
	since := func(k *kustomizev1.Kustomization) metav1.Time {
		return apimeta.FindStatusCondition(k.Status.Conditions, "Ready").LastTransitionTime
	}
	if first, now := since(k), since(again); !first.Equal(&now) {
		t.Errorf("it began to wait at %s, and after the restart at %s", first, now)
	}
	wave := h.uid("killed", "w")
	h.stop()

	h = startHouse(t, dir)
	defer func() { h.stop() }()
	defer func() { h.delete(appObject("killed")); h.dropFlux("killed", "killed") }()
	h.phase("killed", "w", corev1.PodSucceeded)
	h.phase("killed", "p", corev1.PodSucceeded)
	end := h.waitApp("killed", "to be through", healthy)
	if !end.Status.OperationState.StartedAt.Equal(&a.Status.OperationState.StartedAt) || len(end.Status.History) != 1 {
		t.Errorf("it was begun anew: %s", describe(end))
	}
	h.kustomization("killed", "killed", "to be ready", readyAt(""))
	if h.uid("killed", "h") != hook || h.uid("killed", "w") != wave || h.uid("killed", "p") != pod {
		t.Error("what was waited for was made anew")
	}
}

// TestSyncFailInterrupted: the process dies while the hook for a failure runs.
// The next one waits for it, syncs nothing, and ends with the same failure.
func TestSyncFailInterrupted(t *testing.T) {
	dir := t.TempDir()
	h := startHouse(t, dir)
	h.namespace("argocd")
	h.repo("mourning", map[string]string{
		"app/f.yaml": stuck("fails", hookAnnotation+"Sync, argocd.argoproj.io/hook-delete-policy: HookFailed"),
		"app/h.yaml": stuck("mourns", hookAnnotation+"SyncFail"),
	})
	h.apply(h.remote(h.application("mourning", "mourning", "app", "mourning", manual), "mourning"))
	h.ask("mourning", argo.Operation{Sync: &argo.SyncOperation{SyncOptions: []string{"CreateNamespace=true"}}})
	h.waitApp("mourning", "to wait for its hook", phaseIs(argo.OperationRunning, "waiting for completion of hook"))
	h.phase("mourning", "fails", corev1.PodFailed)
	h.waitApp("mourning", "to have failed, but for the hook for that", phaseIs(argo.OperationRunning, "Pod mourning/fails"))
	hook := h.uid("mourning", "mourns")
	h.waitGone("v1", "Pod", "mourning", "fails")
	h.stop()

	h = startHouse(t, dir)
	defer func() { h.stop() }()
	defer func() { h.delete(appObject("mourning")) }()
	h.phase("mourning", "mourns", corev1.PodSucceeded)
	a := h.waitApp("mourning", "to have failed", phaseIs(argo.OperationFailed, "Pod mourning/fails"))
	if h.uid("mourning", "mourns") != hook {
		t.Error("the hook was made anew")
	}
	if _, err := h.live("v1", "Pod", "mourning", "fails"); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the hook that failed was run again: %v", err)
	}
	phases := map[string]argo.OperationPhase{}
	for _, r := range a.Status.OperationState.SyncResult.Resources {
		phases[r.HookType] = r.HookPhase
	}
	if phases["Sync"] != argo.OperationFailed || phases["SyncFail"] != argo.OperationSucceeded {
		t.Errorf("results: %v", phases)
	}
}

// finalizers puts finalizers on the Application of the manifest.
func finalizers(manifest string, names ...string) string {
	return strings.Replace(manifest, "  namespace: argocd\n", "  namespace: argocd\n  finalizers: ["+strings.Join(names, ", ")+"]\n", 1)
}

// hold puts a finalizer on an object, or takes all of them away.
func (h *house) hold(obj client.Object, on bool) {
	h.t.Helper()
	patch := `{"metadata": {"finalizers": null}}`
	if on {
		patch = `{"metadata": {"finalizers": ["example.com/hold"]}}`
	}
	if err := h.kube.Patch(h.t.Context(), obj, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		h.t.Fatal(err)
	}
}

// gone says whether the Application is gone.
func (h *house) gone(name string) error {
	a, err := h.app(name)
	if err == nil {
		return errors.New("it is still there: " + describe(a))
	}
	return client.IgnoreNotFound(err)
}

// TestForegroundAndBackground: in the foreground, which is the default, what
// belongs to an object goes before it, and the Application after that; in the
// background nobody waits for it.
func TestForegroundAndBackground(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("grounds", map[string]string{"app/d.yaml": deployment("web", 1, "web:1")})
	for name, finalizer := range map[string]string{"ground": argo.Finalizer, "foreground": argo.ForegroundFinalizer, "background": argo.BackgroundFinalizer} {
		waits := finalizer != argo.BackgroundFinalizer
		h.apply(finalizers(h.application(name, "grounds", "app", name, automated), finalizer))
		h.waitApp(name, "to be synced", healthy)
		// Something that holds what the Deployment has made.
		pods := &corev1.PodList{}
		if err := h.kube.List(t.Context(), pods, client.InNamespace(name)); err != nil || len(pods.Items) == 0 {
			t.Fatalf("pods: %v, %v", pods.Items, err)
		}
		owner := metav1.GetControllerOf(&pods.Items[0])
		replicas := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: owner.Name}}
		h.hold(replicas, true)
		if err := h.kube.Delete(t.Context(), appObject(name)); err != nil {
			t.Fatal(err)
		}
		if waits {
			h.waitLive("apps/v1", "Deployment", name, "web", func(u *unstructured.Unstructured) error {
				if u.GetDeletionTimestamp() == nil {
					return errors.New("it is not being deleted")
				}
				return nil
			})
			if h.gone(name) == nil {
				t.Errorf("%s: the Application is gone before what it owns", finalizer)
			}
		} else {
			testkit.Eventually(t, "the end of "+name, func() error { return h.gone(name) })
			h.waitGone("apps/v1", "Deployment", name, "web")
		}
		h.hold(replicas, false)
		testkit.Eventually(t, "the end of "+name, func() error { return h.gone(name) })
	}
}

// TestDeletionHooksWait: a deletion waits for its hooks and for what it
// deletes, without a worker and over the death of the process; the finalizers
// by which Argo CD remembers hooks go with the others, and alone they leave
// the objects.
func TestDeletionHooksWait(t *testing.T) {
	dir := t.TempDir()
	one := func(o *Options) { o.Workers = 1 }
	h := startHouse(t, dir, one)
	h.namespace("argocd")
	held := strings.Replace(configMap("held", "1"), "metadata:\n", "metadata:\n  finalizers: [example.com/hold]\n", 1)
	h.repo("parting", map[string]string{
		"app/m.yaml": held, "app/a.yaml": stuck("after", hookAnnotation+"PostDelete"), "app/b.yaml": stuck("before", hookAnnotation+"PreDelete"),
		"free/m.yaml": configMap("free", "1"),
	})
	hooks := []string{"pre-delete-finalizer.argocd.argoproj.io", "post-delete-finalizer.argocd.argoproj.io", "post-delete-finalizer.argocd.argoproj.io/cleanup"}
	h.apply(h.remote(finalizers(h.application("parting", "parting", "app", "parting", automated), append(hooks, argo.Finalizer)...), "parting"))
	h.waitApp("parting", "to be synced", healthy)
	if err := h.kube.Delete(t.Context(), appObject("parting")); err != nil {
		t.Fatal(err)
	}
	before := h.uid("parting", "before")
	h.apply(h.application("beside", "parting", "free", "beside", automated))
	h.waitApp("beside", "to be synced while the other waits", healthy)
	h.delete(appObject("beside"))
	h.waitLive("v1", "ConfigMap", "parting", "held", func(u *unstructured.Unstructured) error {
		if u.GetDeletionTimestamp() != nil {
			t.Error("it was deleted before the hook was done")
		}
		return nil
	})
	h.stop()

	h = startHouse(t, dir, one)
	defer func() { h.stop() }()
	if h.uid("parting", "before") != before {
		t.Error("the hook was made anew")
	}
	h.phase("parting", "before", corev1.PodSucceeded)
	live := h.waitLive("v1", "ConfigMap", "parting", "held", func(u *unstructured.Unstructured) error {
		if u.GetDeletionTimestamp() == nil {
			return errors.New("it is not being deleted")
		}
		return nil
	})
	if _, err := h.live("v1", "Pod", "parting", "after"); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the PostDelete hook runs before all is gone: %v", err)
	}
	h.hold(live, false)
	h.uid("parting", "after")
	if h.gone("parting") == nil {
		t.Error("the Application is gone before its PostDelete hook was done")
	}
	h.phase("parting", "after", corev1.PodSucceeded)
	testkit.Eventually(t, "the end of the Application", func() error { return h.gone("parting") })
	h.waitGone("v1", "Pod", "parting", "before")

	// With a hook's finalizer alone the hook runs, and the objects stay.
	h.apply(finalizers(h.remote(h.application("parting", "parting", "free", "parting", automated)), "post-delete-finalizer.argocd.argoproj.io"))
	h.waitApp("parting", "to be synced", healthy)
	h.delete(appObject("parting"))
	h.waitLive("v1", "ConfigMap", "parting", "free", nil)
}
