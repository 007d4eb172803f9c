package app

import (
	"context"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
)

var _ controller.Sources = (*sources)(nil)

// sources are the trees that deliveries are read from: Git, and charts of
// registries.
type sources struct {
	git *git.Store
}

// Resolve implements controller.Sources.
func (s *sources) Resolve(ctx context.Context, req controller.SourceRequest) (core.Snapshot, error) {
	return s.git.Resolve(ctx, req.URL, git.Ref(req.Ref), gitAuth(req.Auth))
}

// Embedded implements controller.Sources.
func (s *sources) Embedded(url string) (core.Name, bool) {
	at, err := s.git.Locate(url)
	if err != nil || !at.Embedded() {
		return core.Name{}, false
	}
	return at.Repository, true
}

// Same implements controller.Sources.
func (s *sources) Same(url string, u core.RefUpdate) bool {
	at, err := s.git.Locate(url)
	if err != nil {
		return false
	}
	if at.Embedded() {
		return at.Repository == u.Repository
	}
	return u.URL != "" && at.URL == u.URL
}
