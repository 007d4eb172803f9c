package web_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/web"
)

type sourceList []web.Source

func (l sourceList) Sources(context.Context) ([]web.Source, error) { return l, nil }

func TestSourcesThatAUserSees(t *testing.T) {
	asked := map[string]int{}
	access := table{asked: func(a core.Action) { asked[a.String()]++ }}
	mux := http.NewServeMux()
	for pattern, h := range web.SourceRoutes(access, sourceList{
		{Kind: "GitRepository", Namespace: "team-a", Name: "one"}, {Kind: "GitRepository", Namespace: "team-a", Name: "two"},
		{Kind: "HelmChart", Namespace: "team-b", Name: "three"}, {Kind: "Bucket", Namespace: "team-a", Name: "of no kind that we know"},
	}) {
		mux.Handle(pattern, h)
	}
	server := httptest.NewServer(mux)
	defer server.Close()
	for user, want := range map[string][]string{"good": {"one", "two", "three"}, "team": {"one", "two"}, "nobody": {}} {
		clear(asked)
		answer := get(t, server.URL+"/api/v1/sources", user)
		var list []web.Source
		if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, s := range list {
			got = append(got, s.Name)
		}
		if !slices.Equal(got, want) || list == nil {
			t.Errorf("%s sees %v, want %v", user, got, want)
		}
		for what, n := range asked {
			if n > 1 {
				t.Errorf("%s was asked %d times", what, n)
			}
		}
	}
	if answer := get(t, server.URL+"/api/v1/sources", ""); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stranger gets %d", answer.StatusCode)
	}
}
