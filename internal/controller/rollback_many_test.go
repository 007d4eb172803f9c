package controller

import (
	"errors"
	"strings"
	"testing"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// TestRollbackTogether rolls two Applications back by one commit, and neither
// where one of them cannot.
func TestRollbackTogether(t *testing.T) {
	h := newHouse(t)
	repo := h.repo("together", map[string]string{"base/cm.yaml": configMap("settings", "good"), "base/kustomization.yaml": "resources: [cm.yaml]\n",
		"one/kustomization.yaml": "resources: [../base]\nnameSuffix: -one\n", "two/kustomization.yaml": "resources: [../base]\nnameSuffix: -two\n"})
	good := repo.Head()
	var requests []RollbackRequest
	for _, name := range []string{"one", "two"} {
		h.apply(h.application("together-"+name, "together", name, "together", automated))
		defer h.delete(appObject("together-" + name))
		h.waitApp("together-"+name, "to be synced", healthy)
		requests = append(requests, RollbackRequest{Owner: argoOwner("together-" + name), Reason: "it is bad", User: core.User{Name: "alice"}})
	}
	bad := h.push(repo, map[string]string{"base/cm.yaml": configMap("settings", "bad"), "two/kustomization.yaml": "resources: [../base]\nnameSuffix: -two\nnamePrefix: x-\n"})
	for _, name := range []string{"one", "two"} {
		h.waitApp("together-"+name, "to have the bad revision", func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == bad })
	}

	results, err := h.engine.RollbackAll(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	commit := results[0].Commit
	if commit == "" || results[1].Commit != commit || results[0].Pinned || results[0].Revision != good || results[1].Revision != good {
		t.Fatalf("results %+v %+v", results[0], results[1])
	}
	if got := strings.Join(results[1].Changed, " "); got != "base/cm.yaml two/kustomization.yaml" {
		t.Errorf("two changed %s", got)
	}
	h.waitLive("v1", "ConfigMap", "together", "settings-one", field("good", "data", "key"))
	h.waitLive("v1", "ConfigMap", "together", "settings-two", field("good", "data", "key"))
	repo.Git("pull", "-q", "origin", "main")
	if got := repo.Git("log", "-1", "--format=%an %s %p"); got != "alice Roll together-one, together-two back to "+short7(good)+" "+short7(bad) {
		t.Errorf("commit %q", got)
	}

	// One that cannot go back keeps all from it.
	requests = append(requests, RollbackRequest{Owner: argoOwner("nobody"), User: core.User{Name: "alice"}})
	if _, err := h.engine.RollbackAll(t.Context(), requests); err == nil || !strings.Contains(err.Error(), "nobody") || !strings.Contains(err.Error(), "nothing was done") {
		t.Errorf("error %v", err)
	}
	// Each would go back by one entry of its own history, which are different.
	next := h.push(repo, map[string]string{"one/kustomization.yaml": "resources: [../base]\nnameSuffix: -one\nnamePrefix: y-\n"})
	h.waitApp("together-one", "to have it", func(a *argo.Application) bool {
		return healthy(a) && len(a.Status.History) > 0 && a.Status.History[len(a.Status.History)-1].Revision == next
	})
	var conflict *RollbackConflictError
	if _, err := h.engine.RollbackAll(t.Context(), requests[:2]); !errors.As(err, &conflict) {
		t.Errorf("error %v", err)
	}
}
