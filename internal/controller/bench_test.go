package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// until returns how long it takes from start until the watched Deployment is
// as check wants it. The watch is there before start is called.
func (h *house) until(namespace, name string, start func(), check func(*unstructured.Unstructured) bool) time.Duration {
	h.t.Helper()
	c, err := client.NewWithWatch(cluster.Config, client.Options{})
	if err != nil {
		h.t.Fatal(err)
	}
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("apps/v1")
	list.SetKind("DeploymentList")
	w, err := c.Watch(h.ctx, list, client.InNamespace(namespace), client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", name)})
	if err != nil {
		h.t.Fatal(err)
	}
	defer w.Stop()
	<-w.ResultChan() // as it is now
	began := time.Now()
	start()
	for e := range w.ResultChan() {
		if u, ok := e.Object.(*unstructured.Unstructured); ok && check(u) {
			return time.Since(began)
		}
	}
	h.t.Fatal("the watch ended")
	return 0
}

func deployment(name string, replicas int, image string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: web, image: "%[3]s"}]}
`, name, replicas, image)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(p float64) float64 { return took[min(len(took)-1, int(p*float64(len(took))))].Seconds() * 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.95), "p95-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkPushToLive: from the start of `git push` of one changed manifest to
// the live object's change, as a watch sees it.
func BenchmarkPushToLive(b *testing.B) {
	h := newHouse(b)
	h.namespace("argocd")
	repo := h.repo("bench", map[string]string{"app/d.yaml": deployment("web", 1, "web:0")})
	h.apply(h.application("bench", "bench", "app", "bench", automated))
	defer h.delete(appObject("bench"))
	h.waitApp("bench", "to be synced", synced)
	var took []time.Duration
	for i := 1; b.Loop(); i++ {
		image := fmt.Sprintf("web:%d", i)
		repo.Commit("change", map[string]string{"app/d.yaml": deployment("web", 1, image)})
		took = append(took, h.until("bench", "web", func() { repo.Git("push", "-q", "origin", "HEAD:main") }, func(u *unstructured.Unstructured) bool {
			list, _, _ := unstructured.NestedSlice(u.Object, "spec", "template", "spec", "containers")
			return len(list) == 1 && list[0].(map[string]any)["image"] == image
		}))
	}
	report(b, took)
}

// BenchmarkHeal: from the start of a scale by hand to its being undone.
func BenchmarkHeal(b *testing.B) {
	h := newHouse(b)
	h.namespace("argocd")
	h.repo("heal", map[string]string{"app/d.yaml": deployment("web", 1, "web:0")})
	h.apply(h.application("heal", "heal", "app", "heal", automated))
	defer h.delete(appObject("heal"))
	h.waitApp("heal", "to be synced", synced)
	var took []time.Duration
	for b.Loop() {
		time.Sleep(healForget + 200*time.Millisecond) // in sync for a second
		scaled := false
		took = append(took, h.until("heal", "web", func() {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"replicas":4}}`))
			d := &unstructured.Unstructured{}
			d.SetAPIVersion("apps/v1")
			d.SetKind("Deployment")
			d.SetNamespace("heal")
			d.SetName("web")
			if err := h.kube.Patch(h.ctx, d, patch, client.FieldOwner("kubectl")); err != nil {
				b.Fatal(err)
			}
		}, func(u *unstructured.Unstructured) bool {
			n, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
			scaled = scaled || n == 4
			return scaled && n == 1
		}))
	}
	report(b, took)
}
