package backup_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/backup"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// manifests are objects as they are in clusters, in no order.
const manifests = `
apiVersion: example.com/v1
kind: Widget
metadata: {name: parent, namespace: back}
spec: {size: 1}
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: child, namespace: back}
spec: {size: 2}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: back}
spec: {ports: [{port: 80, nodePort: 30080}], type: NodePort, selector: {app: web}}
---
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: back, annotations: {kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
---
apiVersion: v1
kind: Secret
metadata: {name: by-hand, namespace: back}
stringData: {password: swordfish}
---
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, namespace: back}
spec:
  suspend: true
  ttlSecondsAfterFinished: 1000000000
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: x}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: back}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: x}]}}
`

const webhook = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: nobody}
webhooks:
- name: nobody.example.com
  clientConfig: {url: "https://127.0.0.1:1/"}
  failurePolicy: Fail
  sideEffects: None
  admissionReviewVersions: [v1]
  rules: [{apiGroups: [example.com], apiVersions: ["*"], operations: ["*"], resources: ["*"]}]
`

const widgets = `
apiVersion: v1
kind: Namespace
metadata: {name: back}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// What is in one cluster is in another one: field managers, owners and statuses
// too; and what each cluster makes by itself is not in the backup.
func TestObjectsComeBack(t *testing.T) {
	from, to := testkit.StartCluster(t, testkit.ClusterOptions{}), testkit.StartCluster(t, testkit.ClusterOptions{})
	a, err := dynamic.NewForConfig(from.Config)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, a, widgets)
	apply(t, a, manifests)
	custom := a.Resource(resource("example.com/v1", "widgets")).Namespace("back")
	parent := get(t, a, "example.com/v1", "widgets", "parent")
	merge(t, custom, "child", map[string]any{"metadata": map[string]any{"ownerReferences": []any{map[string]any{
		"apiVersion": "example.com/v1", "kind": "Widget", "name": "parent", "uid": string(parent.GetUID()), "controller": true}}}})
	merge(t, custom, "parent", map[string]any{"spec": map[string]any{"size": 3}})
	merge(t, custom, "parent", map[string]any{"status": map[string]any{"observedGeneration": 2, "phase": "Ready"}}, "status")
	jobs := a.Resource(resource("batch/v1", "jobs")).Namespace("back")
	merge(t, jobs, "migrate", map[string]any{"status": map[string]any{"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z",
		"succeeded": 1, "conditions": []any{condition("SuccessCriteriaMet"), condition("Complete")}}}, "status")
	merge(t, jobs, "migrate", map[string]any{"spec": map[string]any{"suspend": false}})
	apply(t, a, webhook)

	out, err := backup.NewCluster(from.Config)
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	var names []string
	if err := out.Collect(t.Context(), func(o *unstructured.Unstructured) error {
		objects = append(objects, o.DeepCopy())
		names = append(names, strings.Trim(o.GetKind()+"/"+o.GetNamespace()+"/"+o.GetName(), "/"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	want := "CustomResourceDefinition//widgets.example.com Deployment/back/web Job/back/migrate Namespace//back Secret/back/by-hand " +
		"Service/back/web StorageClass//local ValidatingWebhookConfiguration//nobody Widget/back/child Widget/back/parent"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("collected %s, want %s", got, want)
	}

	in, err := backup.NewCluster(to.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Restore(t.Context(), objects, nil); err != nil {
		t.Fatal(err)
	}
	b, err := dynamic.NewForConfig(to.Config)
	if err != nil {
		t.Fatal(err)
	}
	now := get(t, b, "example.com/v1", "widgets", "parent")
	status, _, _ := unstructured.NestedMap(now.Object, "status")
	if status["phase"] != "Ready" || status["observedGeneration"] != now.GetGeneration() {
		t.Errorf("status %v of generation %d", status, now.GetGeneration())
	}
	if refs := get(t, b, "example.com/v1", "widgets", "child").GetOwnerReferences(); len(refs) != 1 || refs[0].UID != now.GetUID() {
		t.Errorf("owners %v, want %s", refs, now.GetUID())
	}
	for _, o := range []*unstructured.Unstructured{now, get(t, b, "apps/v1", "deployments", "web")} {
		for _, f := range o.GetManagedFields() {
			if f.Manager == "fairway-restore" {
				t.Errorf("%s has a field of the restore: %s", o.GetName(), f.FieldsV1)
			}
		}
	}
	job := get(t, b, "batch/v1", "jobs", "migrate")
	suspended, _, _ := unstructured.NestedBool(job.Object, "spec", "suspend")
	done, _, _ := unstructured.NestedString(job.Object, "status", "completionTime")
	if suspended || done != "2026-01-01T00:01:00Z" {
		t.Errorf("the Job would run again: suspended %v, completed %q", suspended, done)
	}
}

func condition(what string) map[string]any {
	return map[string]any{"type": what, "status": "True", "reason": "CompletionsReached", "message": "Reached expected number of succeeded pods",
		"lastProbeTime": "2026-01-01T00:01:00Z", "lastTransitionTime": "2026-01-01T00:01:00Z"}
}

func resource(apiVersion, plural string) schema.GroupVersionResource {
	gv, _ := schema.ParseGroupVersion(apiVersion)
	return gv.WithResource(plural)
}

func get(t *testing.T, c dynamic.Interface, apiVersion, plural, name string) *unstructured.Unstructured {
	t.Helper()
	o, err := c.Resource(resource(apiVersion, plural)).Namespace("back").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func merge(t *testing.T, c dynamic.ResourceInterface, name string, change map[string]any, subresource ...string) {
	t.Helper()
	data, err := yaml.Marshal(change)
	if err == nil {
		data, err = yaml.YAMLToJSON(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Patch(t.Context(), name, types.MergePatchType, data, metav1.PatchOptions{}, subresource...); err != nil {
		t.Fatal(err)
	}
}

// apply server-side applies objects; a kind may be a moment old.
func apply(t *testing.T, c dynamic.Interface, text string) {
	t.Helper()
	for _, doc := range bytes.Split([]byte(text), []byte("\n---\n")) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &o.Object); err != nil {
			t.Fatal(err)
		}
		gvr := o.GroupVersionKind().GroupVersion().WithResource(strings.ToLower(o.GetKind()) + "s")
		var target dynamic.ResourceInterface = c.Resource(gvr)
		if ns := o.GetNamespace(); ns != "" {
			target = c.Resource(gvr).Namespace(ns)
		}
		testkit.Eventually(t, "an apply", func() error {
			_, err := target.Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "somebody", Force: true})
			return err
		})
	}
}
