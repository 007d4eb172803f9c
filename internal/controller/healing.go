package controller

import (
	"context"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/deploy"
)

// mostHeals is how many heals go on at a time. When everything drifts at once
// the API server is to have time left for syncs, for which somebody waits.
const mostHeals = 16

// unhurried is a reconciler whose timers are no more urgent than drift. Without
// it a timer would have the priority of what the object was woken for, and give
// it to the drift that comes before the timer fires.
type unhurried struct{ reconcile.Reconciler }

// Reconcile implements reconcile.Reconciler.
func (u unhurried) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	res, err := u.Reconciler.Reconcile(ctx, req)
	if res.Priority == nil {
		res.Priority = ptr.To(whenever)
	}
	return res, err
}

// The priorities of what waits.
const (
	whenever = 0
	soon     = 10
)

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
