package controller

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/render"
)

// Routes are what the HTTP API does with deliveries, by http.ServeMux pattern:
// for applications and for kustomizations
//
//	GET  /api/v1/KIND/{namespace}/{name}/manifests?revision=REV
//	GET  /api/v1/KIND/{namespace}/{name}/diff?revision=REV
//	POST /api/v1/KIND/{namespace}/{name}/rollback  {"to": "ID or REV", "reason": "…"}
//
// Who asks is authenticated, and needs the same permission on the object
// itself: get to read, update to roll back. A diff with a
// revision that was never deployed takes update too: it shows the live state
// of whatever objects that revision names.
func (e *Engine) Routes() map[string]http.Handler {
	routes := map[string]http.Handler{}
	for resource, owner := range map[string]core.Owner{
		"applications":   {Dialect: core.ArgoCD, Kind: argo.ApplicationKind},
		"kustomizations": {Dialect: core.Flux, Kind: kustomizev1.KustomizationKind},
	} {
		at := "/api/v1/" + resource + "/{namespace}/{name}/"
		routes["GET "+at+"manifests"] = e.route(owner, "get", e.serveManifests)
		routes["GET "+at+"diff"] = e.route(owner, "get", e.serveDiff)
		routes["POST "+at+"rollback"] = e.route(owner, "update", e.serveRollback)
	}
	return routes
}

// route finds out who asks and whether he may, and answers with what serve
// returns.
func (e *Engine) route(of core.Owner, verb string, serve func(*http.Request, core.Owner, core.User) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		owner := of
		owner.Namespace, owner.Name = r.PathValue("namespace"), r.PathValue("name")
		answer, err := e.answer(r, owner, verb, serve)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if err != nil {
			w.WriteHeader(statusOf(err))
			answer = problem(err)
		}
		// The client is gone where this fails.
		_ = json.NewEncoder(w).Encode(answer)
	})
}

func (e *Engine) answer(r *http.Request, owner core.Owner, verb string, serve func(*http.Request, core.Owner, core.User) (any, error)) (any, error) {
	if e.stages.Access == nil {
		return nil, errNoAccess
	}
	user, err := e.stages.Access.Authenticate(r)
	if err != nil {
		return nil, err
	}
	if err := e.stages.Access.Authorize(r.Context(), user, action(owner, verb)); err != nil {
		return nil, err
	}
	return serve(r, owner, user)
}

// action is what a user does with the owner's object.
func action(owner core.Owner, verb string) core.Action {
	resource := "applications"
	if owner.Dialect == core.Flux {
		resource = "kustomizations"
	}
	return core.Action{Verb: verb, Group: string(owner.Dialect), Resource: resource, Namespace: owner.Namespace, Name: owner.Name}
}

// statusOf is what an error means in HTTP.
func statusOf(err error) int {
	var (
		forbidden   *core.ForbiddenError
		unavailable *core.UnavailableError
		missing     *NotFoundError
		revision    *NoSuchRevisionError
		refused     *SpecError
		project     *ProjectError
		source      *sourceError
		wrong       *render.Error
		request     *requestError
		moved       *MovedError
		changed     *SourcesChangedError
		revisions   *revisionsError
	)
	switch {
	case errors.Is(err, core.ErrUnauthenticated):
		return http.StatusUnauthorized
	case errors.As(err, &forbidden):
		return http.StatusForbidden
	case errors.As(err, &unavailable):
		return http.StatusServiceUnavailable
	case errors.As(err, &missing):
		return http.StatusNotFound
	case errors.As(err, &request):
		return http.StatusBadRequest
	case errors.As(err, &moved):
		return http.StatusConflict
	case errors.As(err, &revision), errors.As(err, &changed), errors.As(err, &revisions), errors.As(err, &refused), errors.As(err, &project), errors.As(err, &source), errors.As(err, &wrong):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// problem is the body of an error.
func problem(err error) any {
	p := struct {
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}{Error: err.Error()}
	var hinted core.Hinted
	if errors.As(err, &hinted) {
		p.Hint = hinted.Hint()
	}
	return p
}

// requestError says that a request is not one.
type requestError struct{ err error }

func (e *requestError) Error() string { return "the request is not understood: " + e.err.Error() }

// Manifests is the answer to a request for them.
type Manifests struct {
	Items []*unstructured.Unstructured `json:"items"`
}

func (e *Engine) serveManifests(r *http.Request, owner core.Owner, _ core.User) (any, error) {
	objects, err := e.Manifests(r.Context(), owner, r.URL.Query().Get("revision"))
	return Manifests{objects}, err
}

// Diff is the answer to a request for one.
type Diff struct {
	Items    []DiffItem `json:"items"`
	Warnings []string   `json:"warnings,omitempty"`
}

// DiffItem is one object that is not as it is wanted.
type DiffItem struct {
	Ref     core.ObjectRef             `json:"ref"`
	State   deploy.State               `json:"state"`
	Message string                     `json:"message,omitempty"`
	Wanted  *unstructured.Unstructured `json:"wanted,omitempty"`
	Live    *unstructured.Unstructured `json:"live,omitempty"`
}

func (e *Engine) serveDiff(r *http.Request, owner core.Owner, user core.User) (any, error) {
	revision := r.URL.Query().Get("revision")
	if revision != "" && !e.wasDeployed(r.Context(), owner, revision) {
		if err := e.stages.Access.Authorize(r.Context(), user, action(owner, "update")); err != nil {
			return nil, err
		}
	}
	c, err := e.Diff(r.Context(), owner, revision)
	if err != nil {
		return nil, err
	}
	out := Diff{Items: []DiffItem{}}
	for _, w := range c.Warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	for _, d := range c.Differences {
		if d.State == deploy.InSync || d.Hook != "" {
			continue
		}
		item := DiffItem{Ref: d.Ref, State: d.State, Message: d.Message, Wanted: d.Wanted, Live: d.Live}
		if d.Err != nil {
			item.Message = explain(d.Err)
		}
		out.Items = append(out.Items, item)
	}
	return out, nil
}

// wasDeployed: the whole revision is in the delivery's history.
func (e *Engine) wasDeployed(ctx context.Context, owner core.Owner, revision string) bool {
	v, err := e.view(ctx, owner)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(v.history, func(d deployed) bool { return strings.Join(d.revisions, ",") == revision })
}

// Rollback is a request for one.
type Rollback struct {
	To     string `json:"to,omitempty"`
	Reason string `json:"reason,omitempty"`
}

func (e *Engine) serveRollback(r *http.Request, owner core.Owner, user core.User) (any, error) {
	const longest = 64 << 10
	body := json.NewDecoder(http.MaxBytesReader(nil, r.Body, longest))
	body.DisallowUnknownFields()
	var asked Rollback
	if err := body.Decode(&asked); err != nil {
		return nil, &requestError{err}
	}
	return e.Rollback(r.Context(), RollbackRequest{Owner: owner, To: asked.To, Reason: asked.Reason, User: user})
}
