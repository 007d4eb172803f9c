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
	if wait := a.heal.drifted(a.now); wait > 0 {
		a.within(wait)
		return a.end(ctx)
	}
	a.heal.healed(a.now)
	return a.healObjects(ctx, lost)
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
	outcome, err := a.stages.Deployer.Apply(ctx, plan)
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
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
		a.within(a.heal.pause())
	} else {
		state.Phase, state.Message = argo.OperationSucceeded, healed(lost)
		a.event(a.object, "Normal", "Healed", state.Message)
	}
	a.status.OperationState = state
	return a.end(ctx)
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
