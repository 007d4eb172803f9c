package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// waitLimit ends what would hang; nothing waits for it in order to pass.
const waitLimit = time.Minute

func wave(name string, n int, more string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, annotations: {argocd.argoproj.io/sync-wave: '%d'%s}}", name, n, more)
}

func job(name, annotations string) string {
	return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: " + name + ", annotations: {" + annotations + "}}\nspec: {backoffLimit: 0, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}"
}

func TestWavesAndKinds(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), strings.Join([]string{
		wave("late", 2, ""), wave("early", -1, ""), wave("zb", 0, ""), wave("za", 0, ""),
		"apiVersion: v1\nkind: Service\nmetadata: {name: first-in-name}\nspec: {ports: [{port: 80}]}",
	}, "\n---\n"))
	out := b.apply(p)
	expect(t, "apply", actions(out), "created ConfigMap early", "created ConfigMap za", "created ConfigMap zb", "created Service first-in-name", "created ConfigMap late")

	// Prunes go the other way, and those that are kept stay in the inventory.
	p.Inventory = out.Inventory
	p.Objects = objects(t, configMap("new", "x"))
	kept := b.apply(p)
	if len(kept.Inventory) != 6 || !slices.Contains(actions(kept), "prune-skipped ConfigMap late") {
		t.Errorf("without prune: %v, inventory %v", actions(kept), kept.Inventory)
	}
	p.Options.Prune = true
	pruned := b.apply(p)
	// late moved onto the wave of early, and early onto that of late.
	expect(t, "prune", actions(pruned), "pruned ConfigMap late", "pruned Service first-in-name", "pruned ConfigMap zb", "pruned ConfigMap za", "unchanged ConfigMap new", "pruned ConfigMap early")
	if len(pruned.Inventory) != 1 || pruned.Inventory[0].Name != "new" {
		t.Errorf("inventory is %v", pruned.Inventory)
	}
}

func TestPruneSettings(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), strings.Join([]string{
		wave("kept", 0, ", argocd.argoproj.io/sync-options: Prune=false"),
		wave("asked", 0, ", argocd.argoproj.io/sync-options: Prune=confirm"),
		wave("last", 5, ", argocd.argoproj.io/sync-options: PruneLast=true"),
		wave("stolen", 0, ""), wave("stays", 0, ""),
	}, "\n---\n"))
	out := b.apply(p)
	b.edit("ConfigMap", "stolen", func(o *unstructured.Unstructured) {
		a := o.GetAnnotations()
		a["argocd.argoproj.io/tracking-id"] = "other:/ConfigMap:" + b.namespace + "/stolen"
		o.SetAnnotations(a)
	})
	p.Inventory = out.Inventory
	p.Options.Prune = true
	all := p.Objects
	p.Objects = nil
	_, err := b.finish(p)
	var empty *deploy.EmptyPlanError
	if !errors.As(err, &empty) {
		t.Fatalf("an empty plan: %v", err)
	}
	p.Objects = all[4:]
	out, err = b.finish(p)
	var waiting *deploy.UnconfirmedError
	if !errors.As(err, &waiting) || len(waiting.Objects) != 1 || waiting.Objects[0].Name != "asked" {
		t.Errorf("what is not confirmed: %v", err)
	}
	expect(t, "prune", actions(out), "prune-skipped ConfigMap kept", "prune-skipped ConfigMap asked", "unchanged ConfigMap stays", "pruned ConfigMap last")
	if b.live("ConfigMap", "stolen") == nil {
		t.Error("what another tracks was pruned")
	}
	p.Inventory, p.Options.Confirmed, p.Options.AllowEmpty, p.Objects = out.Inventory, true, true, nil
	out = b.apply(p)
	testkit.Eventually(t, "the prune that was confirmed", func() error {
		if b.live("ConfigMap", "asked") != nil {
			return errors.New("it is still there")
		}
		return nil
	})
	if b.live("ConfigMap", "kept") == nil || len(out.Inventory) != 1 {
		t.Errorf("confirmed: %v, inventory %v", actions(out), out.Inventory)
	}
}

