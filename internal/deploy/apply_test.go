package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/mark"
)

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example.com/web:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data: {key: value}`

func TestApplyTwiceChangesNothing(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("shop"), web)
	out := b.apply(p)
	expect(t, "first apply", actions(out), "created ConfigMap web", "created Service web", "created Deployment web")
	if len(out.Inventory) != 3 {
		t.Errorf("inventory is %v", out.Inventory)
	}
	d := b.live("Deployment", "web")
	if got, want := d.GetAnnotations()["argocd.argoproj.io/tracking-id"], "shop:apps/Deployment:"+b.namespace+"/web"; got != want {
		t.Errorf("tracking is %q, want %q", got, want)
	}
	if !mark.Intact(d) {
		t.Errorf("what was just applied does not look so: %v", d.GetAnnotations())
	}
	before := b.live("ConfigMap", "web").GetResourceVersion()
	p.Inventory = out.Inventory
	expect(t, "second apply", actions(b.apply(p)), "unchanged ConfigMap web", "unchanged Service web", "unchanged Deployment web")
	if after := b.live("ConfigMap", "web").GetResourceVersion(); after != before {
		t.Errorf("the second apply wrote: %s, then %s", before, after)
	}
}

// An object that somebody writes all the time never stands still while it is
// compared. It is applied all the same, and stays the object that it is.
func TestApplyToAnObjectThatIsNeverQuiet(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("busy"), configMap("busy", "v0"))
	b.apply(p)
	uid := b.live("ConfigMap", "busy").GetUID()
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	configs := cluster.Client.CoreV1().ConfigMaps(b.namespace)
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"writer-%d":"%d"}}}`, w, i)
				_, _ = configs.Patch(ctx, "busy", types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "somebody"})
			}
		})
	}
	for i := range 10 {
		b.apply(b.plan(application("busy"), configMap("busy", fmt.Sprint("v", i+1))))
	}
	stop()
	writers.Wait()
	busy := b.live("ConfigMap", "busy")
	if busy.GetUID() != uid || field(busy, "data", "key") != "v10" {
		t.Errorf("it is another object, or not as it was applied last: %v", busy.Object)
	}
}

func TestApplyHealsAndRemovesFields(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("shop"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1', b: '2'}")
	b.apply(p)
	b.edit("ConfigMap", "m", func(o *unstructured.Unstructured) {
		_ = unstructured.SetNestedField(o.Object, "by hand", "data", "a")
		_ = unstructured.SetNestedField(o.Object, "theirs", "data", "c")
	})
	if mark.Intact(b.live("ConfigMap", "m")) {
		t.Error("what was edited looks as applied")
	}
	p.Objects = objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: '1'}")
	expect(t, "apply", actions(b.apply(p)), "configured ConfigMap m")
	// a is back, b went with Git, c was never ours.
	if got := field(b.live("ConfigMap", "m"), "data"); got != "a: \"1\"\nc: theirs" {
		t.Errorf("data is %s", got)
	}
}

func TestPlanWithOneBadObjectAppliesNothing(t *testing.T) {
	b := newBench(t)
	p := b.plan(application("shop"), configMap("good", "x")+`
---
apiVersion: v1
kind: Service
metadata: {name: bad}
spec: {ports: [{port: 99999}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: worse}
spec: {replicaas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}
---
apiVersion: example.com/v1
kind: Nothing
metadata: {name: missing}`)
	out, err := b.deployer.Apply(t.Context(), p)
	var plan *deploy.PlanError
	if !errors.As(err, &plan) || plan.Applied || len(plan.Objects) != 3 {
		t.Fatalf("error is %v", err)
	}
	reasons := map[string]deploy.Reason{}
	for _, o := range plan.Objects {
		reasons[o.Ref.Name] = o.Reason
		if strings.Contains(o.Error(), "\n") {
			t.Errorf("not one line: %q", o.Error())
		}
	}
	want := map[string]deploy.Reason{"bad": deploy.Invalid, "worse": deploy.Invalid, "missing": deploy.MissingKind}
	for name, r := range want {
		if reasons[name] != r {
			t.Errorf("%s is refused as %q, want %q", name, reasons[name], r)
		}
	}
	if b.live("ConfigMap", "good") != nil || len(out.Inventory) != 0 {
		t.Error("the good object was applied")
	}
	t.Log(err)
}

