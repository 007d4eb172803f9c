package core

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// User is a Kubernetes user: a person, or a robot with a ServiceAccount.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
	// Stale says that this could not be confirmed just now, because who must
	// be asked is away, but was a short time ago: only reads may be allowed.
	Stale bool
}

// Action is what a user wants to do, in the words of Kubernetes RBAC.
//
//   - Git: verb get (fetch), update (push), create, delete on resource
//     "repositories" of group fairway-cd.io
//   - registry: verb get (pull), update (push), delete on "images"
//   - API: any verb on any group and resource
type Action struct {
	Verb      string
	Group     string
	Resource  string
	Namespace string
	Name      string
}

// Group is our own API group, which holds only what nobody has.
const Group = "fairway-cd.io"

// The resources of our group that requests are checked against.
const (
	ResourceRepositories = "repositories"
	ResourceImages       = "images"
)

// String reads as a sentence's end: "update repositories.fairway-cd.io default/web-app".
func (a Action) String() string {
	resource := a.Resource
	if a.Group != "" {
		resource += "." + a.Group
	}
	if a.Namespace == "" {
		return fmt.Sprintf("%s %s %s", a.Verb, resource, a.Name)
	}
	return fmt.Sprintf("%s %s %s/%s", a.Verb, resource, a.Namespace, a.Name)
}

// Access says who is asking and whether they may. It is asked for every
// request to Git, registry and API. Implementations are safe for concurrent
// use.
type Access interface {
	// Authenticate returns the user behind the request's credentials: a bearer
	// token, or basic authentication whose password is one. Errors:
	// ErrUnauthenticated (no credential, a wrong or an expired one),
	// *UnavailableError (who it is cannot be found out now).
	Authenticate(r *http.Request) (User, error)
	// Authorize returns nil where the user may do it. Errors:
	// *ForbiddenError, *UnavailableError. While the API server is away, reads
	// (verb get) that were just allowed go on.
	Authorize(ctx context.Context, u User, a Action) error
}

// ErrUnauthenticated says that a request has no valid credential: HTTP 401.
// What it wraps may say more ("the token expired").
var ErrUnauthenticated = errors.New("authentication required")

// ForbiddenError says that a user may not do something: HTTP 403.
type ForbiddenError struct {
	User   string
	Action Action
	Reason string
}

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("user %q may not %s", e.User, e.Action)
}

// UnavailableError says that something that must be asked is away: HTTP 503.
type UnavailableError struct {
	What string
	Err  error
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("%s is unavailable: %v", e.What, e.Err) }
func (e *UnavailableError) Unwrap() error { return e.Err }

// Hinted is an error that knows what to do about it. The command line prints
// the hint on a line of its own.
type Hinted interface {
	error
	Hint() string
}
