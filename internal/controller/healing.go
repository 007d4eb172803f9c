package controller

import (
	"context"

	"github.com/fairway-cd/fairway/internal/deploy"
)

// mostHeals is how many heals go on at a time. When everything drifts at once
// the API server is to have time left for syncs, for which somebody waits.
const mostHeals = 16

// healing is the places of heals.
type healing chan struct{}

func newHealing() healing { return make(healing, mostHeals) }

// applyHeal is Apply, when there is a place.
func (e *Engine) applyHeal(ctx context.Context, p deploy.Plan) (*deploy.Outcome, error) {
	select {
	case e.healing <- struct{}{}:
		defer func() { <-e.healing }()
	case <-ctx.Done():
		return &deploy.Outcome{Inventory: p.Inventory}, context.Cause(ctx)
	}
	return e.stages.Deployer.Apply(ctx, p)
}
