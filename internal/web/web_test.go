package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/testkit"
	"github.com/fairway-cd/fairway/internal/web"
)

// table is an Access of a few users: good may do all but delete, team all in
// its namespace, one may get one object, nobody nothing. It is away on request.
type table struct {
	away bool
	// asked, where set, is told each question.
	asked func(core.Action)
	// revoked, where set, says whose token is no good any more.
	revoked func(user string) bool
}

func (a table) Authenticate(r *http.Request) (core.User, error) {
	if a.away {
		return core.User{}, &core.UnavailableError{What: "the API server", Err: errors.New("refused")}
	}
	name := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch name {
	case "good", "nobody", "team", "one":
		if a.revoked == nil || !a.revoked(name) {
			return core.User{Name: name}, nil
		}
	}
	return core.User{}, core.ErrUnauthenticated
}

func (a table) Authorize(_ context.Context, u core.User, action core.Action) error {
	if a.asked != nil {
		a.asked(action)
	}
	switch {
	case u.Name == "good" && action.Verb != "delete",
		u.Name == "team" && action.Namespace == "team-a",
		u.Name == "one" && action.String() == "get kustomizations.kustomize.toolkit.fluxcd.io team-a/web":
		return nil
	}
	return &core.ForbiddenError{User: u.Name, Action: action}
}

// store is what is delivered; change announces.
type store struct {
	mu      sync.Mutex
	all     []web.Delivery
	changed chan struct{}
	lists   int
}

func newStore(all ...web.Delivery) *store { return &store{all: all, changed: make(chan struct{})} }

func (s *store) List(context.Context) ([]web.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	return s.all, nil
}

func (s *store) Get(_ context.Context, kind, namespace, name string) (*web.Delivery, error) {
	for _, d := range s.all {
		if d.Kind == kind && d.Namespace == namespace && d.Name == name {
			return &d, nil
		}
	}
	return nil, web.ErrNotFound
}

func (s *store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *store) set(all ...web.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = all
	close(s.changed)
	s.changed = make(chan struct{})
}

func serve(t *testing.T, access core.Access, s web.Deliveries) string {
	t.Helper()
	server := httptest.NewServer(web.Handler(web.Options{Access: access, Deliveries: s,
		Status: func(_ context.Context, all bool) (any, error) { return map[string]bool{"all": all}, nil }}))
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, url, token string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	return answer
}

func TestWhoMaySeeWhat(t *testing.T) {
	s := newStore(web.Delivery{Kind: "Application", Namespace: "argocd", Name: "web"})
	here, away := serve(t, table{}, s), serve(t, table{away: true}, s)
	for _, tt := range []struct {
		url, token string
		want       int
		says       string
	}{
		{here + "/", "", 200, "<html"},
		{here + "/app.js", "", 200, "EventSource"},
		{here + "/../../etc/passwd", "", 404, ""},
		{here + "/api/v1/status", "", 401, "authentication required"},
		{here + "/api/v1/status", "wrong", 401, "authentication required"},
		{here + "/api/v1/status", "team", 200, `{"all":false}`},
		{here + "/api/v1/status", "good", 200, `{"all":true}`},
		{here + "/api/v1/deliveries", "", 401, "authentication required"},
		{here + "/api/v1/deliveries", "nobody", 200, "[]"},
		{here + "/api/v1/deliveries", "good", 200, `"name":"web"`},
		{here + "/api/v1/events", "", 401, "authentication required"},
		{here + "/api/v1/deliveries/Application/argocd/web", "good", 200, `"name":"web"`},
		{here + "/api/v1/deliveries/Application/argocd/other", "good", 404, "not found"},
		{here + "/api/v1/deliveries/Application/argocd/web", "team", 403, "may not get applications.argoproj.io argocd/web"},
		{here + "/api/v1/deliveries/Application/argocd/other", "team", 403, "may not get applications.argoproj.io argocd/other"},
		{here + "/api/nothing", "good", 404, "no such route"},
		{away + "/api/v1/deliveries", "good", 503, "the API server is unavailable"},
	} {
		if answer := get(t, tt.url, tt.token); answer.StatusCode != tt.want {
			t.Errorf("GET %s as %q is %s, want %d", tt.url, tt.token, answer.Status, tt.want)
		} else if body := said(t, answer); !strings.Contains(body, tt.says) {
			t.Errorf("GET %s as %q says %q, want %q", tt.url, tt.token, body, tt.says)
		}
	}
	if policy := get(t, here+"/", "").Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'self'") {
		t.Errorf("the UI's content security policy is %q", policy)
	}
}

// several are deliveries of three namespaces.
func several() []web.Delivery {
	all := []web.Delivery{{Kind: "Application", Namespace: "argocd", Name: "web"}}
	for _, name := range []string{"a", "b", "c", "web"} {
		all = append(all, web.Delivery{Kind: "Kustomization", Namespace: "team-a", Name: name}, web.Delivery{Kind: "Kustomization", Namespace: "team-b", Name: name})
	}
	return all
}

// names are those of a list, with their namespaces.
func names(t *testing.T, data string) string {
	t.Helper()
	var all []web.Delivery
	if err := json.Unmarshal([]byte(data), &all); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	var names []string
	for _, d := range all {
		names = append(names, d.Namespace+"/"+d.Name)
	}
	return strings.Join(names, " ")
}

