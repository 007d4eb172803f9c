package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
)

// running says that the status has an operation as running.
func (a *applicationRun) running() bool {
	s := a.status.OperationState
	return s != nil && s.Phase == argo.OperationRunning && s.FinishedAt == nil
}

// removed says that somebody has taken the operation away that runs, which is
// one of the ways to end it.
func (a *applicationRun) removed() bool {
	s := a.status.OperationState
	return a.app.Operation == nil && s != nil && (s.Phase == argo.OperationRunning || s.Phase == argo.OperationTerminating)
}

// waits says that the operation waits for what is still wanted.
func (a *applicationRun) waits() bool {
	return a.wait != nil && a.target != nil && a.app.Operation != nil && a.running() && a.wait.target.params == a.delivery.work()
}

// undisturbed says that nothing has happened but on the cluster, so that
// neither Git nor a renderer has to be asked.
func (a *applicationRun) undisturbed() bool {
	return a.why&^(drifted|timerFired) == 0 && a.refreshed == ""
}

// goOn resumes an operation that waits with what it was begun for, where there
// is a reason to.
func (a *applicationRun) goOn(ctx context.Context) (reconcile.Result, error) {
	if !a.stirred() {
		return a.stay(ctx)
	}
	a.resuming = true
	a.noteTarget(a.target)
	return a.operate(ctx, a.current(*a.app.Operation))
}

// goOnWithout does so though the source cannot be had now: what waits does
// not need it.
func (a *applicationRun) goOnWithout(ctx context.Context, err error) (reconcile.Result, error) {
	a.condition(argo.ConditionComparisonError, explain(err))
	if !permanent(err) {
		a.failures++
		a.within(retryAfter(a.failures, a.opts.Poll))
	}
	return a.goOn(ctx)
}

// stirred says that the operation has a reason not to wait any more.
func (a *applicationRun) stirred() bool {
	if a.wait.unconfirmed && approved(a.app, a.status.OperationState.StartedAt.Time) {
		return true
	}
	return a.overdue() || a.come(a.delivery.owner, a.wait) || a.disturbed() || !a.wait.unconfirmed && a.now.Sub(a.wait.looked) >= lookAgain
}

// disturbed says that what the operation has applied is not so any more, and
// that it may be put right now: it would not get any further without.
func (a *applicationRun) disturbed() bool {
	resources := resourcesByKey(a.status.Resources)
	var lost []drift.ObjectState
	for _, s := range a.stages.Watcher.State(a.delivery.owner) {
		if s.Drift != drift.None && s.TakenBy == nil && resources[s.Ref.Key()].Status == argo.SyncSynced {
			lost = append(lost, s)
		}
	}
	due, next := a.fights.due(lost, a.now)
	a.within(next)
	a.healed(due, nil)
	return len(due) > 0
}

// overdue says that the operation waits for longer than a sync may take. One
// that only a person can carry on may take forever.
func (a *applicationRun) overdue() bool {
	return a.opts.SyncTimeout > 0 && a.wait != nil && !a.wait.unconfirmed &&
		time.Since(a.status.OperationState.StartedAt.Time) >= a.opts.SyncTimeout
}

// stay leaves the operation waiting, and writes how its objects are.
func (a *applicationRun) stay(ctx context.Context) (reconcile.Result, error) {
	for _, c := range a.app.Status.Conditions {
		if a.undisturbed() || c.Type == argo.ConditionSharedResourceWarning {
			a.condition(c.Type, c.Message)
		}
	}
	resources := resourcesByKey(a.status.Resources)
	for _, s := range a.stages.Watcher.State(a.delivery.owner) {
		if r, known := resources[s.Ref.Key()]; known && r.Health != nil && s.Health != "" {
			r.Health = a.health(r.Health, s.Health, s.Message)
			resources[s.Ref.Key()] = r
		}
	}
	a.setResources(resources)
	a.withinWait()
	return a.end(ctx)
}

// withinWait has the wait looked at in time.
func (a *applicationRun) withinWait() {
	if a.wait.unconfirmed {
		return
	}
	a.within(lookAgain)
	if a.opts.SyncTimeout > 0 {
		a.within(max(time.Millisecond, time.Until(a.status.OperationState.StartedAt.Add(a.opts.SyncTimeout))))
	}
}

