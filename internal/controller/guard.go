package controller

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairway-cd/fairway/internal/core"
)

// readerAccount is the ServiceAccount that stands for a namespace: what it may
// read, the namespace's deliveries may.
const readerAccount = "default"

// guarded lets a namespace read embedded repositories of others only where
// Kubernetes permits it.
type guarded struct {
	Sources
	access core.Access
}

// Guard returns sources that ask access first. A namespace reads its own
// repositories; of others, its ServiceAccount default needs get on
// repositories.fairway-cd.io. Refusals are *RepositoryDeniedError.
func Guard(sources Sources, access core.Access) Sources { return &guarded{sources, access} }

// Resolve implements Sources.
func (g *guarded) Resolve(ctx context.Context, req SourceRequest) (core.Snapshot, error) {
	if name, embedded := g.Embedded(req.URL); embedded && name.Namespace != req.Namespace {
		err := g.access.Authorize(ctx, readerOf(req.Namespace), core.Action{
			Verb: "get", Group: core.Group, Resource: core.ResourceRepositories, Namespace: name.Namespace, Name: name.Name,
		})
		if errors.As(err, new(*core.ForbiddenError)) {
			return core.Snapshot{}, &RepositoryDeniedError{Repository: name, Namespace: req.Namespace}
		}
		if err != nil {
			return core.Snapshot{}, fmt.Errorf("asking whether namespace %s may read repository %s: %w", req.Namespace, name, err)
		}
	}
	return g.Sources.Resolve(ctx, req)
}

// ReaderOf is the user that stands for a namespace when its deliveries read.
func ReaderOf(namespace string) core.User { return readerOf(namespace) }

// readerOf is the user that stands for a namespace, as the API server knows
// it: Kubernetes, "Service account users and groups".
func readerOf(namespace string) core.User {
	return core.User{
		Name:   "system:serviceaccount:" + namespace + ":" + readerAccount,
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
}

// RepositoryDeniedError says that a namespace may not read a repository of
// another one.
type RepositoryDeniedError struct {
	Repository core.Name
	// Namespace is that of the GitRepository or Application.
	Namespace string
}

func (e *RepositoryDeniedError) Error() string {
	return fmt.Sprintf("namespace %s may not read repository %s: its ServiceAccount %s has no permission to get repositories.%s %q in namespace %s",
		e.Namespace, e.Repository, readerAccount, core.Group, e.Repository.Name, e.Repository.Namespace)
}

// Hint is the grant to make.
func (e *RepositoryDeniedError) Hint() string {
	return fmt.Sprintf("grant it with: kubectl create rolebinding fairway-read-by-%s -n %s --clusterrole=fairway-reader --serviceaccount=%s:%s",
		e.Namespace, e.Repository.Namespace, e.Namespace, readerAccount)
}
