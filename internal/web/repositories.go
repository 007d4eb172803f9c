package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// Repositories is what the API does with Git repositories. Get and Delete
// return an error that satisfies errors.Is(err, ErrNotFound), Create one that
// satisfies errors.Is(err, ErrExists).
type Repositories interface {
	List(ctx context.Context) ([]Repository, error)
	Get(ctx context.Context, name core.Name) (*Repository, error)
	Create(ctx context.Context, by core.User, name core.Name) error
	Delete(ctx context.Context, name core.Name) error
	Mirrors(ctx context.Context) ([]Mirror, error)
	AddMirror(ctx context.Context, m Mirror) error
	RemoveMirror(ctx context.Context, url string) error
}

// ErrExists says that what is to be created is there already.
var ErrExists = errors.New("exists already")

// Repository is a Git repository of the instance.
type Repository struct {
	Name          string     `json:"name"`
	URL           string     `json:"url"`
	DefaultBranch string     `json:"defaultBranch,omitempty"`
	Bytes         int64      `json:"bytes"`
	Refs          []Ref      `json:"refs,omitempty"`
	LastPush      *time.Time `json:"lastPush,omitempty"`
	LastPushBy    string     `json:"lastPushBy,omitempty"`
	// Mirrors are the URLs that it serves in manifests.
	Mirrors []string `json:"mirrors,omitempty"`
}

// Ref is a branch or tag.
type Ref struct {
	Name   string `json:"name"`
	Commit string `json:"commit"`
}

// Mirror says that manifests which name URL are served from Repository.
type Mirror struct {
	URL        string `json:"url"`
	Repository string `json:"repository"`
}

// maxBody bounds what the API reads of a request.
const maxBody = 64 << 10

type repositories struct {
	access core.Access
	repos  Repositories
}

// RepositoryRoutes are the API's routes for Git repositories:
//
//	GET    /api/v1/repositories[/NAMESPACE/NAME]
//	PUT    /api/v1/repositories/NAMESPACE/NAME
//	DELETE /api/v1/repositories/NAMESPACE/NAME
//	GET    /api/v1/mirrors
//	PUT    /api/v1/mirrors      {"url": …, "repository": …}
//	DELETE /api/v1/mirrors?url=…
func RepositoryRoutes(access core.Access, repos Repositories) map[string]http.Handler {
	r := &repositories{access, repos}
	const one = "/api/v1/repositories/{namespace}/{name}"
	return map[string]http.Handler{
		"GET /api/v1/repositories": http.HandlerFunc(r.list),
		"GET " + one:               http.HandlerFunc(r.get),
		"PUT " + one:               http.HandlerFunc(r.create),
		"DELETE " + one:            http.HandlerFunc(r.remove),
		"GET /api/v1/mirrors":      http.HandlerFunc(r.mirrors),
		"PUT /api/v1/mirrors":      http.HandlerFunc(r.addMirror),
		"DELETE /api/v1/mirrors":   http.HandlerFunc(r.removeMirror),
	}
}

func action(verb string, name core.Name) core.Action {
	return core.Action{Verb: verb, Group: core.Group, Resource: core.ResourceRepositories, Namespace: name.Namespace, Name: name.Name}
}

// list shows those that the user may read.
func (r *repositories) list(w http.ResponseWriter, req *http.Request) {
	user, err := r.access.Authenticate(req)
	if err != nil {
		refuse(w, err)
		return
	}
	all, err := r.repos.List(req.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	visible := []Repository{}
	for _, repo := range all {
		name, err := core.ParseName(repo.Name)
		if err != nil {
			continue
		}
		err = r.access.Authorize(req.Context(), user, action("get", name))
		var forbidden *core.ForbiddenError
		switch {
		case err == nil:
			visible = append(visible, repo)
		case !errors.As(err, &forbidden):
			refuse(w, err)
			return
		}
	}
	writeJSON(w, visible)
}

// allowed reads the name of the path and asks whether the user may do verb.
func (r *repositories) allowed(w http.ResponseWriter, req *http.Request, verb string) (core.User, core.Name, bool) {
	name, err := core.ParseName(req.PathValue("namespace") + "/" + req.PathValue("name"))
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return core.User{}, name, false
	}
	user, err := r.allow(req, action(verb, name))
	if err != nil {
		refuse(w, err)
		return user, name, false
	}
	return user, name, true
}

func (r *repositories) allow(req *http.Request, a core.Action) (core.User, error) {
	user, err := r.access.Authenticate(req)
	if err != nil {
		return user, err
	}
	return user, r.access.Authorize(req.Context(), user, a)
}

func (r *repositories) get(w http.ResponseWriter, req *http.Request) {
	_, name, ok := r.allowed(w, req, "get")
	if !ok {
		return
	}
	repo, err := r.repos.Get(req.Context(), name)
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, repo)
}

func (r *repositories) create(w http.ResponseWriter, req *http.Request) {
	user, name, ok := r.allowed(w, req, "create")
	if !ok {
		return
	}
	err := r.repos.Create(req.Context(), user, name)
	switch {
	case errors.Is(err, ErrExists):
		writeError(w, http.StatusConflict, fmt.Sprintf("repository %s exists already", name.Short()))
	case err != nil:
		refuse(w, err)
	default:
		w.WriteHeader(http.StatusCreated)
	}
}

func (r *repositories) remove(w http.ResponseWriter, req *http.Request) {
	_, name, ok := r.allowed(w, req, "delete")
	if !ok {
		return
	}
	if err := r.repos.Delete(req.Context(), name); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *repositories) mirrors(w http.ResponseWriter, req *http.Request) {
	if _, err := r.allow(req, core.Action{Verb: "list", Group: core.Group, Resource: core.ResourceRepositories}); err != nil {
		refuse(w, err)
		return
	}
	all, err := r.repos.Mirrors(req.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, all)
}

// addMirror changes what a URL means for the whole instance, so it takes the
// right to create repositories everywhere.
func (r *repositories) addMirror(w http.ResponseWriter, req *http.Request) {
	if _, err := r.allow(req, core.Action{Verb: "create", Group: core.Group, Resource: core.ResourceRepositories}); err != nil {
		refuse(w, err)
		return
	}
	var m Mirror
	dec := json.NewDecoder(http.MaxBytesReader(w, req.Body, maxBody))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		writeError(w, http.StatusBadRequest, "reading the request: "+err.Error())
		return
	}
	if err := r.repos.AddMirror(req.Context(), m); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *repositories) removeMirror(w http.ResponseWriter, req *http.Request) {
	if _, err := r.allow(req, core.Action{Verb: "create", Group: core.Group, Resource: core.ResourceRepositories}); err != nil {
		refuse(w, err)
		return
	}
	if err := r.repos.RemoveMirror(req.Context(), req.URL.Query().Get("url")); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
