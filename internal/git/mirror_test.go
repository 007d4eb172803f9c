package git

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

var aliceAuth = Auth{Username: "alice", Password: "alice-token"}

// forge is a remote: another store, and a repository "web" with one commit.
func forge(t *testing.T) (w *world, c client, hash string) {
	t.Helper()
	w, c = newWorld(t), newClient(t)
	hash = c.commit("a.yaml", "v: 1\n")
	c.git("push", "-q", w.as("alice", "web"), "main")
	return w, c, hash
}

func TestMirror(t *testing.T) {
	remote, c, first := forge(t)
	w := newWorld(t)
	url := remote.url + "/git/web.git"

	s, err := w.Resolve(t.Context(), url, Ref{Branch: "main"}, aliceAuth)
	if err != nil {
		t.Fatal(err)
	}
	if s.Revision != (core.Revision{Ref: "refs/heads/main", Commit: first}) {
		t.Fatalf("revision %v", s.Revision)
	}
	if e := w.got.wait(t, 1)[0]; e.URL != url || e.Who != "" || e.New != first || e.Repository != (core.Name{}) {
		t.Errorf("event %+v", e)
	}

	second := c.commit("a.yaml", "v: 2\n")
	c.git("tag", "v1.2.0")
	c.git("push", "-q", remote.as("alice", "web"), "main", "v1.2.0")
	updates, err := w.Fetch(t.Context(), url, aliceAuth)
	if err != nil || len(updates) != 2 {
		t.Fatalf("%v, %v", updates, err)
	}
	events := w.got.wait(t, 3)[1:]
	ids := map[string]bool{events[0].ID: true, events[1].ID: true}
	if !ids[updates[0].ID] || !ids[updates[1].ID] || len(ids) != 2 {
		t.Errorf("the events %v are not the updates %v", events, updates)
	}
	if updates, err := w.Fetch(t.Context(), url, aliceAuth); err != nil || len(updates) != 0 {
		t.Errorf("nothing new gave %v, %v", updates, err)
	}
	for _, ref := range []Ref{{}, {Tag: "v1.2.0"}, {SemVer: ">=1.0.0"}, {Revision: "1.*"}, {Commit: second}, {Revision: second[:8]}, {Name: "refs/tags/v1.2.0"}} {
		s, err := w.Resolve(t.Context(), url, ref, aliceAuth)
		if err != nil || s.Revision.Commit != second {
			t.Errorf("%+v is %v, %v", ref, s.Revision, err)
		}
	}

	// A reference beside branches and tags, and a commit that no branch has.
	// c.git push refuses refs/pull nowhere: the forge takes any name.
	third := c.commit("a.yaml", "v: 3\n")
	c.git("push", "-q", remote.as("alice", "web"), "main:refs/pull/1/head")
	s, err = w.Resolve(t.Context(), url, Ref{Name: "refs/pull/1/head"}, aliceAuth)
	if err != nil || s.Revision.Commit != third {
		t.Errorf("%v, %v", s.Revision, err)
	}
	fourth := c.commit("a.yaml", "v: 4\n")
	c.git("push", "-q", remote.as("alice", "web"), "main:refs/pull/2/head")
	s, err = w.Resolve(t.Context(), url, Ref{Commit: fourth}, aliceAuth)
	if err != nil || s.Revision.Commit != fourth {
		t.Errorf("%v, %v", s.Revision, err)
	}
	var unknown *RevisionError
	for _, ref := range []Ref{{Commit: strings.Repeat("1", 40)}, {Branch: "none"}, {SemVer: ">=2"}, {Name: "refs/pull/9/head"}} {
		if _, err := w.Resolve(t.Context(), url, ref, aliceAuth); !errors.As(err, &unknown) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
	// What went away there goes away here.
	c.git("push", "-q", remote.as("alice", "web"), ":v1.2.0")
	updates, err = w.Fetch(t.Context(), url, aliceAuth)
	if err != nil || len(updates) != 1 || updates[0].New != "" || updates[0].Ref != "refs/tags/v1.2.0" {
		t.Errorf("%v, %v", updates, err)
	}
}

func TestMirrorRefusals(t *testing.T) {
	remote, _, hash := forge(t)
	w := newWorld(t)
	url := remote.url + "/git/web"
	var (
		auth        *AuthError
		notFound    *NotFoundError
		unreachable *UnreachableError
		invalid     *InvalidURLError
	)
	secret := Auth{Username: "alice", Password: "very-secret"}
	check := func(err error, target any) {
		t.Helper()
		if err == nil || !errors.As(err, target) {
			t.Errorf("%T %v", err, err)
		} else if strings.Contains(err.Error(), "very-secret") {
			t.Errorf("the secret is in %q", err)
		}
	}
	_, err := w.Fetch(t.Context(), url, secret)
	check(err, &auth)
	if !auth.Given {
		t.Error("credentials were given")
	}
	_, err = w.Fetch(t.Context(), strings.Replace(url, "://", "://alice:very-secret@", 1), Auth{})
	check(err, &auth)
	_, err = w.Fetch(t.Context(), url, Auth{Token: "very-secret"})
	check(err, &auth)
	_, err = w.Fetch(t.Context(), url, Auth{})
	check(err, &auth)
	if auth.Given {
		t.Error("no credentials were given")
	}
	_, err = w.Fetch(t.Context(), url, Auth{Username: "alice", Password: "very-secret\nhost=elsewhere"})
	check(err, &auth)
	_, err = w.Fetch(t.Context(), remote.url+"/git/nowhere", aliceAuth)
	check(err, &notFound)
	_, err = w.Fetch(t.Context(), remote.url+"/other/web", aliceAuth)
	check(err, &notFound)
	_, err = w.Fetch(t.Context(), "file:///etc", secret)
	check(err, &invalid)
	_, err = w.Fetch(t.Context(), "ext::sh -c true", secret)
	check(err, &invalid)
	_, err = w.Fetch(t.Context(), "-oProxyCommand=x:y", secret)
	check(err, &invalid)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	_, err = w.Fetch(t.Context(), "http://"+nobody+"/web", secret)
	check(err, &unreachable)
	_, err = w.Fetch(t.Context(), "ssh://git@"+nobody+"/web", secret)
	check(err, &unreachable)
	if mirrors, err := w.Mirrors(t.Context()); err != nil || len(mirrors) != 0 {
		t.Errorf("failures left mirrors behind: %v, %v", mirrors, err)
	}

	// What one fetched, another without the credentials does not see.
	if _, err := w.Resolve(t.Context(), url, Ref{}, aliceAuth); err != nil {
		t.Fatal(err)
	}
	_, err = w.Resolve(t.Context(), url, Ref{}, secret)
	check(err, &auth)
	_, err = w.Resolve(t.Context(), url, Ref{}, Auth{})
	check(err, &auth)

	// The remote goes away: what is known stays, and those who may see it do.
	remote.server.Close()
	_, err = w.Fetch(t.Context(), url, aliceAuth)
	check(err, &unreachable)
	if s, err := w.Resolve(t.Context(), url, Ref{}, aliceAuth); err != nil || s.Revision.Commit != hash {
		t.Errorf("%v, %v", s.Revision, err)
	}
	if left, _ := os.ReadDir(filepath.Join(w.dir, "tmp")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestMirrorOverTLS(t *testing.T) {
	remote, _, hash := forge(t)
	w := newWorld(t)
	tls := httptest.NewTLSServer(remote.Handler(team))
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(tls.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw})
	url := tls.URL + "/git/web"
	if _, err := w.Fetch(t.Context(), url, aliceAuth); !errors.As(err, new(*UnreachableError)) {
		t.Errorf("an unknown certificate: %v", err)
	}
	for _, auth := range []Auth{{Token: "alice-token", CA: ca}, {Password: "alice-token", CA: ca}, {Password: "alice-token", Insecure: true}} {
		if s, err := w.Resolve(t.Context(), url, Ref{}, auth); err != nil || s.Revision.Commit != hash {
			t.Errorf("%v, %v", s.Revision, err)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", aliceAuth, aliceAuth, aliceAuth, []any{aliceAuth}); strings.Contains(text, "alice") {
		t.Errorf("credentials print themselves: %s", text)
	}
}

func TestMirrorLimit(t *testing.T) {
	remote, c, _ := forge(t)
	w := newWorld(t, func(o *Options) { o.Limits.MirrorBytes = 10 })
	var tooLarge *core.TooLargeError
	if _, err := w.Fetch(t.Context(), remote.url+"/git/web", aliceAuth); err != nil && !errors.As(err, &tooLarge) {
		t.Error(err)
	}
	// The mirror is now over the limit: a fetch with news is refused.
	c.commit("b", "2")
	c.git("push", "-q", remote.as("alice", "web"), "main")
	if _, err := w.Fetch(t.Context(), remote.url+"/git/web", aliceAuth); !errors.As(err, &tooLarge) {
		t.Errorf("%T %v", err, err)
	}
}

func TestRules(t *testing.T) {
	w := newWorld(t)
	for _, r := range []Rule{
		{From: "https://github.com/myorg/gitops-repo", To: "gitops"},
		{From: "https://github.com/myorg/", To: "team"},
		{From: "https://github.com", To: "https://mirror.example/github"},
	} {
		if err := w.Rules().Add(r); err != nil {
			t.Fatal(err)
		}
	}
	for url, want := range map[string]string{
		"https://github.com/myorg/gitops-repo":                "default/gitops",
		"https://github.com/myorg/gitops-repo.git":            "default/gitops",
		"https://user:token@github.com/myorg/gitops-repo.git": "default/gitops",
		"git@github.com:myorg/gitops-repo.git":                "default/gitops",
		"ssh://git@github.com/myorg/gitops-repo":              "default/gitops",
		"https://GitHub.com:443/myorg/gitops-repo/":           "default/gitops",
		"https://github.com/myorg/web.git":                    "team/web",
		"https://github.com/myorganization/web":               "https://mirror.example/github/myorganization/web",
		"https://gitlab.com/myorg/web":                        "https://gitlab.com/myorg/web",
		w.url + "/git/web.git":                                "default/web",
		"/git/team/web":                                       "team/web",
		w.url + "/gitx/web":                                   w.url + "/gitx/web",
	} {
		if got, err := w.Locate(url); err != nil || got.String() != want {
			t.Errorf("%s is %s (%v), want %s", url, got, err, want)
		}
	}
	if _, err := w.Locate("https://github.com/myorg/a/b"); err == nil {
		t.Error("a rule made a name of three parts")
	}
	for _, r := range []Rule{{From: "nonsense", To: "x"}, {From: "https://a/b", To: "../x"}, {From: "https://a/b", To: "a/b/c"}, {From: "https://a/b", To: "file:///etc"}} {
		if w.Rules().Add(r) == nil {
			t.Errorf("%v was taken", r)
		}
	}
	again, err := loadRules(filepath.Join(w.dir, "mirrors.yaml"))
	if err != nil || len(again.List()) != 3 {
		t.Fatalf("%v, %v", again.List(), err)
	}
	if there, err := again.Remove("git@github.com:myorg/gitops-repo"); err != nil || !there {
		t.Errorf("%v, %v", there, err)
	}
	if to, _ := again.Rewrite("https://github.com/myorg/gitops-repo"); to != "team/gitops-repo" {
		t.Errorf("after the removal: %s", to)
	}

	c := newClient(t)
	hash := c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "gitops"), "main")
	s, err := w.Resolve(t.Context(), "https://github.com/myorg/gitops-repo.git", Ref{}, Auth{})
	if err != nil || s.Revision.Commit != hash {
		t.Errorf("%v, %v", s.Revision, err)
	}
}
