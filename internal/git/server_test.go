package git

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/testkit"
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

// One user has at most half of the places, so that others are served beside
// him.
func TestFairRequests(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits = Limits{Requests: 2, RequestWait: time.Millisecond} })
	c := newClient(t)
	c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "web"), "main")

	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /git/web/git-upload-pack HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice-token\r\n"+
		"Content-Type: application/x-git-upload-pack-request\r\nContent-Length: 1000\r\n\r\n0")
	list := func(user string) (string, error) { return c.try("ls-remote", w.as(user, "web")) }
	testkit.Eventually(t, "refusal beside the slow request", func() error {
		out, err := list("alice")
		if err == nil {
			return errors.New("it was served")
		}
		if !strings.Contains(out, "429") || !strings.Contains(out, "you have 1 Git requests already") {
			t.Fatal(out)
		}
		return nil
	})
	if out, err := list("bob"); err != nil {
		t.Errorf("another user: %s", out)
	}
	conn.Close()
	testkit.Eventually(t, "a free place", func() error {
		_, err := list("alice")
		return err
	})
}