func TestWaitBetweenWaves(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), strings.Replace(strings.SplitN(web, "\n---", 2)[0], "metadata: {name: web}", "metadata: {name: web, annotations: {argocd.argoproj.io/sync-wave: '-1'}}", 1)+"\n---\n"+configMap("after", "x"))
	p.Options.WaitBetweenWaves = true
	p.Progress = func(r deploy.ObjectResult) {
		if r.Ref.Name == "after" {
			if got := field(b.live("Deployment", "web"), "status", "availableReplicas"); got != "2" {
				t.Errorf("the next wave came when %q replicas were available", got)
			}
		}
	}
	out := b.apply(p)
	if out.Results[0].Health != core.Healthy {
		t.Errorf("the Deployment is %s", out.Results[0].Health)
	}
	expect(t, "the whole of it", actions(out), "created Deployment web", "created ConfigMap after")
}

// TestWaiting: an apply returns where it has to wait, tells for what, and says
// nothing of what it has not come to; resumed, it writes nothing again and is
// where it was. Something newer ends it.
func TestWaiting(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), strings.Join([]string{wave("m", -1, ""), stuck("never", ""), wave("after", 1, "")}, "\n---\n"))
	p.Options.WaitBetweenWaves = true
	version := ""
	for range 3 {
		out, err := b.deployer.Apply(t.Context(), p)
		var waiting *deploy.WaitingError
		if !errors.As(err, &waiting) || len(waiting.Objects) != 1 || waiting.Objects[0].Until != deploy.UntilHealthy || waiting.Objects[0].Ref.Name != "never" {
			t.Fatalf("error is %v", err)
		}
		if !p.Resumed {
			expect(t, "begun", actions(out), "created ConfigMap m", "created Pod never")
		}
		if b.live("ConfigMap", "after") != nil || len(out.Inventory) != 2 {
			t.Errorf("inventory is %v", out.Inventory)
		}
		p.Inventory, p.Resumed = out.Inventory, true
		now := b.live("ConfigMap", "m").GetResourceVersion()
		if version != "" && version != now {
			t.Error("it was written again")
		}
		version = now
	}
	p.Superseded = func() bool { return true }
	if _, err := b.deployer.Apply(t.Context(), p); !errors.Is(err, deploy.ErrSuperseded) {
		t.Errorf("superseded: %v", err)
	}
}

func TestHooks(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), strings.Join([]string{
		job("before", "argocd.argoproj.io/hook: PreSync"),
		job("after", "argocd.argoproj.io/hook: PostSync, argocd.argoproj.io/hook-delete-policy: HookSucceeded"),
		job("never", "argocd.argoproj.io/hook: SyncFail"),
		job("skipped", "argocd.argoproj.io/hook: Skip"),
		job("helm", "helm.sh/hook: 'pre-install,pre-upgrade', helm.sh/hook-weight: '-5'"),
		job("test", "helm.sh/hook: test"),
		strings.Replace(job("", "argocd.argoproj.io/hook: Sync"), "name: ,", "generateName: gen-,", 1),
		configMap("m", "x"),
	}, "\n---\n"))
	p.Revision = "0123456789abcdef"
	out := b.apply(p)
	got := actions(out)
	generated := ""
	for i, a := range got {
		if name := strings.TrimPrefix(a, "created Job gen-"); name != a {
			generated = name
			got[i] = "created Job gen-"
		}
	}
	expect(t, "hooks", got, "created Job helm", "created Job before", "created ConfigMap m", "created Job gen-", "created Job after")
	if !strings.HasPrefix(generated, "0123456-sync-") {
		t.Errorf("the generated name is %q", generated)
	}
	if b.live("Job", "before") == nil || len(out.Inventory) != 1 {
		t.Errorf("inventory is %v", out.Inventory)
	}
	testkit.Eventually(t, "the hook's deletion", func() error {
		if b.live("Job", "after") != nil {
			return errors.New("it is still there")
		}
		return nil
	})
	// Again: the old Job makes room. A part of a plan runs no hooks.
	first := b.live("Job", "before").GetUID()
	b.apply(p)
	if second := b.live("Job", "before"); second == nil || second.GetUID() == first {
		t.Error("the hook was not made anew")
	}
	p.Only = out.Inventory
	expect(t, "a part", actions(b.apply(p)), "unchanged ConfigMap m")
}

