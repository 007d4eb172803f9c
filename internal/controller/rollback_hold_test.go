package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// watchedCommits looks before each commit.
type watchedCommits struct {
	Commits
	before func(CommitRequest)
}

func (c watchedCommits) Commit(ctx context.Context, req CommitRequest) (core.Revision, error) {
	c.before(req)
	return c.Commits.Commit(ctx, req)
}

// sources is an Application of plain directories in several repositories.
func (h *house) sources(name string, repos ...string) string {
	manifest := h.application(name, "x", "app", name, automated)
	list := "  sources:\n"
	for _, repo := range repos {
		list += fmt.Sprintf("  - {repoURL: %s%s.git, path: app}\n", h.url, repo)
	}
	before, rest, _ := strings.Cut(manifest, "  source:\n")
	_, after, _ := strings.Cut(rest, "  destination:\n")
	return before + list + "  destination:\n" + after
}

// TestRollbackIsHeldMeanwhile: while the commits of several repositories are
// made the Application is pinned to what is good, so no half is brought out;
// and a repository that is lost in the middle of it is pinned.
func TestRollbackIsHeldMeanwhile(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	one := h.repo("hold-one", map[string]string{"app/one.yaml": configMap("one", "good")})
	two := h.repo("hold-two", map[string]string{"app/two.yaml": configMap("two", "good")})
	good := one.Head() + "," + two.Head()
	h.apply(h.sources("hold", "hold-one", "hold-two"))
	defer h.delete(appObject("hold"))
	h.waitApp("hold", "to be synced", func(a *argo.Application) bool { return healthy(a) && len(a.Status.History) == 1 })
	bad := func(value string) {
		n := len(h.waitApp("hold", "to be synced", healthy).Status.History)
		h.push(one, map[string]string{"app/one.yaml": configMap("one", value)})
		h.waitApp("hold", "to have the first", func(a *argo.Application) bool { return healthy(a) && len(a.Status.History) == n+1 })
		h.push(two, map[string]string{"app/two.yaml": configMap("two", value)})
		h.waitApp("hold", "to have the second", func(a *argo.Application) bool { return healthy(a) && len(a.Status.History) == n+2 })
	}
	bad("bad")
	pins, lose := []string{}, ""
	h.engine.stages.Commits = watchedCommits{h.engine.stages.Commits, func(req CommitRequest) {
		a, err := h.app("hold")
		if err != nil {
			t.Error(err)
			return
		}
		pins = append(pins, a.Annotations[AnnotationPinnedRevision])
		if req.Repository.Name == lose {
			if err := h.store.Delete(t.Context(), req.Repository); err != nil {
				t.Error(err)
			}
		}
	}}
	request := RollbackRequest{Owner: argoOwner("hold"), To: "0", User: core.User{Name: "alice"}}
	result, err := h.engine.Rollback(t.Context(), request)
	if err != nil || result.Pinned || len(result.Parts) != 2 || result.Parts[0].Commit == "" || result.Parts[1].Commit == "" {
		t.Fatalf("%+v, %v", result, err)
	}
	if len(pins) != 2 || pins[0] != good || pins[1] != good {
		t.Errorf("while it was committed the pin was %q, want %q", pins, good)
	}
	h.waitApp("hold", "to be let go", func(a *argo.Application) bool {
		return healthy(a) && a.Annotations[AnnotationPinnedRevision] == "" && len(a.Status.Conditions) == 0
	})
	h.waitLive("v1", "ConfigMap", "hold", "one", field("good", "data", "key"))
	h.waitLive("v1", "ConfigMap", "hold", "two", field("good", "data", "key"))

	one.Git("pull", "-q", "origin", "main")
	two.Git("pull", "-q", "origin", "main")
	bad("worse")
	lose = "hold-two"
	result, err = h.engine.Rollback(t.Context(), request)
	if err != nil || !result.Pinned || result.Parts[0].Commit == "" || !result.Parts[1].Pinned || !strings.Contains(result.ToDo, "does not exist") {
		t.Fatalf("with a repository lost: %+v, %v", result, err)
	}
	a, err := h.app("hold")
	if want := "," + strings.Split(good, ",")[1]; err != nil || a.Annotations[AnnotationPinnedRevision] != want {
		t.Errorf("pinned to %q, want %q, %v", a.Annotations[AnnotationPinnedRevision], want, err)
	}
}

// TestRollbackOfAPinned: the pin moves along and stays, because who set it may
// have had another reason.
func TestRollbackOfAPinned(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	repo := h.repo("frozen", map[string]string{"app/a.yaml": configMap("a", "good")})
	good := repo.Head()
	h.apply(h.application("frozen", "frozen", "app", "frozen", automated))
	defer h.delete(appObject("frozen"))
	h.waitApp("frozen", "to be synced", healthy)
	bad := h.push(repo, map[string]string{"app/a.yaml": configMap("a", "bad")})
	h.waitApp("frozen", "to have the bad one", func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == bad })
	if err := h.engine.Pin(t.Context(), argoOwner("frozen"), bad, "freeze", "bob"); err != nil {
		t.Fatal(err)
	}
	result, err := h.engine.Rollback(t.Context(), RollbackRequest{Owner: argoOwner("frozen"), To: good, User: core.User{Name: "alice"}})
	if err != nil || !result.Pinned || result.Commit == "" || !strings.Contains(result.ToDo, "fairway app unpin frozen") {
		t.Fatalf("%+v, %v", result, err)
	}
	h.waitLive("v1", "ConfigMap", "frozen", "a", field("good", "data", "key"))
	h.waitApp("frozen", "to stay pinned", func(a *argo.Application) bool {
		return healthy(a) && hasCondition(a, argo.ConditionPinned, good, "alice")
	})
}
