package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

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

// hookLog is the log of the operation's hooks, which the status keeps: those
// that run, and each that has run is written there.
func (a *applicationRun) hookLog(state *argo.OperationState) *deploy.HookLog {
	// Each attempt is an operation of its own, and begins after the last.
	started := state.StartedAt.Add(time.Duration(state.RetryCount) * time.Second)
	revisions := state.SyncResult.Revisions
	if len(revisions) == 0 {
		revisions = []string{state.SyncResult.Revision}
	}
	log := &deploy.HookLog{
		As:        a.delivery.options.As,
		Operation: fmt.Sprintf("%d-%.7s", started.Unix(), digest(revisions)),
		Started:   started,
		Done:      map[deploy.HookRun]error{},
		Begun:     map[deploy.HookRun]bool{},
	}
	for _, r := range state.SyncResult.Resources {
		if r.HookType == "" {
			continue
		}
		run := deploy.HookRun{Ref: core.ObjectRef{Group: r.Group, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}, Phase: r.HookType}
		switch r.HookPhase {
		case argo.OperationSucceeded:
			log.Done[run] = nil
		case argo.OperationFailed:
			log.Done[run] = errors.New(r.Message)
		case argo.OperationRunning:
			log.Begun[run] = true
		}
	}
	if mournsSync(state.SyncResult) {
		log.Failure = errors.New(state.Message)
	}
	var mu sync.Mutex // hooks of one wave run side by side
	log.Note = func(ctx context.Context, h deploy.HookRun, failure error) error {
		mu.Lock()
		defer mu.Unlock()
		noteHook(state.SyncResult, h, failure)
		return a.writeProgress(ctx)
	}
	return log
}

// noteHook writes how a hook has ended.
func noteHook(result *argo.SyncOperationResult, h deploy.HookRun, failure error) {
	ended := argo.ResourceResult{
		Group: h.Ref.Group, Kind: h.Ref.Kind, Namespace: h.Ref.Namespace, Name: h.Ref.Name,
		HookType: h.Phase, HookPhase: argo.OperationSucceeded,
	}
	if failure != nil {
		ended.HookPhase, ended.Message = argo.OperationFailed, failure.Error()
	}
	for i, r := range result.Resources {
		if r.Group == ended.Group && r.Kind == ended.Kind && r.Namespace == ended.Namespace && r.Name == ended.Name && r.HookType == ended.HookType {
			ended.Version, ended.SyncPhase = r.Version, r.SyncPhase
			result.Resources[i] = ended
			return
		}
	}
	result.Resources = append(result.Resources, ended)
}

// mournsSync says that the operation has failed already, and has begun with
// its hooks for that.
func mournsSync(r *argo.SyncOperationResult) bool {
	return r != nil && slices.ContainsFunc(r.Resources, func(r argo.ResourceResult) bool {
		return r.HookType == "SyncFail"
	})
}

// result is the outcome as Argo CD writes it down, with what the status has of
// the operation where that has failed already: then only the hooks for that
// are in the outcome.
func (a *applicationRun) result(t *target, outcome *deploy.Outcome) *argo.SyncOperationResult {
	before, r := a.status.OperationState.SyncResult, a.syncResult(t, outcome)
	if !mournsSync(before) {
		return r
	}
	id := func(r argo.ResourceResult) argo.ResourceResult {
		return argo.ResourceResult{Group: r.Group, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, HookType: r.HookType}
	}
	rest := slices.DeleteFunc(slices.Clone(before.Resources), func(old argo.ResourceResult) bool {
		return slices.ContainsFunc(r.Resources, func(now argo.ResourceResult) bool { return equality.Semantic.DeepEqual(id(now), id(old)) })
	})
	r.Resources = append(rest, r.Resources...)
	return r
}

// terminated says that somebody has asked for the end of the operation.
func (a *applicationRun) terminated(ctx context.Context) bool {
	u := a.object.DeepCopy()
	if err := a.client.Get(ctx, a.key, u); err != nil {
		return apierrors.IsNotFound(err)
	}
	return ended(a.newest(u))
}

func hasOperation(u *unstructured.Unstructured) bool {
	_, there := u.Object["operation"]
	return there
}

// ended says that somebody has asked for the end of the operation that we have
// begun, in one of the two ways there are.
func ended(u *unstructured.Unstructured) bool {
	phase := operationPhase(u)
	return phase == argo.OperationTerminating || phase == argo.OperationRunning && !hasOperation(u)
}