func TestFailingHook(t *testing.T) {
	b := newBench(t)
	failing := strings.Replace(job("check", "argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/hook-delete-policy: HookFailed"),
		"backoffLimit: 0", "backoffLimit: 0, activeDeadlineSeconds: 1", 1)
	// No node takes its pod, so it runs into its deadline.
	failing = strings.Replace(failing, "restartPolicy", "nodeSelector: {no: where}, restartPolicy", 1)
	p := b.plan(application("a"), failing+"\n---\n"+configMap("m", "x"))
	out, err := b.finish(p)
	var object *deploy.ObjectError
	if !errors.As(err, &object) || object.Reason != deploy.Unhealthy || object.Ref.Name != "check" {
		t.Fatalf("error is %v", err)
	}
	expect(t, "results", actions(out), "failed Job check", "skipped ConfigMap m")
	if b.live("ConfigMap", "m") != nil {
		t.Error("the sync went on")
	}
}

// stuck is a Pod that no node takes.
func stuck(name, annotations string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", annotations: {" + annotations + "}}\nspec: {restartPolicy: Never, nodeSelector: {no: where}, containers: [{name: c, image: i}]}"
}

// TestSyncFailHook: after a failure its hooks run, and are waited for; an
// apply that is resumed then does nothing else, and has the same failure.
func TestSyncFailHook(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), strings.Join([]string{
		stuck("mourn", "argocd.argoproj.io/hook: SyncFail"), wave("m", -1, ""),
		stuck("fails", "argocd.argoproj.io/hook: Sync"), wave("after", 1, ""),
	}, "\n---\n"))
	p.Hooks = &deploy.HookLog{Operation: "one"}
	keep(p.Hooks)
	out, err := b.deployer.Apply(t.Context(), p)
	var waiting *deploy.WaitingError
	if !errors.As(err, &waiting) || waiting.Objects[0].Until != deploy.UntilDone || waiting.Failure != nil {
		t.Fatalf("error is %v", err)
	}
	p.Inventory, p.Resumed, p.Hooks.Failure = out.Inventory, true, begun(p.Hooks, out, err)
	b.end("fails", "Failed")
	out, err = b.deployer.Apply(t.Context(), p)
	if !errors.As(err, &waiting) || waiting.Failure == nil || waiting.Objects[0].Ref.Name != "mourn" {
		t.Fatalf("error is %v", err)
	}
	failure := waiting.Failure.Error()
	p.Hooks.Failure = begun(p.Hooks, out, err)
	b.end("mourn", "Succeeded")
	out, err = b.deployer.Apply(t.Context(), p)
	if err == nil || err.Error() != failure || b.live("ConfigMap", "after") != nil {
		t.Errorf("the end of it: %v, not %s", err, failure)
	}
	expect(t, "resumed after the failure", actions(out), "created Pod mourn")
}

// TestFailureAmongHooks: what fails beside a hook that runs is told when that
// is done.
func TestFailureAmongHooks(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), strings.Join([]string{
		stuck("fails", "argocd.argoproj.io/hook: PreSync, argocd.argoproj.io/hook-delete-policy: HookFailed"),
		stuck("runs", "argocd.argoproj.io/hook: PreSync"), configMap("m", "x"),
	}, "\n---\n"))
	p.Hooks = &deploy.HookLog{Operation: "one"}
	keep(p.Hooks)
	waits := func(what string, want ...string) {
		t.Helper()
		out, err := b.deployer.Apply(t.Context(), p)
		var waiting *deploy.WaitingError
		if !errors.As(err, &waiting) {
			t.Fatalf("%s: %v", what, err)
		}
		var names []string
		for _, o := range waiting.Objects {
			names = append(names, o.Ref.Name)
		}
		expect(t, what, names, want...)
		p.Resumed, p.Hooks.Failure = true, begun(p.Hooks, out, err)
	}
	waits("begun", "fails", "runs")
	b.end("fails", "Failed")
	waits("one has failed", "runs")
	waits("its object is gone", "runs")
	b.end("runs", "Succeeded")
	_, err := b.deployer.Apply(t.Context(), p)
	var object *deploy.ObjectError
	if !errors.As(err, &object) || object.Reason != deploy.Unhealthy || object.Ref.Name != "fails" {
		t.Errorf("error is %v", err)
	}
	if b.live("ConfigMap", "m") != nil {
		t.Error("the sync went on")
	}
}

