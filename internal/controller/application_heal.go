package controller

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
)

// observe takes over what the watch has seen, and heals.
func (a *applicationRun) observe(ctx context.Context) (reconcile.Result, error) {
	states := a.stages.Watcher.State(a.delivery.owner)
	lost := a.observed(ctx, states)
	due, next := a.fights.due(lost, a.now)
	if len(lost) == 0 {
		if a.status.Sync.Status == argo.SyncSynced {
			a.heal.synced(a.now)
		}
		return a.end(ctx)
	}
	policy := a.automation()
	if policy == nil || !policy.SelfHeal {
		return a.end(ctx)
	}
	a.within(next)
	if len(due) == 0 {
		return a.end(ctx)
	}
	if held, err := a.heldBack(ctx); held || err != nil {
		return a.endUnless(ctx, err)
	}
	return a.healObjects(ctx, due)
}

// healObjects applies only what has drifted, from what is already rendered.
func (a *applicationRun) healObjects(ctx context.Context, lost []drift.ObjectState) (reconcile.Result, error) {
	plan := a.plan(a.target, a.delivery.options)
	var resources []argo.SyncOperationResource
	for _, s := range lost {
		plan.Only = append(plan.Only, s.Ref)
		resources = append(resources, argo.SyncOperationResource{Group: s.Ref.Group, Kind: s.Ref.Kind, Namespace: s.Ref.Namespace, Name: s.Ref.Name})
	}
	op := a.automatedOperation(resources)
	started := metav1.NewTime(a.now)
	outcome, err := a.applyHeal(ctx, plan)
	switch {
	case ctx.Err() != nil:
		return reconcile.Result{}, ctx.Err()
	case unreachable(err):
		return a.away(ctx, err)
	}
	a.healed(lost, outcome.Results)
	var waiting *deploy.WaitingError
	if errors.As(err, &waiting) {
		// Healing takes no time, but for waves and for what has to be made anew.
		return a.operate(ctx, op)
	}
	a.stats.heals.Inc()
	a.applied(a.target, outcome, true)
	state := &argo.OperationState{Operation: op, StartedAt: started, FinishedAt: now(), SyncResult: a.syncResult(a.target, outcome)}
	if err != nil {
		state.Phase, state.Message = argo.OperationFailed, explain(err)
		a.condition(argo.ConditionSyncError, "healing failed: "+explain(err))
	} else {
		state.Phase, state.Message = argo.OperationSucceeded, healed(lost)
		a.event(a.object, "Normal", "Healed", state.Message)
	}
	a.status.OperationState = state
	// What an admission has answered otherwise again is not news to the watch.
	_, next := a.fights.due(a.observed(ctx, a.stages.Watcher.State(a.delivery.owner)), a.now)
	a.within(next)
	return a.end(ctx)
}

// healed notes that drifted objects were applied again, and says so where it
// has become a fight.
func (a *applicationRun) healed(lost []drift.ObjectState, results []deploy.ObjectResult) {
	a.tellFights(a.object, &a.fights, a.fights.healed(lost, results, a.now))
}

// noteFights says in the status which objects are fought over, and has it
// looked at again when that may be over.
func (a *applicationRun) noteFights() {
	over, next := a.fights.ended(a.now)
	a.tellPeace(a.object, over)
	a.within(next)
	if message := a.fights.describe(); message != "" {
		a.condition(argo.ConditionFightingWarning, message)
	}
}

// healed says what was put right, and who had changed it.
func healed(lost []drift.ObjectState) string {
	s := lost[0]
	msg := fmt.Sprintf("healed %s (%s", s.Ref, s.Drift)
	if s.By != "" {
		msg += " by " + s.By
	}
	msg += ")"
	if n := len(lost) - 1; n > 0 {
		msg += fmt.Sprintf(" and %d more", n)
	}
	return msg
}