// Each user is shown what is theirs, which is asked for once a namespace. Of
// single objects it is asked where their name is given.
func TestListsAreOfTheUser(t *testing.T) {
	var asked []core.Action
	url := serve(t, table{asked: func(a core.Action) { asked = append(asked, a) }}, newStore(several()...))
	for _, tt := range []struct {
		query, token, want string
		questions          int
	}{
		{"", "good", "argocd/web team-a/a team-b/a team-a/b team-b/b team-a/c team-b/c team-a/web team-b/web", 3},
		{"", "team", "team-a/a team-a/b team-a/c team-a/web", 5},
		{"", "one", "", 5},
		{"", "nobody", "", 5},
		{"?name=web", "good", "argocd/web team-a/web team-b/web", 2},
		{"?name=web", "team", "team-a/web", 7},
		{"?name=web", "one", "team-a/web", 8},
		{"?name=web", "nobody", "", 8},
		{"?name=none", "good", "", 0},
	} {
		asked = nil
		answer := get(t, url+"/api/v1/deliveries"+tt.query, tt.token)
		if got := names(t, said(t, answer)); got != tt.want {
			t.Errorf("%s%s sees %q, want %q", tt.token, tt.query, got, tt.want)
		}
		if len(asked) != tt.questions {
			t.Errorf("%s%s: %d questions, want %d: %v", tt.token, tt.query, len(asked), tt.questions, asked)
		}
	}
}

// events are the data of a stream's events, one after another; "" at its end.
func events(t *testing.T, answer *http.Response) (next func() string) {
	t.Helper()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", answer.Status, said(t, answer))
	}
	lines := bufio.NewScanner(answer.Body)
	return func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return ""
	}
}

// Those who watch share one list for each change, and hear only of what they
// may see.
func TestEvents(t *testing.T) {
	s := newStore(several()...)
	url := serve(t, table{}, s) + "/api/v1/events"
	team := events(t, get(t, url, "team"))
	if first := names(t, team()); first != "team-a/a team-a/b team-a/c team-a/web" {
		t.Errorf("the first event is %s", first)
	}
	var all []func() string
	for range 20 {
		next := events(t, get(t, url, "good"))
		if first := names(t, next()); !strings.HasPrefix(first, "argocd/web team-a/a") {
			t.Errorf("the first event is %s", first)
		}
		all = append(all, next)
	}
	s.set(append(several(), web.Delivery{Kind: "Kustomization", Namespace: "team-b", Name: "new"})...)
	for _, next := range all {
		if second := names(t, next()); !strings.HasSuffix(second, "team-b/new") {
			t.Errorf("after a change the event is %s", second)
		}
	}
	if s.lists != 2 {
		t.Errorf("%d lists were made, want one a change", s.lists)
	}
	s.set(web.Delivery{Kind: "Kustomization", Namespace: "team-a", Name: "last"})
	if second := names(t, team()); second != "team-a/last" {
		t.Errorf("after changes of others and one of its own the team's event is %s", second)
	}
}

// A stream ends with its user's token.
func TestEventsOfARevokedToken(t *testing.T) {
	s, revoked := newStore(), false
	next := events(t, get(t, serve(t, table{revoked: func(string) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return revoked
	}}, s)+"/api/v1/events", "good"))
	if first := next(); first != "[]" {
		t.Errorf("the first event is %s", first)
	}
	s.mu.Lock()
	revoked = true
	s.mu.Unlock()
	s.set(several()...)
	if second := next(); second != "" {
		t.Errorf("after the end of the token there is an event: %s", second)
	}
}

// One user has so many streams, and others theirs beside them.
func TestStreamsOfOneUser(t *testing.T) {
	const each = 100
	url := serve(t, table{}, newStore()) + "/api/v1/events"
	var first *http.Response
	for i := range each {
		answer := get(t, url, "good")
		if answer.StatusCode != http.StatusOK {
			t.Fatalf("stream %d: %s", i, answer.Status)
		}
		if first == nil {
			first = answer
		}
	}
	answer := get(t, url, "good")
	if body := said(t, answer); answer.StatusCode != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" || !strings.Contains(body, "you have 100 streams of events already") {
		t.Errorf("one more: %s %s", answer.Status, body)
	}
	if answer := get(t, url, "team"); answer.StatusCode != http.StatusOK {
		t.Errorf("another user: %s", answer.Status)
	}
	first.Body.Close()
	testkit.Eventually(t, "a place", func() error {
		if answer := get(t, url, "good"); answer.StatusCode != http.StatusOK {
			return errors.New(answer.Status)
		}
		return nil
	})
}

// A list that cannot be made is said, without details, and the next is made.
func TestTrouble(t *testing.T) {
	s := &failing{store: newStore(several()...)}
	s.fail.Store(true)
	url := serve(t, table{}, s)
	next := events(t, get(t, url+"/api/v1/events", "good"))
	if first := next(); first != `"the server failed; its log says why"` {
		t.Errorf("the first event is %s", first)
	}
	answer := get(t, url+"/api/v1/deliveries", "good")
	if body := said(t, answer); answer.StatusCode != http.StatusInternalServerError || strings.Contains(body, "hunter2") {
		t.Errorf("%s %s", answer.Status, body)
	}
	s.fail.Store(false)
	if answer := get(t, url+"/api/v1/deliveries", "good"); answer.StatusCode != http.StatusOK {
		t.Errorf("after it: %s", answer.Status)
	}
}

// failing is a store that fails on request.
type failing struct {
	*store
	fail atomic.Bool
}

func (f *failing) List(ctx context.Context) ([]web.Delivery, error) {
	if f.fail.Load() {
		return nil, errors.New("the password is hunter2")
	}
	return f.store.List(ctx)
}
