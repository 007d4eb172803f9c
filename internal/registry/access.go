package registry

import (
	"context"
	"errors"
	"net/http"

	"github.com/fairway-cd/fairway/internal/core"
)

// authorize asks whether the user may send this request.
func (g *Registry) authorize(ctx context.Context, user core.User, method string, rt route) *apiError {
	verb := ""
	switch {
	case rt.end == endBase, rt.end == endCatalog: // the catalog is filtered instead
		return nil
	case rt.end == endUploads, rt.end == endUpload:
		verb = "update" // status and cancel too: an upload is the pusher's
	case method == http.MethodGet, method == http.MethodHead:
		verb = "get"
	case method == http.MethodDelete:
		verb = "delete"
	default:
		verb = "update"
	}
	if err := g.allowed(ctx, user, verb, rt.name); err != nil {
		return accessError(err)
	}
	return nil
}

// admit asks, before the first push to a repository, whether its namespace is
// there: to be allowed to push into every namespace does not make one.
func (g *Registry) admit(ctx context.Context, name core.Name) *apiError {
	if g.tenant == nil {
		return nil
	}
	there, err := g.store.exists(ctx, repoPath(name))
	if err == nil && !there {
		err = g.tenant(ctx, name.Namespace)
	}
	var none *core.NoNamespaceError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &none):
		return errorf(http.StatusNotFound, codeNameUnknown, "%s; %s", none, none.Hint())
	default:
		return accessError(err)
	}
}

// allowed asks for one verb on one repository; the error is core.Access's.
func (g *Registry) allowed(ctx context.Context, user core.User, verb string, name core.Name) error {
	return g.access.Authorize(ctx, user, core.Action{
		Verb:      verb,
		Group:     core.Group,
		Resource:  core.ResourceImages,
		Namespace: name.Namespace,
		Name:      name.Name,
	})
}