// TestStop deletes the hooks that run, and no others.
func TestStop(t *testing.T) {
	b := newBench(t)
	owner := application("a")
	p := b.plan(owner, stuck("runs", "argocd.argoproj.io/hook: PreSync"))
	p.Hooks = &deploy.HookLog{Operation: "one"}
	keep(p.Hooks)
	out, err := b.deployer.Apply(t.Context(), p)
	begun(p.Hooks, out, err)
	if b.live("Pod", "runs") == nil || len(p.Hooks.Begun) != 1 {
		t.Fatalf("before: %v", err)
	}
	other := *p.Hooks
	other.Operation = "other"
	if err := b.deployer.Stop(t.Context(), owner, &other); err != nil || b.live("Pod", "runs").GetDeletionTimestamp() != nil {
		t.Fatalf("another operation's: %v", err)
	}
	if err := b.deployer.Stop(t.Context(), owner, p.Hooks); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the hook's end", func() error {
		if b.live("Pod", "runs") != nil {
			return errors.New("it is still there")
		}
		return nil
	})
	// What somebody has deleted has failed, and is not made again.
	var object *deploy.ObjectError
	p.Resumed = true
	if _, err := b.deployer.Apply(t.Context(), p); !errors.As(err, &object) || object.Reason != deploy.Unhealthy || b.live("Pod", "runs") != nil {
		t.Errorf("resumed: %v", err)
	}
}

// end gives a Pod that no node has a phase, as a node does.
func (b *bench) end(name, phase string) {
	b.Helper()
	res, err := b.client.For(core.ObjectRef{Version: "v1", Kind: "Pod", Namespace: b.namespace, Name: name})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := res.Patch(b.Context(), name, types.MergePatchType, []byte(`{"status": {"phase": "`+phase+`"}}`), metav1.PatchOptions{}, "status"); err != nil {
		b.Fatal(err)
	}
}

func TestDelete(t *testing.T) {
	b := newBench(t)
	owner := application("a")
	hooks := job("last-words", "argocd.argoproj.io/hook: PreDelete, argocd.argoproj.io/hook-delete-policy: HookSucceeded")
	out := b.apply(b.plan(owner, strings.Join([]string{
		wave("first", 0, ""), wave("second", 1, ""), wave("kept", 0, ", argocd.argoproj.io/sync-options: Delete=false"),
		wave("no-prune", 0, ", argocd.argoproj.io/sync-options: Prune=false"), hooks,
	}, "\n---\n")))
	if len(out.Inventory) != 4 || b.live("Job", "last-words") != nil {
		t.Fatalf("applied %v", actions(out))
	}
	gone, err := b.delete(deploy.Deletion{Owner: owner, Inventory: out.Inventory, Hooks: objects(t, hooks), Options: deploy.Options{Namespace: b.namespace}, Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "deletion", actions(gone), "created Job last-words", "pruned ConfigMap second", "pruned ConfigMap no-prune", "prune-skipped ConfigMap kept", "pruned ConfigMap first")
	if len(gone.Inventory) != 0 || b.live("ConfigMap", "kept") == nil || b.live("ConfigMap", "first") != nil {
		t.Errorf("inventory is %v", gone.Inventory)
	}
}

// TestHookLog: an apply that is resumed waits for the hook that it had begun,
// and runs none again that is done; another operation makes its own.
func TestHookLog(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), job("once", "argocd.argoproj.io/hook: PreSync")+"\n---\n"+configMap("m", "x"))
	p.Hooks = &deploy.HookLog{Operation: "first"}
	b.apply(p)
	made := b.live("Job", "once").GetUID()
	b.apply(p)
	if got := b.live("Job", "once").GetUID(); got != made {
		t.Error("the same operation has made its hook twice")
	}
	var noted []deploy.HookRun
	p.Hooks = &deploy.HookLog{Operation: "second", Note: func(_ context.Context, r deploy.HookRun, _ error) error {
		noted = append(noted, r)
		return nil
	}}
	b.apply(p)
	if got := b.live("Job", "once").GetUID(); got == made {
		t.Error("another operation has not made the hook anew")
	}
	if len(noted) != 1 || noted[0].Ref.Name != "once" || noted[0].Phase != "PreSync" {
		t.Fatalf("noted %v", noted)
	}
	p.Hooks = &deploy.HookLog{Operation: "third", Done: map[deploy.HookRun]error{noted[0]: nil}}
	made = b.live("Job", "once").GetUID()
	b.apply(p)
	if got := b.live("Job", "once").GetUID(); got != made {
		t.Error("a hook that is done was made again")
	}
}

