package git

import (
	"context"

	"github.com/fairway-cd/fairway/internal/core"
)

// Auth is what a remote repository is asked with.
type Auth struct{}

type mirrorState struct{}

func (s *Store) mirrors() ([]*repository, error) { return nil, nil }

func (s *Store) resolveMirror(ctx context.Context, u remote, ref Ref, auth Auth) (core.Snapshot, error) {
	return core.Snapshot{}, &UnreachableError{URL: u.String(), Reason: "not supported yet"}
}