func TestKindsAndNamespacesThatComeWithThePlan(t *testing.T) {
	b := newBench(t)
	for _, owner := range []core.Owner{application("defs"), kustomization("defs")} {
		t.Run(string(owner.Dialect), func(t *testing.T) {
			group := strings.SplitN(string(owner.Dialect), ".", 2)[0] + "." + b.namespace + ".example.com"
			ns := b.namespace + "-" + strings.SplitN(string(owner.Dialect), ".", 2)[0]
			p := b.plan(owner, `
apiVersion: `+group+`/v1
kind: Thing
metadata: {name: one, namespace: `+ns+`}
spec: {size: 1}
---
apiVersion: v1
kind: Namespace
metadata: {name: `+ns+`}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.`+group+`}
spec:
  group: `+group+`
  scope: Namespaced
  names: {kind: Thing, plural: things}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}}]`)
			out := b.apply(p)
			got := actions(out)
			if got[2] != "created Thing one" {
				t.Errorf("results are %v", got)
			}
			p.Inventory = out.Inventory
			for _, r := range b.apply(p).Results {
				if r.Action != deploy.Unchanged {
					t.Errorf("second apply: %s %s", r.Action, r.Ref)
				}
			}
			if _, err := b.deployer.Delete(t.Context(), deploy.Deletion{Owner: owner, Inventory: out.Inventory}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestApplyValidatesInTheNamespaceThatItMakes: an object that is refused is
// known of before another one is applied, although there is no namespace at
// first to validate it in.
func TestApplyValidatesInTheNamespaceThatItMakes(t *testing.T) {
	b := newBench(t)
	b.namespace += "-new"
	p := b.plan(application("fresh"), configMap("m", "x")+"\n---\n"+
		"apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}")
	p.Options.CreateNamespace = true
	out, err := b.deployer.Apply(t.Context(), p)
	var plan *deploy.PlanError
	if !errors.As(err, &plan) || plan.Applied || !strings.Contains(err.Error(), "bad") {
		t.Errorf("error is %v", err)
	}
	if b.live("ConfigMap", "m") != nil || len(out.Inventory) != 0 {
		t.Errorf("half of it was applied: %v", out.Inventory)
	}
}

// TestApplyPodWithItsServiceAccount: admission forbids a Pod whose service
// account is not there, in a dry run too, where the plan brings it.
func TestApplyPodWithItsServiceAccount(t *testing.T) {
	b := newBench(t)
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {serviceAccountName: runner, containers: [{name: c, image: example.com/c}]}`
	var object *deploy.ObjectError
	if _, err := b.deployer.Apply(t.Context(), b.plan(application("pod"), pod)); !errors.As(err, &object) || !strings.Contains(err.Error(), "runner") {
		t.Errorf("without its account: error is %v", err)
	}
	b.apply(b.plan(application("pod"), pod+"\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: runner}"))
	if b.live("Pod", "p") == nil {
		t.Error("the Pod is not there")
	}
}

// TestApplySaysHowFarItCame: a failure that no validation foresees names what
// was changed before and what was not come to.
func TestApplySaysHowFarItCame(t *testing.T) {
	b := newBench(t)
	const kind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: farkinds.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: FarKind, plural: farkinds}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {n: {type: integer}}}}}}}
---
apiVersion: example.com/v1
kind: FarKind
metadata: {name: bad}
spec: {n: many}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: later, annotations: {argocd.argoproj.io/sync-wave: "1"}}`
	_, err := b.deployer.Apply(t.Context(), b.plan(application("far"), kind))
	var plan *deploy.PlanError
	if !errors.As(err, &plan) || !plan.Applied || plan.Changed != 1 || plan.Unreached != 1 || !strings.Contains(err.Error(), "changed before that: 1, not reached: 1") {
		t.Errorf("error is %v", err)
	}
}