func TestDeleteWaitsForFinalizers(t *testing.T) {
	b := newBench(t)
	owner := kustomization("k")
	out := b.apply(b.plan(owner, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, finalizers: [example.com/hold]}"))
	d := deploy.Deletion{Owner: owner, Inventory: out.Inventory, Wait: true}
	for range 2 {
		held, err := b.deployer.Delete(t.Context(), d)
		var waiting *deploy.WaitingError
		if !errors.As(err, &waiting) || waiting.Objects[0].Until != deploy.UntilGone || len(held.Inventory) != 1 {
			t.Fatalf("error is %v, inventory %v", err, held.Inventory)
		}
	}
	b.edit("ConfigMap", "m", func(o *unstructured.Unstructured) { o.SetFinalizers(nil) })
	if out, err := b.delete(d); err != nil || len(out.Inventory) != 0 {
		t.Errorf("error is %v, inventory %v", err, out.Inventory)
	}
}

func TestCreateNamespace(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), configMap("m", "x"))
	p.Options.Namespace = b.namespace + "-new"
	_, err := b.deployer.Apply(t.Context(), p)
	var object *deploy.ObjectError
	if !errors.As(err, &object) || object.Reason != deploy.MissingNamespace {
		t.Fatalf("error is %v", err)
	}
	p.Options.CreateNamespace = true
	p.Options.NamespaceLabels = map[string]string{"team": "shop"}
	out := b.apply(p)
	ns, err := cluster.Client.CoreV1().Namespaces().Get(t.Context(), p.Options.Namespace, metav1.GetOptions{})
	if err != nil || ns.Labels["team"] != "shop" || len(out.Inventory) != 1 {
		t.Errorf("the namespace is %v, %v; inventory %v", ns.Labels, err, out.Inventory)
	}
	p.Options.NamespaceLabels = map[string]string{"tier": "web"}
	b.apply(p)
	ns, err = cluster.Client.CoreV1().Namespaces().Get(t.Context(), p.Options.Namespace, metav1.GetOptions{})
	if err != nil || ns.Labels["team"] != "" || ns.Labels["tier"] != "web" {
		t.Errorf("the namespace is %v, %v", ns.Labels, err)
	}
}

func TestReplace(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), configMap("m", "x"))
	p.Options.Replace = true
	expect(t, "create", actions(b.apply(p)), "created ConfigMap m")
	b.edit("ConfigMap", "m", func(o *unstructured.Unstructured) { _ = unstructured.SetNestedField(o.Object, "x", "data", "theirs") })
	expect(t, "replace", actions(b.apply(p)), "configured ConfigMap m")
	if got := field(b.live("ConfigMap", "m"), "data"); got != "key: x" {
		t.Errorf("replaced by %s", got)
	}
	expect(t, "again", actions(b.apply(p)), "unchanged ConfigMap m")
}
