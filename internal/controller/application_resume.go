package controller

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// began says whether the running operation, as the status has it, was begun
// for t: if so it is resumed, and otherwise begun anew.
func (a *applicationRun) began(t *target) bool {
	r := a.status.OperationState.SyncResult
	return r != nil && a.of(r, t)
}

// of says whether the result is of t.
func (a *applicationRun) of(r *argo.SyncOperationResult, t *target) bool {
	if digest([]any{r.Source, r.Sources}) != digest([]any{a.sourceOf(), a.app.Spec.Sources}) {
		return false
	}
	if len(a.app.Spec.Sources) > 0 {
		return slices.Equal(r.Revisions, t.commits())
	}
	return r.Revision == t.revision()
}

// hookLog is the log of the operation's hooks, which the status keeps: each
// that has run is written there.
func (a *applicationRun) hookLog(t *target, state *argo.OperationState) *deploy.HookLog {
	// Each attempt is an operation of its own, and begins after the last.
	started := state.StartedAt.Add(time.Duration(state.RetryCount) * time.Second)
	log := &deploy.HookLog{
		Operation: fmt.Sprintf("%d-%.7s", started.Unix(), digest(t.commits())),
		Started:   started,
		Done:      map[deploy.HookRun]bool{},
	}
	for _, r := range state.SyncResult.Resources {
		if r.HookType != "" && r.HookPhase == argo.OperationSucceeded {
			ref := core.ObjectRef{Group: r.Group, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
			log.Done[deploy.HookRun{Ref: ref, Phase: r.HookType}] = true
		}
	}
	var mu sync.Mutex // hooks of one wave run side by side
	log.Note = func(ctx context.Context, h deploy.HookRun) error {
		mu.Lock()
		defer mu.Unlock()
		state.SyncResult.Resources = append(state.SyncResult.Resources, argo.ResourceResult{
			Group: h.Ref.Group, Kind: h.Ref.Kind, Namespace: h.Ref.Namespace, Name: h.Ref.Name,
			HookType: h.Phase, HookPhase: argo.OperationSucceeded,
		})
		return a.writeProgress(ctx)
	}
	return log
}

// waitForConfirmation leaves the operation running: all is done but what
// somebody has to confirm. That is an event, and holds no worker.
func (a *applicationRun) waitForConfirmation(ctx context.Context, t *target, op argo.Operation, outcome *deploy.Outcome, err *deploy.UnconfirmedError) (reconcile.Result, error) {
	state := a.status.OperationState
	a.applied(t, outcome, len(op.Sync.Resources) > 0)
	waiting := map[core.ObjectRef]bool{}
	for _, ref := range err.Objects {
		waiting[ref.Key()] = true
	}
	for i, r := range a.status.Resources {
		a.status.Resources[i].RequiresDeletionConfirmation = waiting[resourceRef(r).Key()]
	}
	state.SyncResult = a.syncResult(t, outcome)
	state.Message = a.unconfirmed(err, state.StartedAt.Time)
	a.deployed = ""
	return a.end(ctx)
}

// terminated says that somebody has asked for the end of the operation.
func (a *applicationRun) terminated(ctx context.Context) bool {
	u := a.object.DeepCopy()
	if err := a.client.Get(ctx, a.key, u); err != nil {
		return apierrors.IsNotFound(err)
	}
	app, err := readApplication(a.newest(u))
	return err == nil && app.Status.OperationState != nil && app.Status.OperationState.Phase == argo.OperationTerminating
}
