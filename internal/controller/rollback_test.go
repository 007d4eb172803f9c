package controller

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
)

func (c storeCommits) Commit(ctx context.Context, req CommitRequest) (core.Revision, error) {
	changes := map[string]git.Change{}
	for _, f := range req.Changes {
		changes[f.Path] = git.Change{Mode: f.Entry.Mode, Hash: f.Entry.Hash, Delete: f.Remove}
	}
	person := git.Identity{Name: req.Author.Name, Email: req.Author.Name + "@example.com"}
	revision, err := c.store.Commit(ctx, git.CommitRequest{
		Repository: req.Repository, Branch: strings.TrimPrefix(req.Ref, "refs/heads/"), Expect: req.Parent,
		Changes: changes, Message: req.Message, Author: person, Who: req.Author.Name,
	})
	var conflict *git.ConflictError
	if errors.As(err, &conflict) {
		return revision, &MovedError{req.Ref}
	}
	return revision, err
}

func argoOwner(name string) core.Owner {
	return core.Owner{Dialect: core.ArgoCD, Kind: argo.ApplicationKind, Namespace: "argocd", Name: name}
}

// TestRollback restores what the Application read, and nothing else, by a
// forward commit that automated sync brings out.
func TestRollback(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	repo := h.repo("back", map[string]string{
		"app/a.yaml": configMap("a", "good"), "app/b.yaml": configMap("b", "good"), "other.txt": "1",
	})
	good := repo.Head()
	h.apply(h.application("back", "back", "app", "back", automated))
	defer h.delete(appObject("back"))
	h.waitApp("back", "to be synced", healthy)
	repo.Remove("app/b.yaml")
	bad := h.push(repo, map[string]string{"app/a.yaml": configMap("a", "bad"), "app/c.yaml": configMap("c", "bad"), "other.txt": "2"})
	h.waitApp("back", "to have the bad revision", func(a *argo.Application) bool {
		return healthy(a) && a.Status.Sync.Revision == bad && len(a.Status.History) == 2
	})

	result, err := h.engine.Rollback(t.Context(), RollbackRequest{Owner: argoOwner("back"), Reason: "it is bad", User: core.User{Name: "alice"}})
	if err != nil {
		t.Fatal(err)
	}
	if result.Pinned || result.Commit == "" || result.Revision != good || strings.Join(result.Changed, " ") != "app/a.yaml app/b.yaml app/c.yaml" {
		t.Fatalf("result %+v", result)
	}
	h.waitApp("back", "to have the rollback", func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == result.Commit })
	h.waitLive("v1", "ConfigMap", "back", "a", field("good", "data", "key"))
	h.waitLive("v1", "ConfigMap", "back", "b", field("good", "data", "key"))
	h.waitGone("v1", "ConfigMap", "back", "c")
	repo.Git("pull", "-q", "origin", "main")
	if got := repo.Git("log", "-1", "--format=%an %s"); got != "alice Roll back back to "+short7(good) {
		t.Errorf("commit %q", got)
	}
	if got := repo.Git("show", "HEAD:other.txt"); got != "2" {
		t.Errorf("other.txt is %q: the rollback has touched what the app does not read", got)
	}
}

// TestRollbackPins: who may not push has the Application pinned, new commits
// are not brought out, and the result says what is left to do.
func TestRollbackPins(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	repo := h.repo("held", map[string]string{"app/a.yaml": configMap("a", "good")})
	good := repo.Head()
	h.apply(h.application("held", "held", "app", "held", automated))
	defer h.delete(appObject("held"))
	h.waitApp("held", "to be synced", healthy)
	h.push(repo, map[string]string{"app/a.yaml": configMap("a", "bad")})
	h.waitLive("v1", "ConfigMap", "held", "a", field("bad", "data", "key"))
	h.waitApp("held", "to have two entries", func(a *argo.Application) bool { return healthy(a) && len(a.Status.History) == 2 })

	result, err := h.engine.Rollback(t.Context(), RollbackRequest{Owner: argoOwner("held"), To: good, Reason: "bad", User: core.User{Name: "mallory"}})
	if err != nil {
		t.Fatal(err)
	}
	if !result.Pinned || result.Commit != "" || !strings.Contains(result.ToDo, "may not update repositories") {
		t.Fatalf("result %+v", result)
	}
	h.waitLive("v1", "ConfigMap", "held", "a", field("good", "data", "key"))
	h.waitApp("held", "to say that it is pinned", func(a *argo.Application) bool {
		return healthy(a) && a.Status.Sync.Revision == good && hasCondition(a, argo.ConditionPinned, good, "mallory", "bad")
	})
	third := h.push(repo, map[string]string{"app/a.yaml": configMap("a", "third")})
	if err := h.engine.Pin(t.Context(), argoOwner("held"), "", "", ""); err != nil {
		t.Fatal(err)
	}
	h.waitApp("held", "to go on", func(a *argo.Application) bool {
		return healthy(a) && a.Status.Sync.Revision == third && len(a.Status.Conditions) == 0
	})
	h.waitLive("v1", "ConfigMap", "held", "a", field("third", "data", "key"))
}

// TestRoutes asks over HTTP as the command line does.
func TestRoutes(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("routes", map[string]string{
		"app/a.yaml":      configMap("a", "1"),
		"app/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n",
	})
	h.apply(h.application("routes", "routes", "app", "routes", "  syncPolicy: {syncOptions: [CreateNamespace=true]}\n"))
	defer h.delete(appObject("routes"))
	h.waitApp("routes", "to be compared", func(a *argo.Application) bool { return a.Status.Sync.Status == argo.SyncOutOfSync })
	mux := http.NewServeMux()
	for pattern, handler := range h.engine.Routes() {
		mux.Handle(pattern, handler)
	}
	ask := func(method, path, body string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code, w.Body.String()
	}
	code, body := ask("GET", "/api/v1/applications/argocd/routes/diff", "")
	var diff Diff
	if err := json.Unmarshal([]byte(body), &diff); err != nil || code != 200 || len(diff.Items) == 0 || strings.Contains(body, "hunter2") {
		t.Errorf("diff: %d %s (%v)", code, body, err)
	}
	code, body = ask("GET", "/api/v1/applications/argocd/routes/manifests", "")
	if code != 200 || !strings.Contains(body, `"ConfigMap"`) || strings.Contains(body, "hunter2") {
		t.Errorf("manifests: %d %s", code, body)
	}
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"GET", "/api/v1/applications/argocd/ghost/diff", "", 404, "ghost"},
		{"POST", "/api/v1/applications/argocd/routes/rollback", "{", 400, "not understood"},
		{"POST", "/api/v1/applications/argocd/routes/rollback", "{}", 422, "nothing to go back to"},
		{"GET", "/api/v1/applications/argocd/routes/manifests?revision=v9", "", 422, "v9"},
	} {
		if code, body := ask(c.method, c.path, c.body); code != c.code || !strings.Contains(body, c.says) {
			t.Errorf("%s %s: %d %s, want %d and %q", c.method, c.path, code, body, c.code, c.says)
		}
	}
}
