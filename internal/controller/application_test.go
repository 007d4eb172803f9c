package controller

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

func TestApplicationSyncsPrunesAndHeals(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	repo := h.repo("first", map[string]string{"app/a.yaml": configMap("a", "1"), "app/b.yaml": configMap("b", "1")})
	h.apply(h.application("first", "first", "app", "first", automated))
	defer h.delete(appObject("first"))

	a := h.waitApp("first", "to be synced", healthy)
	if len(a.Status.History) != 1 || a.Status.History[0].Revision != repo.Head() || len(a.Status.Resources) < 2 {
		t.Fatalf("status after the first sync: %s", describe(a))
	}
	if s := a.Status.OperationState; s == nil || s.Phase != argo.OperationSucceeded || !s.Operation.InitiatedBy.Automated {
		t.Fatalf("operation state: %s", describe(a))
	}

	// A push is brought out, and what is removed from Git is pruned.
	repo.Remove("app/b.yaml")
	second := h.push(repo, map[string]string{"app/a.yaml": configMap("a", "2")})
	h.waitLive("v1", "ConfigMap", "first", "a", field("2", "data", "key"))
	h.waitGone("v1", "ConfigMap", "first", "b")
	h.waitApp("first", "to have the second revision", func(a *argo.Application) bool {
		return healthy(a) && a.Status.Sync.Revision == second && len(a.Status.History) == 2
	})

	// A commit that concerns only others costs nothing: the status has the
	// revision that last concerned this one, until somebody asks.
	h.apply(h.application("other", "first", "other", "first", automated))
	defer h.delete(appObject("other"))
	other := h.push(repo, map[string]string{"other/c.yaml": configMap("c", "1")})
	atOther := func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == other }
	h.waitApp("other", "to have its first revision", atOther)
	before := h.refresh("first", other)
	other = h.push(repo, map[string]string{"other/c.yaml": configMap("c", "2"), "README.md": "hello"})
	h.waitApp("other", "to have its second revision", atOther)
	if a, err := h.app("first"); err != nil || a.ResourceVersion != before.ResourceVersion {
		t.Fatalf("an unrelated commit was written down: %v %s", err, describe(a))
	}
	if a = h.refresh("first", other); len(a.Status.History) != 2 || !healthy(a) {
		t.Fatalf("an unrelated commit was synced: %s", describe(a))
	}

	// Drift is healed, and so is a deletion.
	live := &corev1.ConfigMap{}
	if err := h.kube.Get(t.Context(), types.NamespacedName{Namespace: "first", Name: "a"}, live); err != nil {
		t.Fatal(err)
	}
	live.Data["key"] = "by hand"
	if err := h.kube.Update(t.Context(), live, client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "ConfigMap", "first", "a", field("2", "data", "key"))
	h.waitApp("first", "to be synced again", healthy)
	if err := h.kube.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "first", Name: "a"}}); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "ConfigMap", "first", "a", field("2", "data", "key"))
	a = h.waitApp("first", "to be synced after the deletion", healthy)
	if len(a.Status.History) != 2 {
		t.Fatalf("healing is no deployment: %s", describe(a))
	}
}

// refresh has an Application looked at again, and waits until it says that it
// is at the revision.
func (h *house) refresh(name, revision string) *argo.Application {
	h.t.Helper()
	a, err := h.app(name)
	if err != nil {
		h.t.Fatal(err)
	}
	before := a.DeepCopy()
	a.Annotations = map[string]string{argo.AnnotationRefresh: "normal"}
	if err := h.kube.Patch(h.t.Context(), a, client.MergeFrom(before)); err != nil {
		h.t.Fatal(err)
	}
	return h.waitApp(name, "to be refreshed", func(a *argo.Application) bool {
		return a.Annotations[argo.AnnotationRefresh] == "" && a.Status.Sync.Revision == revision
	})
}
