package app

import (
	"context"
	"errors"
	"strings"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
)

var _ controller.Commits = (*commits)(nil)

// commits writes forward commits to embedded repositories.
type commits struct{ store *git.Store }

// Commit implements controller.Commits.
func (c *commits) Commit(ctx context.Context, req controller.CommitRequest) (core.Revision, error) {
	changes := make(map[string]git.Change, len(req.Changes))
	for _, change := range req.Changes {
		changes[change.Path] = git.Change{Mode: change.Entry.Mode, Hash: change.Entry.Hash, Delete: change.Remove}
	}
	revision, err := c.store.Commit(ctx, git.CommitRequest{
		Repository: req.Repository,
		Branch:     strings.TrimPrefix(req.Ref, "refs/heads/"),
		Expect:     req.Parent,
		Changes:    changes,
		Message:    req.Message,
		Author:     identityOf(req.Author),
		Who:        req.Author.Name,
	})
	var conflict *git.ConflictError
	if errors.As(err, &conflict) {
		return revision, &controller.MovedError{Ref: req.Ref}
	}
	return revision, err
}

// identityOf is a Kubernetes user as a person in a commit. Kubernetes knows no
// mail addresses; the domain is reserved, so that no mail goes anywhere.
func identityOf(u core.User) git.Identity {
	local := strings.NewReplacer(":", ".", "<", "", ">", "", "@", ".", " ", ".").Replace(u.Name)
	return git.Identity{Name: u.Name, Email: local + "@fairway.invalid"}
}