// waitFor leaves the operation running, since it has to wait.
func (a *applicationRun) waitFor(ctx context.Context, t *target, op argo.Operation, outcome *deploy.Outcome, w *waiting, message string) (reconcile.Result, error) {
	state, before := a.status.OperationState, a.wait
	w.target, w.results, w.looked, w.since = t, outcome.Results, a.now, a.now
	if before != nil {
		w.since = before.since
	}
	w.worked(before, outcome.Took)
	for i := range w.results {
		w.results[i].Live = nil
	}
	a.wait, a.deployed = w, ""
	state.SyncResult, state.Message = a.result(t, outcome), message
	a.appliedSoFar(t, outcome, len(op.Sync.Resources) > 0 || w.failure != nil)
	if a.overdue() {
		return a.cutOff(ctx, fmt.Sprintf("the operation was terminated: it was not through within %s: %s", a.opts.SyncTimeout, message))
	}
	if a.await(a.delivery.owner, w) {
		a.within(w.sooner(before))
	}
	a.withinWait()
	log.FromContext(ctx).V(1).Info("sync waits", "revision", t.revision(), "for", message)
	return a.end(ctx)
}

// waitForObjects waits for objects to become healthy, done or gone. While the
// hooks for a failure run, the message is the failure: that is also how it is
// known after a restart.
func (a *applicationRun) waitForObjects(ctx context.Context, t *target, op argo.Operation, outcome *deploy.Outcome, err *deploy.WaitingError) (reconcile.Result, error) {
	message := err.Error()
	if err.Failure != nil {
		message = explain(err.Failure)
	}
	return a.waitFor(ctx, t, op, outcome, &waiting{objects: err.Objects, failure: err.Failure}, message)
}

// waitForConfirmation waits for somebody to confirm prunes. All else is done.
func (a *applicationRun) waitForConfirmation(ctx context.Context, t *target, op argo.Operation, outcome *deploy.Outcome, err *deploy.UnconfirmedError) (reconcile.Result, error) {
	w := &waiting{unconfirmed: true}
	confirm := map[core.ObjectRef]bool{}
	for _, ref := range err.Objects {
		confirm[ref.Key()] = true
		w.objects = append(w.objects, deploy.Awaited{Ref: ref, Until: deploy.UntilGone}) // by hand
	}
	a.confirm = confirm
	return a.waitFor(ctx, t, op, outcome, w, a.unconfirmed(err, a.status.OperationState.StartedAt.Time))
}

// outdated says that what the waiting operation applies is not what is wanted
// any more: t is.
func (a *applicationRun) outdated(t *target, op argo.Operation) bool {
	return a.wait.target.params != a.delivery.work() || op.InitiatedBy.Automated && t.digest != a.wait.target.digest
}

// overtake ends the waiting operation, and begins with what is wanted now
// where the policy asks for that.
func (a *applicationRun) overtake(ctx context.Context, t *target) (reconcile.Result, error) {
	if err := a.leaveWait(ctx); err != nil {
		return reconcile.Result{}, err
	}
	a.stats.sync(deploy.ErrSuperseded)
	if a.automation() == nil {
		a.status.OperationState.FinishedAt, a.deployed = now(), ""
		a.completeOperation(argo.OperationFailed, "superseded: the Application was changed")
		a.within(time.Millisecond)
		return a.end(ctx)
	}
	a.event(a.object, "Normal", "SyncSuperseded", "superseded by "+short(t))
	a.status.OperationState = nil
	return a.operate(ctx, a.automatedOperation(nil))
}

// cutOff ends an operation that is not through, and deletes the hooks of it
// that still run.
func (a *applicationRun) cutOff(ctx context.Context, message string) (reconcile.Result, error) {
	if err := a.leaveWait(ctx); err != nil {
		return reconcile.Result{}, err
	}
	a.status.OperationState.FinishedAt, a.deployed = now(), ""
	a.completeOperation(argo.OperationFailed, message)
	a.stats.sync(errors.New(message))
	a.event(a.object, "Warning", "SyncTerminated", message)
	a.retryByHealing()
	return a.end(ctx)
}

// leaveWait ends the waiting, and with it the hooks that run.
func (a *applicationRun) leaveWait(ctx context.Context) error {
	if state := a.status.OperationState; state != nil && state.SyncResult != nil && hooksRun(state.SyncResult) {
		if err := a.stages.Deployer.Stop(ctx, a.delivery.owner, a.hookLog(state)); err != nil {
			return fmt.Errorf("end the hooks of the operation: %w", err)
		}
		for i, r := range state.SyncResult.Resources {
			if r.HookPhase == argo.OperationRunning {
				state.SyncResult.Resources[i].HookPhase = argo.OperationFailed
				state.SyncResult.Resources[i].Message = "deleted, because the operation has ended before it"
			}
		}
	}
	if a.wait != nil {
		a.wait = nil
		a.stages.Watcher.Follow(a.delivery.owner, nil)
	}
	return nil
}

// hooksRun says that there is a hook that is not done.
func hooksRun(r *argo.SyncOperationResult) bool {
	return slices.ContainsFunc(r.Resources, func(r argo.ResourceResult) bool { return r.HookPhase == argo.OperationRunning })
}
