package controller

import (
	"encoding/json"
	"net/http"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// Routes are what the HTTP API does with deliveries, by http.ServeMux pattern:
// for applications and for kustomizations
//
//	GET  /api/v1/KIND/{namespace}/{name}/manifests?revision=REV
//	GET  /api/v1/KIND/{namespace}/{name}/diff?revision=REV
//	GET  /api/v1/KIND/{namespace}/{name}/live
//	GET  /api/v1/KIND/{namespace}/{name}/seen
//	POST /api/v1/KIND/{namespace}/{name}/rollback  {"to": "ID or REV", "reason": "…"}
//
// for Helm releases the first two of them, without a revision, and previews of
// ApplicationSets (previewRoute), what clusters there are, and
// rollbacks of several deliveries:
//
//	GET  /api/v1/clusters
//	POST /api/v1/rollbacks  {"deliveries": [{"kind": …}], "to": …}
//
// Who asks is authenticated, and needs the same permission on the object
// itself: get to read, update to roll back. A diff with a
// revision that was never deployed takes update too: it shows the live state
// of whatever objects that revision names.
func (e *Engine) Routes() map[string]http.Handler {
	routes := map[string]http.Handler{}
	for _, owner := range []core.Owner{
		{Dialect: core.ArgoCD, Kind: argo.ApplicationKind},
		{Dialect: core.Flux, Kind: kustomizev1.KustomizationKind},
	} {
		at := "/api/v1/" + owner.Resource() + "/{namespace}/{name}/"
		routes["GET "+at+"manifests"] = e.route(owner, "get", e.serveManifests)
		routes["GET "+at+"live"] = e.route(owner, "get", e.serveLive)
		routes["GET "+at+"seen"] = e.route(owner, "get", e.serveSeen)
		routes["GET "+at+"diff"] = e.route(owner, "get", e.serveDiff)
		routes["POST "+at+"rollback"] = e.route(owner, "update", e.serveRollback)
	}
	releases := core.Owner{Dialect: core.Flux, Kind: core.HelmRelease}
	routes["GET /api/v1/helmreleases/{namespace}/{name}/manifests"] = e.route(releases, "get", e.serveReleaseManifests)
	routes["GET /api/v1/helmreleases/{namespace}/{name}/diff"] = e.route(releases, "get", e.serveReleaseDiff)
	routes["GET /api/v1/clusters"] = e.user(e.serveClusters)
	routes["POST /api/v1/rollbacks"] = e.user(e.serveRollbacks)
	routes[previewRoute] = http.HandlerFunc(e.sets.servePreview)
	return routes
}

// serve answers a request about a delivery.
type serve func(r *http.Request, owner core.Owner, user core.User) (any, error)

// route finds out who asks and whether he may, and answers with what serve
// returns.
func (e *Engine) route(owner core.Owner, verb string, serve serve) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		owner := owner
		owner.Namespace, owner.Name = r.PathValue("namespace"), r.PathValue("name")
		answer, err := e.answer(r, owner, verb, serve)
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		// The client is gone where this fails.
		_ = json.NewEncoder(w).Encode(answer)
	})
}

func (e *Engine) answer(r *http.Request, owner core.Owner, verb string, serve serve) (any, error) {
	if e.stages.Access == nil {
		return nil, errNoAccess
	}
	user, err := e.stages.Access.Authenticate(r)
	if err != nil {
		return nil, err
	}
	if err := e.stages.Access.Authorize(r.Context(), user, owner.Action(verb)); err != nil {
		return nil, err
	}
	return serve(r, owner, user)
}

// What the errors of this package are in HTTP: problem.Stated.

// HTTPStatus implements problem.Stated.
func (*NotFoundError) HTTPStatus() int { return http.StatusNotFound }

// HTTPStatus implements problem.Stated.
func (*MovedError) HTTPStatus() int { return http.StatusConflict }

// HTTPStatus implements problem.Stated.
func (*NoSuchRevisionError) HTTPStatus() int { return http.StatusUnprocessableEntity }

// HTTPStatus implements problem.Stated.
func (*SourcesChangedError) HTTPStatus() int { return http.StatusUnprocessableEntity }

// HTTPStatus implements problem.Stated.
func (*SpecError) HTTPStatus() int { return http.StatusUnprocessableEntity }

// HTTPStatus implements problem.Stated.
func (*ProjectError) HTTPStatus() int { return http.StatusUnprocessableEntity }

// HTTPStatus implements problem.Stated.
func (*DecryptError) HTTPStatus() int { return http.StatusUnprocessableEntity }

func (*revisionsError) HTTPStatus() int { return http.StatusUnprocessableEntity }
func (*sourceError) HTTPStatus() int    { return http.StatusUnprocessableEntity }

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
	v, err := e.view(r.Context(), owner)
	if err != nil {
		return nil, err
	}
	revision := r.URL.Query().Get("revision")
	if revision != "" && !v.wasDeployed(revision) {
		if err := e.stages.Access.Authorize(r.Context(), user, owner.Action("update")); err != nil {
			return nil, err
		}
	}
	c, err := e.compare(r.Context(), v, revision)
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

// Rollback is a request for one.
type Rollback struct {
	To     string `json:"to,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// noRevision refuses a revision of a Helm release: what there could be has a
// version of the chart and values, and these are in its spec.
func noRevision(r *http.Request) error {
	if r.URL.Query().Get("revision") == "" {
		return nil
	}
	return problem.New(http.StatusUnprocessableEntity, "a HelmRelease is looked at as it stands: its chart's version and its values are in its spec")
}

func (e *Engine) serveReleaseManifests(r *http.Request, owner core.Owner, _ core.User) (any, error) {
	if err := noRevision(r); err != nil {
		return nil, err
	}
	objects, err := e.manifestsOfRelease(r.Context(), owner)
	return Manifests{objects}, err
}

func (e *Engine) serveReleaseDiff(r *http.Request, owner core.Owner, _ core.User) (any, error) {
	if err := noRevision(r); err != nil {
		return nil, err
	}
	return e.diffRelease(r.Context(), owner)
}

func (e *Engine) serveRollback(r *http.Request, owner core.Owner, user core.User) (any, error) {
	const longest = 64 << 10
	body := json.NewDecoder(http.MaxBytesReader(nil, r.Body, longest))
	body.DisallowUnknownFields()
	var asked Rollback
	if err := body.Decode(&asked); err != nil {
		return nil, problem.New(http.StatusBadRequest, "the request is not understood: %s", err)
	}
	return e.Rollback(r.Context(), RollbackRequest{Owner: owner, To: asked.To, Reason: asked.Reason, User: user})
}
