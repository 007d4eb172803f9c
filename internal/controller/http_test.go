package controller

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/render"
)

// What goes wrong with a delivery is an answer of its own, and what nobody has
// meant for clients is not told.
func TestErrorsInHTTP(t *testing.T) {
	owner := core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: "web"}
	spec := &SpecError{}
	spec.add("spec.source", "is required")
	away := &core.UnavailableError{What: "the API server", Err: errors.New("refused")}
	for _, tt := range []struct {
		err    error
		status int
		says   string
	}{
		{&NotFoundError{owner}, 404, "Application argocd/web is not there"},
		{&MovedError{Ref: "refs/heads/main"}, 409, "moved meanwhile"},
		{&NoSuchRevisionError{Owner: owner}, 422, "nothing to go back to"},
		{&SourcesChangedError{Owner: owner, Fields: []string{"spec.source"}, Err: spec}, 422, "spec.source changed"},
		{fmt.Errorf("read: %w", spec), 422, "spec.source: is required"},
		{&ProjectError{"default", "is not there"}, 422, `project "default" is not there`},
		{&revisionsError{"a,b", 2, 1}, 422, "2 revisions"},
		{&render.Error{Path: "a.yaml", Line: 2, Msg: "wrong"}, 422, "a.yaml:2: wrong"},
		{&sourceError{"https://u:secret@h/r.git", "main", errors.New("is away")}, 422, "at main: is away"},
		{&sourceError{"https://h/r.git", "main", away}, 503, "the API server is unavailable"},
		{unlessAway(errors.New("spec.postBuild: wrong")), 422, "spec.postBuild: wrong"},
		{unlessAway(&url.Error{Op: "Get", URL: "https://secret", Err: errors.New("refused")}), 503, "does not answer"},
		{errors.New("secret"), 500, "its log says why"},
	} {
		p := problem.Of(tt.err)
		if p.Status != tt.status || !strings.Contains(p.Error, tt.says) || strings.Contains(p.Error, "secret") {
			t.Errorf("%T is %d %q, want %d %q", tt.err, p.Status, p.Error, tt.status, tt.says)
		}
	}
}
