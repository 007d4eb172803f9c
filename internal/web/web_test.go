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
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/web"
)

// table is an Access of one user, who may get, and who is away on request.
type table struct{ away bool }

func (a table) Authenticate(r *http.Request) (core.User, error) {
	if a.away {
		return core.User{}, &core.UnavailableError{What: "the API server", Err: errors.New("refused")}
	}
	switch r.Header.Get("Authorization") {
	case "Bearer good", "Bearer nobody", "Bearer team":
		return core.User{Name: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}, nil
	}
	return core.User{}, core.ErrUnauthenticated
}

func (table) Authorize(_ context.Context, u core.User, a core.Action) error {
	if u.Name == "good" && a.Verb != "delete" || u.Name == "team" && a.Namespace == "team-a" {
		return nil
	}
	return &core.ForbiddenError{User: u.Name, Action: a}
}

// store is what is delivered; change announces.
type store struct {
	mu      sync.Mutex
	all     []web.Delivery
	changed chan struct{}
}

func (s *store) List(context.Context) ([]web.Delivery, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
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

func serve(t *testing.T, access core.Access, s *store) string {
	t.Helper()
	server := httptest.NewServer(web.Handler(web.Options{Access: access, Deliveries: s,
		Status: func(context.Context) (any, error) { return map[string]string{"state": "running"}, nil }}))
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
	s := &store{changed: make(chan struct{}), all: []web.Delivery{{Kind: "Application", Namespace: "argocd", Name: "web"}}}
	here, away := serve(t, table{}, s), serve(t, table{away: true}, s)
	for _, tt := range []struct {
		url, token string
		want       int
	}{
		{here + "/", "", 200},
		{here + "/app.js", "", 200},
		{here + "/../../etc/passwd", "", 404},
		{here + "/api/v1/status", "", 401},
		{here + "/api/v1/status", "wrong", 401},
		{here + "/api/v1/deliveries", "nobody", 403},
		{here + "/api/v1/deliveries", "good", 200},
		{here + "/api/v1/events", "", 401},
		{here + "/api/v1/deliveries/Application/argocd/web", "good", 200},
		{here + "/api/v1/deliveries/Application/argocd/other", "good", 404},
		{here + "/api/nothing", "good", 404},
		{away + "/api/v1/deliveries", "good", 503},
	} {
		if answer := get(t, tt.url, tt.token); answer.StatusCode != tt.want {
			t.Errorf("GET %s as %q is %s, want %d", tt.url, tt.token, answer.Status, tt.want)
		}
	}
	if policy := get(t, here+"/", "").Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'self'") {
		t.Errorf("the UI's content security policy is %q", policy)
	}
}

// Who may not list everything finds by name what is theirs.
func TestDeliveriesOfAName(t *testing.T) {
	s := &store{changed: make(chan struct{}), all: []web.Delivery{
		{Kind: "Application", Namespace: "argocd", Name: "web"},
		{Kind: "Kustomization", Namespace: "team-a", Name: "web"},
		{Kind: "Kustomization", Namespace: "team-a", Name: "other"},
	}}
	url := serve(t, table{}, s)
	for token, want := range map[string]int{"good": 2, "team": 1, "nobody": 0} {
		var all []web.Delivery
		answer := get(t, url+"/api/v1/deliveries?name=web", token)
		if err := json.NewDecoder(answer.Body).Decode(&all); err != nil || len(all) != want {
			t.Errorf("%s sees %v, want %d: %v", token, all, want, err)
		}
	}
	if answer := get(t, url+"/api/v1/deliveries?name=web", ""); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stranger is answered %s", answer.Status)
	}
	if answer := get(t, url+"/api/v1/deliveries", "team"); answer.StatusCode != http.StatusForbidden {
		t.Errorf("the whole list is answered %s", answer.Status)
	}
}

func TestEventsFollowChanges(t *testing.T) {
	s := &store{changed: make(chan struct{})}
	answer := get(t, serve(t, table{}, s)+"/api/v1/events", "good")
	lines := bufio.NewScanner(answer.Body)
	next := func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return ""
	}
	if first := next(); first != "null" && first != "[]" {
		t.Errorf("the first event is %s", first)
	}
	s.set(web.Delivery{Kind: "Application", Name: "web", Sync: "Synced"})
	if second := next(); !strings.Contains(second, `"name":"web"`) {
		t.Errorf("after a change the event is %s", second)
	}
}
