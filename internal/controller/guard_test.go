package controller

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

// one may do one thing; of another question the answer is not to be had.
type one struct {
	user    string
	may     core.Action
	unknown core.Action
}

func (o one) Authenticate(*http.Request) (core.User, error) { return core.User{}, nil }
func (o one) Authorize(_ context.Context, u core.User, a core.Action) error {
	switch {
	case a == o.unknown:
		return &core.UnavailableError{What: "the API server", Err: errors.New("gone")}
	case u.Name == o.user && a == o.may:
		return nil
	}
	return &core.ForbiddenError{User: u.Name, Action: a}
}

// trees has embedded repositories below "/", and nothing in them.
type trees struct{ Sources }

func (trees) Embedded(url string) (core.Name, bool) {
	name, embedded := strings.CutPrefix(url, "/")
	parsed, err := core.ParseName(name)
	return parsed, embedded && err == nil
}

func (trees) Resolve(context.Context, SourceRequest) (core.Snapshot, error) {
	return core.Snapshot{Message: "read"}, nil
}

func TestGuard(t *testing.T) {
	get := func(namespace, name string) core.Action {
		return core.Action{Verb: "get", Group: core.Group, Resource: "repositories", Namespace: namespace, Name: name}
	}
	sources := Guard(trees{}, one{"system:serviceaccount:team-b:default", get("team-a", "web"), get("team-a", "away")})
	for _, c := range []struct{ namespace, url, says string }{
		{"team-a", "/team-a/web", ""},
		{"team-b", "/team-a/web", ""},
		{"team-b", "https://elsewhere.example/web", ""},
		{"team-b", "/team-a/other", "namespace team-b may not read repository team-a/other"},
		{"team-c", "/team-a/web", "namespace team-c may not read repository team-a/web"},
		{"", "/team-a/web", "may not read repository team-a/web"},
		{"team-b", "/team-a/away", "the API server is unavailable"},
	} {
		got, err := sources.Resolve(t.Context(), SourceRequest{Namespace: c.namespace, URL: c.url})
		if c.says == "" && (err != nil || got.Message != "read") {
			t.Errorf("%+v: %v", c, err)
		}
		if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says) || got.Message != "") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
