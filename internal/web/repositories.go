package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
)

// Repositories is what the API does with Git repositories. Get and Delete
// return an error that satisfies errors.Is(err, ErrNotFound), Create one that
// satisfies errors.Is(err, ErrExists).
type Repositories interface {
	// Names are those of all repositories, sorted.
	Names(ctx context.Context) ([]core.Name, error)
	Get(ctx context.Context, name core.Name) (*Repository, error)
	Create(ctx context.Context, by core.User, name core.Name) error
	Delete(ctx context.Context, name core.Name) error
	Mirrors(ctx context.Context) ([]Mirror, error)
	AddMirror(ctx context.Context, m Mirror) error
	RemoveMirror(ctx context.Context, url string) error
}

// ErrExists says that what is to be created is there already.
var ErrExists = problem.New(http.StatusConflict, "exists already")

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

type repositories struct {
	access core.Access
	repos  Repositories
}

// RepositoryList is the route of RepositoryRoutes that costs the most.
const RepositoryList = "GET /api/v1/repositories"

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
		RepositoryList:           answers(access, r.list),
		"GET " + one:             answers(access, r.get),
		"PUT " + one:             does(access, http.StatusCreated, r.create),
		"DELETE " + one:          does(access, http.StatusNoContent, r.remove),
		"GET /api/v1/mirrors":    answers(access, r.mirrors),
		"PUT /api/v1/mirrors":    does(access, http.StatusNoContent, r.addMirror),
		"DELETE /api/v1/mirrors": does(access, http.StatusNoContent, r.removeMirror),
	}
}

func action(verb string, name core.Name) core.Action {
	return core.Action{Verb: verb, Group: core.Group, Resource: core.ResourceRepositories, Namespace: name.Namespace, Name: name.Name}
}

// list shows those that the user may read, and looks at no others.
func (r *repositories) list(req *http.Request, user core.User) ([]Repository, error) {
	ctx := req.Context()
	names, err := r.repos.Names(ctx)
	if err != nil {
		return nil, err
	}
	sight := core.NewSight(r.access, user, core.Group, core.ResourceRepositories)
	visible := []Repository{}
	for _, name := range names {
		may, err := sight.Object(ctx, name.Namespace, name.Name)
		if err != nil {
			return nil, err
		}
		if !may {
			continue
		}
		repo, err := r.repos.Get(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		repo.Refs = nil
		visible = append(visible, *repo)
	}
	return visible, nil
}

// named is the repository of the path, where the user may do verb with it.
func (r *repositories) named(req *http.Request, user core.User, verb string) (core.Name, error) {
	name, err := core.ParseName(req.PathValue("namespace") + "/" + req.PathValue("name"))
	if err != nil {
		return name, err
	}
	return name, r.access.Authorize(req.Context(), user, action(verb, name))
}

func (r *repositories) get(req *http.Request, user core.User) (*Repository, error) {
	name, err := r.named(req, user, "get")
	if err != nil {
		return nil, err
	}
	return r.repos.Get(req.Context(), name)
}

func (r *repositories) create(req *http.Request, user core.User) error {
	name, err := r.named(req, user, "create")
	if err != nil {
		return err
	}
	return r.repos.Create(req.Context(), user, name)
}

func (r *repositories) remove(req *http.Request, user core.User) error {
	name, err := r.named(req, user, "delete")
	if err != nil {
		return err
	}
	return r.repos.Delete(req.Context(), name)
}

// everywhere asks about the repositories of all namespaces. A mirror changes
// what a URL means for the whole instance, so it takes the right to create
// them.
func (r *repositories) everywhere(req *http.Request, user core.User, verb string) error {
	return r.access.Authorize(req.Context(), user, action(verb, core.Name{}))
}

func (r *repositories) mirrors(req *http.Request, user core.User) ([]Mirror, error) {
	if err := r.everywhere(req, user, "list"); err != nil {
		return nil, err
	}
	return r.repos.Mirrors(req.Context())
}

func (r *repositories) addMirror(req *http.Request, user core.User) error {
	if err := r.everywhere(req, user, "create"); err != nil {
		return err
	}
	var m Mirror
	if err := readJSON(req, &m); err != nil {
		return err
	}
	return r.repos.AddMirror(req.Context(), m)
}

func (r *repositories) removeMirror(req *http.Request, user core.User) error {
	if err := r.everywhere(req, user, "create"); err != nil {
		return err
	}
	return r.repos.RemoveMirror(req.Context(), req.URL.Query().Get("url"))
}
