package git

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

// users is an Access for tests: who has which password and what they may do,
// as "VERB NAMESPACE/NAME", "*" for anything.
type users map[string]testUser

type testUser struct {
	password string
	may      []string
}

func (u users) Authenticate(r *http.Request) (core.User, error) {
	_, password, basic := r.BasicAuth()
	if !basic {
		password = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	for name, user := range u {
		if user.password == password {
			return core.User{Name: name}, nil
		}
	}
	return core.User{}, core.ErrUnauthenticated
}

func (u users) Authorize(_ context.Context, user core.User, a core.Action) error {
	for _, may := range u[user.Name].may {
		if may == "away" {
			return &core.UnavailableError{What: "the API server", Err: errors.New("connection refused")}
		}
		if may == "*" || may == a.Verb+" "+a.Namespace+"/"+a.Name {
			return nil
		}
	}
	return &core.ForbiddenError{User: user.Name, Action: a}
}

var team = users{
	"alice":                               {"alice-token", []string{"*"}},
	"bob":                                 {"bob-token", []string{"get default/web", "get default/nowhere"}},
	"outage":                              {"outage-token", []string{"away"}},
	"system:serviceaccount:default:robot": {"robot-token", []string{"*"}},
}

// recorder takes events, as Deliver.
type recorder struct {
	mu     sync.Mutex
	events []core.RefUpdate
	more   chan struct{}
	// fail is asked before an event is taken.
	fail func(core.RefUpdate) error
}

func newRecorder() *recorder { return &recorder{more: make(chan struct{}, 1000)} }

func (r *recorder) deliver(_ context.Context, u core.RefUpdate) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(u); err != nil {
			return err
		}
	}
	r.events = append(r.events, u)
	r.more <- struct{}{}
	return nil
}

// wait returns the events once there are n.
func (r *recorder) wait(t testing.TB, n int) []core.RefUpdate {
	t.Helper()
	for {
		r.mu.Lock()
		events := append([]core.RefUpdate(nil), r.events...)
		r.mu.Unlock()
		if len(events) >= n {
			if len(events) > n {
				t.Fatalf("%d events, want %d: %v", len(events), n, events)
			}
			return events
		}
		select {
		case <-r.more:
		case <-t.Context().Done():
			t.Fatalf("%d events, want %d: %v", len(events), n, events)
		}
	}
}

// world is a store that is served over HTTP.
type world struct {
	*Store
	dir string
	url string
	got *recorder

	server *httptest.Server
}

func newWorld(t *testing.T, edit ...func(*Options)) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), got: newRecorder()}
	start(t, w, edit...)
	return w
}

// as is the URL of a repository with a user's password in it.
func (w *world) as(user, path string) string {
	u := strings.Replace(w.url, "://", "://token:"+team[user].password+"@", 1)
	return u + "/git/" + path
}

// client is a work tree.
type client struct {
	t   testing.TB
	dir string
}

func newClient(t testing.TB) client {
	t.Helper()
	c := client{t: t, dir: t.TempDir()}
	c.git("init", "-q", "-b", "main")
	return c
}

// try runs the git program as a person would, without this machine's
// configuration.
func (c client) try(args ...string) (string, error) {
	c.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Alice", "GIT_AUTHOR_EMAIL=alice@example.com", "GIT_COMMITTER_NAME=Alice", "GIT_COMMITTER_EMAIL=alice@example.com")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (c client) git(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// mustFail runs git and wants it to fail with each of the texts in what it
// prints.
func (c client) mustFail(texts []string, args ...string) {
	c.t.Helper()
	out, err := c.try(args...)
	if err == nil {
		c.t.Fatalf("git %s went well:\n%s", strings.Join(args, " "), out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			c.t.Errorf("git %s does not say %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
}

func (c client) write(name, content string) {
	c.t.Helper()
	path := filepath.Join(c.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// commit commits one file and returns the commit.
func (c client) commit(name, content string) string {
	c.t.Helper()
	c.write(name, content)
	c.git("add", "-A")
	c.git("commit", "-q", "-m", fmt.Sprintf("Change %s", name))
	return c.git("rev-parse", "HEAD")
}
