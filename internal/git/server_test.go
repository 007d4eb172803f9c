package git

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestPushCreatesAndDelivers(t *testing.T) {
	w := newWorld(t)
	c := newClient(t)
	hash := c.commit("app/a.yaml", "kind: ConfigMap\n")
	c.git("push", "-q", w.as("alice", "web.git"), "main")

	e := w.got.wait(t, 1)[0]
	want := core.RefUpdate{ID: e.ID, Repository: core.Name{Namespace: "default", Name: "web"}, Ref: "refs/heads/main", New: hash, Who: "alice", When: e.When}
	if e != want || e.ID == "" || e.When.IsZero() {
		t.Fatalf("got %+v, want %+v", e, want)
	}

	snapshot, err := w.Resolve(t.Context(), w.url+"/git/web", Ref{}, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	if got := snapshot.Revision; got != (core.Revision{Ref: "refs/heads/main", Commit: hash}) {
		t.Errorf("revision %+v", got)
	}
	data, err := snapshot.Tree.Read(t.Context(), "app/a.yaml")
	if err != nil || string(data) != "kind: ConfigMap\n" {
		t.Errorf("read %q, %v", data, err)
	}

	other := newClient(t)
	for _, path := range []string{"web", "web.git", "default/web", "default/web.git"} {
		other.git("clone", "-q", w.as("alice", path), filepath.Join(other.dir, strings.ReplaceAll(path, "/", "-")))
	}
	other.git("clone", "-q", "--depth=1", w.as("bob", "web"), filepath.Join(other.dir, "shallow"))
	other.git("-c", "protocol.version=0", "clone", "-q", w.as("bob", "web"), filepath.Join(other.dir, "v0"))
	other.git("clone", "-q", "--filter=blob:none", w.as("bob", "web"), filepath.Join(other.dir, "partial"))
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	c := newClient(t)
	c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "web"), "main")
	refused := func(user, path string, texts ...string) {
		t.Helper()
		c.mustFail(texts, "push", w.as(user, path), "main:other")
	}
	refused("bob", "web", "403", `user "bob" may not update repositories.fairway-cd.io default/web`)
	refused("bob", "nowhere", "403")
	refused("outage", "web", "503", "the API server is unavailable")
	c.mustFail([]string{"could not read Username"}, "push", w.url+"/git/web", "main")
	c.mustFail([]string{"could not read Username"}, "ls-remote", w.url+"/git/web")
	c.mustFail([]string{"not found", "repository default/nowhere does not exist"}, "ls-remote", w.as("bob", "nowhere"))
	c.mustFail([]string{"not found", "invalid name"}, "ls-remote", w.as("alice", "a/b/c"))
	c.mustFail([]string{"written by the server alone"}, "push", w.as("alice", "web"), "main:refs/changes/01/1/1")
	c.mustFail([]string{"written by the server alone"}, "push", w.as("alice", "web"), "main:refs/fairway/x")

	resp, err := http.Get(w.url + "/git/web/info/refs?service=git-upload-pack")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 401 || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic ") || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	w.got.wait(t, 1) // the first push, and nothing that was refused
}
