package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/syncwindow"
)

// checkWindows refuses windows that cannot be read: who does not know when
// something is forbidden must not do it.
func checkWindows(p *argo.AppProject, refused *SpecError) {
	for i, w := range p.Spec.SyncWindows {
		var wrong *syncwindow.FieldError
		if _, err := syncwindow.Parse(w); errors.As(err, &wrong) {
			refused.add(indexed("spec.syncWindows", i)+"."+wrong.Field, "%s", wrong.Problem)
		}
	}
}

// window asks the project's sync windows about an operation.
func (a *applicationRun) window(ctx context.Context, op syncwindow.Operation) (syncwindow.Verdict, error) {
	p, err := a.itsProject(ctx)
	if err != nil {
		return syncwindow.Verdict{}, err
	}
	windows, err := syncwindow.ParseAll(p.Spec.SyncWindows)
	if err != nil {
		return syncwindow.Verdict{}, &ProjectError{p.Name, err.Error()}
	}
	return windows.Of(a.app).Judge(a.now, op), nil
}

// heldBack says that a window forbids a sync that the policy asks for, notes so
// and has it looked at when that changes.
func (a *applicationRun) heldBack(ctx context.Context) (bool, error) {
	v, err := a.window(ctx, syncwindow.Operation{})
	if err != nil || v.Permitted {
		return false, err
	}
	a.condition(argo.ConditionSyncWindowWarning, "the automated sync is held back by "+windowText(v))
	a.withinWindow(v)
	return true, nil
}

// blocked says that a window forbids the operation, or that it goes on: it
// stays Running, as in Argo CD, and goes on by itself.
func (a *applicationRun) blocked(ctx context.Context, op argo.Operation) (bool, error) {
	asked := syncwindow.Operation{Manual: !op.InitiatedBy.Automated}
	state := a.status.OperationState
	known := state != nil && state.Phase == argo.OperationRunning && digest(state.Operation) == digest(op)
	if known && state.SyncResult != nil { // it was begun
		asked.Started = state.StartedAt.Time
	}
	v, err := a.window(ctx, asked)
	if err != nil || v.Permitted {
		return false, err
	}
	if !known {
		state = a.newState(op)
		a.status.OperationState = state
	}
	state.Message = "the sync is held back by " + windowText(v)
	a.condition(argo.ConditionSyncWindowWarning, state.Message)
	a.withinWindow(v)
	return true, nil
}

func windowText(v syncwindow.Verdict) string {
	text := fmt.Sprintf("the sync window %s", v.Because)
	if len(v.Because) > 1 {
		text = fmt.Sprintf("the sync windows %s", v.Because)
	}
	if v.Until.IsZero() {
		return text + ", with no end in sight"
	}
	return text + " until " + v.Until.UTC().Format(time.RFC3339)
}

// withinWindow has it looked at when the windows permit it.
func (a *applicationRun) withinWindow(v syncwindow.Verdict) {
	if !v.Until.IsZero() {
		a.within(max(time.Millisecond, time.Until(v.Until)))
	}
}

// endUnless ends the reconcile, or says why it could not be found out whether
// it may go on.
func (a *applicationRun) endUnless(ctx context.Context, err error) (reconcile.Result, error) {
	if err != nil {
		return a.refuse(ctx, argo.ConditionInvalidSpecError, err)
	}
	return a.end(ctx)
}
