package controller

import (
	"context"
	"errors"

	"github.com/fairway-cd/fairway/internal/core"
)

func (c storeCommits) Commit(ctx context.Context, req CommitRequest) (core.Revision, error) {
	return core.Revision{}, errors.New("todo")
}
