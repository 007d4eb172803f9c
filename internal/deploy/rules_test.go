package deploy_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

func TestImmutableField(t *testing.T) {
	b := newBench(t)
	manifest := func(app, annotations string) string {
		return strings.ReplaceAll(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {`+annotations+`}}
spec:
  selector: {matchLabels: {app: APP}}
  template: {metadata: {labels: {app: APP}}, spec: {containers: [{name: c, image: i}]}}
---
`+configMap("beside", app), "APP", app)
	}
	for _, c := range []struct {
		owner core.Owner
		force string
	}{
		{application("a"), "argocd.argoproj.io/sync-options: Force=true"},
		{kustomization("k"), "kustomize.toolkit.fluxcd.io/force: enabled"},
	} {
		t.Run(string(c.owner.Dialect), func(t *testing.T) {
			b.apply(b.plan(c.owner, manifest("one", "")))
			_, err := b.deployer.Apply(t.Context(), b.plan(c.owner, manifest("two", "")))
			var object *deploy.ObjectError
			if !errors.As(err, &object) || object.Reason != deploy.Immutable || object.Ref.Name != "web" ||
				!strings.Contains(err.Error(), "spec.selector") || object.Hint() == "" {
				t.Fatalf("error is %v", err)
			}
			if got := field(b.live("ConfigMap", "beside"), "data", "key"); got != "one" {
				t.Errorf("the object beside was changed to %s", got)
			}
			before := b.live("Deployment", "web").GetUID()
			b.apply(b.plan(c.owner, manifest("two", c.force)))
			after := b.live("Deployment", "web")
			if after.GetUID() == before || field(after, "spec", "selector", "matchLabels", "app") != "two" {
				t.Errorf("it was not recreated: %s", field(after, "spec", "selector"))
			}
			if _, err := b.delete(deploy.Deletion{Owner: c.owner, Propagation: "background", Wait: true, Inventory: []core.ObjectRef{ref(after)}}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What cannot be changed in place is deleted only if the new one is accepted.
func TestForceKeepsWhatCannotBeReplaced(t *testing.T) {
	b := newBench(t)
	owner := application("a")
	manifest := func(name, app, image string) string {
		return `apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {argocd.argoproj.io/sync-options: Force=true}}
spec:
  selector: {matchLabels: {app: ` + app + `}}
  template: {metadata: {labels: {app: ` + app + `}}, spec: {containers: [{name: ` + name + `, image: ` + image + `}]}}`
	}
	b.apply(b.plan(owner, manifest("c", "one", "i")))
	before := b.live("Deployment", "web").GetUID()
	for name, broken := range map[string]string{
		"also invalid":            manifest("Not_a_Name", "two", "i"),
		"invalid and no conflict": manifest("updates.to.it-are-forbidden", "one", "i"),
	} {
		_, err := b.deployer.Apply(t.Context(), b.plan(owner, broken))
		var object *deploy.ObjectError
		if !errors.As(err, &object) || object.Reason != deploy.Invalid {
			t.Errorf("%s: error is %v", name, err)
		}
		if live := b.live("Deployment", "web"); live == nil || live.GetUID() != before {
			t.Fatalf("%s: the live object was deleted", name)
		}
	}
}

func TestSharedResource(t *testing.T) {
	b := newBench(t)
	b.owners(application("first-"+b.namespace), application("second-"+b.namespace), kustomization("k-"+b.namespace))
	first, second, flux := application("first-"+b.namespace), application("second-"+b.namespace), kustomization("k-"+b.namespace)
	b.apply(b.plan(first, configMap("m", "first")))

	out := b.apply(b.plan(second, configMap("m", "second")))
	if len(out.Warnings) != 1 || out.Warnings[0].Kind != deploy.SharedResource || !strings.HasPrefix(out.Warnings[0].Message, "ConfigMap/m is part of applications") || len(out.Inventory) != 0 {
		t.Errorf("warnings are %q, inventory %v", out.Warnings, out.Inventory)
	}
	strict := b.plan(second, configMap("m", "second")+"\n---\n"+configMap("mine", "x"))
	strict.Options.FailOnSharedResource = true
	for _, p := range []deploy.Plan{strict, b.plan(flux, configMap("m", "flux")+"\n---\n"+configMap("mine", "x"))} {
		_, err := b.deployer.Apply(t.Context(), p)
		var object *deploy.ObjectError
		if !errors.As(err, &object) || object.Reason != deploy.Shared {
			t.Errorf("%s: error is %v", p.Owner, err)
		}
	}
	if got := field(b.live("ConfigMap", "m"), "data", "key"); got != "first" || b.live("ConfigMap", "mine") != nil {
		t.Errorf("it was taken: %s", got)
	}
	// Its owner is gone: it is free.
	b.disown(first)
	b.apply(b.plan(second, configMap("m", "second")))
	if got := field(b.live("ConfigMap", "m"), "data", "key"); got != "second" {
		t.Errorf("it was not taken: %s", got)
	}
}

func TestTwoKustomizations(t *testing.T) {
	b := newBench(t)
	first, second := kustomization("one-"+b.namespace), kustomization("two-"+b.namespace)
	b.owners(first, second)
	out := b.apply(b.plan(first, configMap("m", "first")))
	b.apply(b.plan(second, configMap("m", "second")))
	m := b.live("ConfigMap", "m")
	if field(m, "data", "key") != "second" || m.GetLabels()["kustomize.toolkit.fluxcd.io/name"] != second.Name {
		t.Errorf("the last one did not take it over: %v", m.GetLabels())
	}
	// The first one no longer has it in Git, and its prune leaves it.
	p := b.plan(first, "")
	p.Inventory, p.Options.Prune = out.Inventory, true
	if out := b.apply(p); len(out.Inventory) != 0 || b.live("ConfigMap", "m") == nil {
		t.Errorf("the first one pruned it: %v", actions(out))
	}
}

// What kubectl, Argo CD and Flux applied before: a field that is then deleted
// in Git disappears in the cluster.
func TestAdoption(t *testing.T) {
	const before = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {keep: x, drop: it}"
	for manager, operation := range map[string]types.PatchType{
		"kubectl-client-side-apply": types.MergePatchType, "argocd-controller": types.MergePatchType,
		"kustomize-controller": types.ApplyPatchType, "helm-controller": types.MergePatchType, "kubectl": types.ApplyPatchType,
	} {
		for _, owner := range []core.Owner{application("a"), kustomization("k")} {
			t.Run(manager+" to "+owner.Kind, func(t *testing.T) {
				b := newBench(t)
				obj := objects(t, before)[0]
				obj.SetNamespace(b.namespace)
				if strings.HasPrefix(manager, "kubectl-c") {
					obj.SetAnnotations(map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"})
				}
				b.applyAs(obj, manager, operation == types.ApplyPatchType)
				b.apply(b.plan(owner, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {keep: x}"))
				m := b.live("ConfigMap", "m")
				if got := field(m, "data"); got != "keep: x" {
					t.Errorf("data is %s", got)
				}
				for _, e := range m.GetManagedFields() {
					if e.Manager != deploy.FieldManager {
						t.Errorf("%s still owns fields", e.Manager)
					}
				}
				if _, ok := m.GetAnnotations()["kubectl.kubernetes.io/last-applied-configuration"]; ok {
					t.Error("kubectl's annotation is still there")
				}
			})
		}
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	b := newBench(t)
	const secret, other = "hunter2-hunter2", "correct-horse"
	manifest := func(v string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: " + v + ", same: x}"
	}
	p := b.plan(application("a"), manifest(secret))
	b.apply(p)
	if got := field(b.live("Secret", "s"), "data", "password"); got != base64.StdEncoding.EncodeToString([]byte(secret)) {
		t.Errorf("the password is %s", got)
	}
	p.Objects = objects(t, manifest(other))
	c, err := b.deployer.Compare(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	d := c.Differences[0]
	text := fmt.Sprint(d.Live, d.Wanted, d.Message, d.Err)
	j, _ := json.Marshal(c)
	for _, s := range []string{secret, other} {
		for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s))} {
			if strings.Contains(text+string(j), form) {
				t.Errorf("the comparison shows %q:\n%s", s, text)
			}
		}
	}
	if field(d.Wanted, "stringData", "password")+field(d.Wanted, "data", "password") != "++++++++ (after)" ||
		field(d.Wanted, "data", "same") != field(d.Live, "data", "same") {
		t.Errorf("the difference does not say what changes:\n%s", text)
	}
	for bad, says := range map[string]string{
		"data: {password: " + secret + "!}":                  "data.password is not base64",
		"stringData: {password: [" + secret + "], other: 1}": "stringData.other is not a string; stringData.password is not a string",
		"data: " + secret:        "data is not a map",
		"type: [" + secret + "]": "type has the wrong type",
		"type: kubernetes.io/tls\ndata: {password: " + base64.StdEncoding.EncodeToString([]byte(secret)) + "}": "data[tls.crt]",
		secret + ": x": "refused (",
	} {
		p.Objects = objects(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n"+bad)
		_, err := b.deployer.Apply(t.Context(), p)
		if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "()") {
			t.Errorf("error is %v, want %s", err, says)
		}
	}
}

func TestOptionsAreRefusedByName(t *testing.T) {
	b := newBench(t)
	for annotation, want := range map[string]string{
		"argocd.argoproj.io/sync-options: Prune=maybe":                                 `argocd.argoproj.io/sync-options: "Prune=maybe" is not supported`,
		"argocd.argoproj.io/compare-options: Something":                                `"Something"`,
		"argocd.argoproj.io/sync-wave: first":                                          `argocd.argoproj.io/sync-wave: "first"`,
		"argocd.argoproj.io/hook: Sometime":                                            `argocd.argoproj.io/hook: "Sometime"`,
		"{argocd.argoproj.io/hook: Sync, argocd.argoproj.io/hook-delete-policy: Never": `"Never"`,
	} {
		annotation = strings.TrimPrefix(annotation, "{")
		_, err := b.deployer.Apply(t.Context(), b.plan(application("a"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, annotations: {"+annotation+"}}"))
		var object *deploy.ObjectError
		if !errors.As(err, &object) || object.Reason != deploy.Unsupported || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v", annotation, err)
		}
	}
	_, err := b.deployer.Apply(t.Context(), b.plan(kustomization("k"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, annotations: {kustomize.toolkit.fluxcd.io/ssa: Perhaps}}"))
	if err == nil || !strings.Contains(err.Error(), `kustomize.toolkit.fluxcd.io/ssa: "Perhaps" is not supported`) {
		t.Errorf("error is %v", err)
	}
}

func TestFluxSettings(t *testing.T) {
	b := newBench(t)
	k := kustomization("k")
	manifest := func(setting, value string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, annotations: {kustomize.toolkit.fluxcd.io/" + setting + "}}\ndata: {key: " + value + "}"
	}
	b.apply(b.plan(k, manifest("ssa: IfNotPresent", "made")))
	expect(t, "IfNotPresent", actions(b.apply(b.plan(k, manifest("ssa: IfNotPresent", "changed")))), "skipped ConfigMap m")
	expect(t, "Ignore", actions(b.apply(b.plan(k, manifest("ssa: Ignore", "changed")))), "skipped ConfigMap m")
	expect(t, "reconcile", actions(b.apply(b.plan(k, manifest("reconcile: disabled", "changed")))), "skipped ConfigMap m")
	if got := field(b.live("ConfigMap", "m"), "data", "key"); got != "made" {
		t.Errorf("it was changed to %s", got)
	}
	// Merge leaves what kubectl added, Override takes it away.
	b.apply(b.plan(k, manifest("ssa: Merge", "merged")))
	b.edit("ConfigMap", "m", func(o *unstructured.Unstructured) { _ = unstructured.SetNestedField(o.Object, "x", "data", "added") })
	b.apply(b.plan(k, manifest("ssa: Merge", "again")))
	if got := field(b.live("ConfigMap", "m"), "data"); got != "added: x\nkey: again" {
		t.Errorf("merged to %s", got)
	}
	b.apply(b.plan(k, manifest("ssa: Override", "again")))
	if got := field(b.live("ConfigMap", "m"), "data"); got != "key: again" {
		t.Errorf("overridden to %s", got)
	}
	p := b.plan(k, "")
	p.Options.Prune = true
	b.apply(b.plan(k, manifest("prune: disabled", "again")))
	p.Inventory = []core.ObjectRef{ref(b.live("ConfigMap", "m"))}
	if out := b.apply(p); b.live("ConfigMap", "m") == nil || len(out.Inventory) != 0 {
		t.Errorf("prune: disabled was pruned, or kept in the inventory %v", out.Inventory)
	}
}

func TestIgnoredDifferences(t *testing.T) {
	b := newBench(t)
	rules := map[string]deploy.IgnoreDifference{
		"pointer": {Group: "apps", Kind: "Deployment", JSONPointers: []string{"/spec/replicas"}},
		"jq":      {Group: "*", Kind: "Deployment", JQPaths: []string{".spec | select(.replicas > 1) | .replicas"}},
		"manager": {Group: "apps", Kind: "Deployment", Name: "web", Managers: []string{"autoscaler"}},
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.plan(application("a"), strings.SplitN(web, "\n---", 2)[0])
			p.Options.IgnoreDifferences = []deploy.IgnoreDifference{rule}
			b.apply(p)
			b.scale("web", 5, "autoscaler")
			c, err := b.deployer.Compare(t.Context(), p)
			if err != nil || !c.InSync {
				t.Fatalf("the comparison is %+v, %v", c, err)
			}
			expect(t, "apply", actions(b.apply(p)), "unchanged Deployment web")
			// Another change resets it, or with RespectIgnoreDifferences not.
			_ = unstructured.SetNestedField(p.Objects[0].Object, int64(7), "spec", "minReadySeconds")
			p.Options.RespectIgnoreDifferences = true
			b.apply(p)
			if got := field(b.live("Deployment", "web"), "spec", "replicas"); got != "5" {
				t.Errorf("respected, it has %s replicas", got)
			}
			b.scale("web", 5, "autoscaler")
			_ = unstructured.SetNestedField(p.Objects[0].Object, int64(8), "spec", "minReadySeconds")
			p.Options.RespectIgnoreDifferences = false
			b.apply(p)
			if got := field(b.live("Deployment", "web"), "spec", "replicas"); got != "2" {
				t.Errorf("not respected, it has %s replicas", got)
			}
		})
	}
	for _, bad := range []string{".spec |", "def f: f; f"} {
		p := b.plan(application("a"), configMap("m", "x"))
		p.Options.IgnoreDifferences = []deploy.IgnoreDifference{{JQPaths: []string{bad}}}
		b.apply(deploy.Plan{Owner: p.Owner, Objects: p.Objects, Options: deploy.Options{Namespace: b.namespace}})
		_, err := b.deployer.Apply(t.Context(), p)
		if err == nil || !strings.Contains(err.Error(), "ignoreDifferences: jq expression") {
			t.Errorf("%q: error is %v", bad, err)
		}
	}
}

func TestCompare(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), web)
	out := b.apply(p)
	p.Inventory = out.Inventory
	p.Objects = objects(t, strings.Replace(strings.SplitN(web, "\n---\napiVersion: v1\nkind: ConfigMap", 2)[0], "replicas: 2", "replicas: 3", 1)+"\n---\n"+configMap("new", "x"))
	c, err := b.deployer.Compare(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range c.Differences {
		got = append(got, string(d.State)+" "+d.Ref.Kind+" "+d.Ref.Name)
	}
	slices.Sort(got)
	expect(t, "differences", got, "Extra ConfigMap web", "InSync Service web", "Missing ConfigMap new", "Modified Deployment web")
	for _, d := range c.Differences {
		if d.State == deploy.Modified {
			if live, wanted := field(d.Live, "spec", "replicas"), field(d.Wanted, "spec", "replicas"); live != "2" || wanted != "3" {
				t.Errorf("replicas are %s, wanted %s", live, wanted)
			}
			if text := fmt.Sprint(d.Live, d.Wanted); strings.Contains(text, "managedFields") || strings.Contains(text, "fairway-cd.io/applied") {
				t.Errorf("the difference is\n%s", text)
			}
		}
	}
	if c.InSync {
		t.Error("all is in sync")
	}
	if b.live("ConfigMap", "new") != nil {
		t.Error("a comparison made an object")
	}
}

func ref(obj *unstructured.Unstructured) core.ObjectRef {
	gvk := obj.GroupVersionKind()
	return core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// applyAs makes an object as another deliverer does: by create and update, or
// by server-side apply.
func (b *bench) applyAs(obj *unstructured.Unstructured, manager string, server bool) {
	b.Helper()
	res, err := b.client.For(ref(obj))
	if err != nil {
		b.Fatal(err)
	}
	if server {
		_, err = res.Apply(b.Context(), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: manager})
	} else {
		_, err = res.Create(b.Context(), obj, metav1.CreateOptions{FieldManager: manager})
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) scale(name string, replicas int64, manager string) {
	b.Helper()
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	if _, err := cluster.Client.AppsV1().Deployments(b.namespace).Patch(b.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: manager}); err != nil {
		b.Fatal(err)
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("a"), configMap("m", "x"))
	p.Options.DryRun, p.Options.CreateNamespace, p.Options.Namespace = true, true, b.namespace+"-none"
	expect(t, "dry run", actions(b.apply(p)), "created ConfigMap m")
	if _, err := cluster.Client.CoreV1().Namespaces().Get(t.Context(), p.Options.Namespace, metav1.GetOptions{}); err == nil {
		t.Error("the namespace was made")
	}
}

func TestUnvalidated(t *testing.T) {
	b := newBench(t)
	const manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {argocd.argoproj.io/sync-options: Validate=false}}\nspec: {ports: [{port: 80}], someday: x}"
	p := b.plan(application("a"), manifest)
	expect(t, "apply", actions(b.apply(p)), "created Service s")
	expect(t, "again", actions(b.apply(p)), "unchanged Service s")
}
