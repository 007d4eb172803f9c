package controller

import (
	"maps"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/mark"
)

// What is written into an Application while it is reconciled (its operation,
// its status) is no drift for the Application that delivers it.
func TestApplicationOfApplications(t *testing.T) {
	h := newHouse(t)
	h.namespace("nested")
	inner := h.repo("nested-app", map[string]string{"app/a.yaml": configMap("a", "1")})
	h.repo("nested-root", map[string]string{"apps/nested.yaml": h.application("nested", "nested-app", "app", "nested", automated)})

	watching, err := client.NewWithWatch(cluster.Config, client.Options{Scheme: testScheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := watching.Watch(t.Context(), &argo.ApplicationList{}, client.InNamespace("argocd"))
	if err != nil {
		t.Fatal(err)
	}
	evidence, seen, done := map[string]bool{}, 0, make(chan struct{})
	go func() {
		defer close(done)
		for e := range changes.ResultChan() {
			if a, is := e.Object.(*argo.Application); is && a.Name == "nested" && e.Type != watch.Deleted {
				seen++
				evidence[a.Annotations[mark.AnnotationApplied]] = true
			}
		}
	}()
	h.apply(h.application("nested-root", "nested-root", "apps", "argocd", automated))
	defer h.delete(appObject("nested"))
	defer h.delete(appObject("nested-root"))
	h.waitApp("nested", "to be synced", healthy)
	h.waitApp("nested-root", "to be synced", healthy)
	second := h.push(inner, map[string]string{"app/a.yaml": configMap("a", "2")})
	h.waitApp("nested", "to have its second revision", func(a *argo.Application) bool {
		return healthy(a) && a.Status.Sync.Revision == second
	})
	h.waitApp("nested-root", "to be synced still", healthy)

	changes.Stop()
	<-done
	if seen < 3 {
		t.Fatalf("only %d changes of the inner Application were seen", seen)
	}
	if len(evidence) != 1 {
		t.Fatalf("the inner Application was applied more than once: %q", slices.Collect(maps.Keys(evidence)))
	}
}
