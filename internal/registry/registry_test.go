package registry_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/registry"
)

// table is an access by a table of users, in place of the API server.
type table struct {
	mu sync.Mutex
	// users has for each password who it is.
	users map[string]string
	// grants are "USER VERB NAMESPACE/NAME", the last two with path.Match
	// patterns.
	grants []string
	// away, where set, is why nobody can be asked.
	away error
}

func (t *table) Authenticate(r *http.Request) (core.User, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, token, ok := r.BasicAuth()
	if !ok {
		token, ok = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	if !ok {
		return core.User{}, core.ErrUnauthenticated
	}
	if t.away != nil {
		return core.User{}, &core.UnavailableError{What: "the API server", Err: t.away}
	}
	who, ok := t.users[token]
	if !ok {
		return core.User{}, fmt.Errorf("%w: unknown token", core.ErrUnauthenticated)
	}
	return core.User{Name: who}, nil
}

func (t *table) Authorize(_ context.Context, u core.User, a core.Action) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.Group == core.Group && a.Resource == core.ResourceImages {
		for _, grant := range t.grants {
			f := strings.Fields(grant)
			verb, _ := path.Match(f[1], a.Verb)
			what, _ := path.Match(f[2], a.Namespace+"/"+strings.ReplaceAll(a.Name, "/", "~"))
			if f[0] == u.Name && verb && what {
				return nil
			}
		}
	}
	return &core.ForbiddenError{User: u.Name, Action: a}
}

func (t *table) setAway(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.away = err
}

func newTable() *table {
	return &table{
		users: map[string]string{"admin-token": "admin", "alice-token": "alice", "reader-token": "reader", "nobody-token": "nobody"},
		grants: []string{
			"admin * */*",
			"alice get default/*", "alice update default/*", "alice delete default/*",
			"reader get default/*",
		},
	}
}

// house is a registry that is served over real HTTP.
type house struct {
	*registry.Registry
	dir    string
	access *table
	server *httptest.Server
}

func newHouse(t *testing.T, change ...func(*registry.Options)) *house {
	t.Helper()
	return openHouse(t, t.TempDir(), change...)
}

func openHouse(t *testing.T, dir string, change ...func(*registry.Options)) *house {
	t.Helper()
	access := newTable()
	opts := registry.Options{Dir: dir, Access: access, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	for _, c := range change {
		c(&opts)
	}
	g, err := registry.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g)
	t.Cleanup(func() {
		server.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return &house{g, dir, access, server}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (h *house) host() string { return strings.TrimPrefix(h.server.URL, "http://") }

// as are crane's options for the user of a token.
func as(token string) crane.Option {
	return crane.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "any", Password: token}))
}

func TestMain(m *testing.M) {
	registry.RouteLogs(slog.New(slog.DiscardHandler))
	if dir := os.Getenv(serveEnv); dir != "" {
		serveForever(dir)
	}
	os.Exit(m.Run())
}

func TestCranePushAndPull(t *testing.T) {
	h := newHouse(t)
	image, err := random.Image(100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, h.host()+"/web-app:v1", as("alice-token")); err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"web-app:v1", "default/web-app:v1", "web-app@" + want.String()} {
		got, err := crane.Pull(h.host()+"/"+ref, as("reader-token"))
		if err != nil {
			t.Fatalf("pulling %s: %v", ref, err)
		}
		if d, err := got.Digest(); err != nil || d != want {
			t.Errorf("%s is %s, %v, want %s", ref, d, err, want)
		}
		layers, err := got.Layers()
		if err != nil || len(layers) != 3 {
			t.Fatalf("layers of %s: %d, %v", ref, len(layers), err)
		}
		for _, l := range layers {
			rc, err := l.Compressed() // verified by the client
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rc.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
			_ = rc.Close()
		}
	}
	tags, err := crane.ListTags(h.host()+"/web-app", as("reader-token"))
	if err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("tags are %q, %v", tags, err)
	}
}

func TestNobodyWithoutPermission(t *testing.T) {
	h := newHouse(t)
	image, err := random.Image(10, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, h.host()+"/web-app:v1", as("alice-token")); err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, h.host()+"/web-app:v2", as("reader-token")); err == nil {
		t.Error("the reader pushed")
	}
	if err := crane.Push(image, h.host()+"/other/web-app:v2", as("alice-token")); err == nil {
		t.Error("alice pushed to another namespace")
	}
	if _, err := crane.Pull(h.host()+"/web-app:v1", as("nobody-token")); err == nil {
		t.Error("nobody pulled")
	}
	if _, err := crane.Pull(h.host()+"/web-app:v1", crane.WithAuth(authn.Anonymous)); err == nil {
		t.Error("an anonymous client pulled")
	}
	if err := crane.Delete(h.host()+"/web-app:v1", as("reader-token")); err == nil {
		t.Error("the reader deleted")
	}
}
