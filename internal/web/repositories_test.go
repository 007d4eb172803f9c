package web_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/web"
)

// shelf is a few repositories, and which of them were looked at.
type shelf struct {
	web.Repositories
	names  []core.Name
	opened []string
}

func (s *shelf) Names(context.Context) ([]core.Name, error) { return s.names, nil }

func (s *shelf) Get(_ context.Context, name core.Name) (*web.Repository, error) {
	s.opened = append(s.opened, name.String())
	if name.Name == "deleted" {
		return nil, web.ErrNotFound
	}
	return &web.Repository{Name: name.String(), Refs: []web.Ref{{Name: "refs/heads/main"}}}, nil
}

// Nothing is looked at for a user who may not read it.
func TestRepositoriesAreOfTheUser(t *testing.T) {
	s := &shelf{}
	for _, ns := range []string{"default", "team-a"} {
		for _, name := range []string{"app", "deleted"} {
			s.names = append(s.names, core.Name{Namespace: ns, Name: name})
		}
	}
	mux := http.NewServeMux()
	for pattern, h := range web.RepositoryRoutes(table{}, s) {
		mux.Handle(pattern, h)
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	for token, want := range map[string]struct{ seen, opened []string }{
		"good":   {[]string{"default/app", "team-a/app"}, []string{"default/app", "default/deleted", "team-a/app", "team-a/deleted"}},
		"team":   {[]string{"team-a/app"}, []string{"team-a/app", "team-a/deleted"}},
		"nobody": {},
	} {
		s.opened = nil
		var all []web.Repository
		body := said(t, get(t, server.URL+"/api/v1/repositories", token))
		if err := json.Unmarshal([]byte(body), &all); err != nil || !strings.HasPrefix(body, "[") {
			t.Fatalf("%s: %q, %v", token, body, err)
		}
		var seen []string
		for _, r := range all {
			seen = append(seen, r.Name)
			if len(r.Refs) > 0 {
				t.Errorf("the list has the references of %s", r.Name)
			}
		}
		if !slices.Equal(seen, want.seen) || !slices.Equal(s.opened, want.opened) {
			t.Errorf("%s sees %q after looking at %q, want %q and %q", token, seen, s.opened, want.seen, want.opened)
		}
	}
	if answer := get(t, server.URL+"/api/v1/repositories/default/app", "team"); answer.StatusCode != http.StatusForbidden {
		t.Errorf("another namespace's: %s", answer.Status)
	}
}
