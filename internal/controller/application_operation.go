package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// finish takes the outcome of an operation into the status: it is done, or
// will be tried again.
func (a *applicationRun) finish(ctx context.Context, t *target, op argo.Operation, outcome *deploy.Outcome, err error) (reconcile.Result, error) {
	state := a.status.OperationState
	var waiting *deploy.WaitingError
	if errors.As(err, &waiting) {
		return a.waitForObjects(ctx, t, op, outcome, waiting)
	}
	var unconfirmed *deploy.UnconfirmedError
	if errors.As(err, &unconfirmed) {
		return a.waitForConfirmation(ctx, t, op, outcome, unconfirmed)
	}
	took := stepsOf(t, a.wait, outcome.Took)
	failed := mournsSync(state.SyncResult)
	state.SyncResult, state.FinishedAt = a.result(t, outcome), now()
	selective := len(op.Sync.Resources) > 0
	if !op.Sync.DryRun {
		a.applied(t, outcome, selective || failed)
	}
	if errors.Is(err, deploy.ErrSuperseded) {
		return a.finishEarly(ctx, t)
	}
	if err := a.leaveWait(ctx); err != nil { // hooks that outlive a failure
		return reconcile.Result{}, err
	}
	a.stats.sync(err)
	switch {
	case err != nil && a.retry(op, state, err):
	case err != nil:
		a.completeOperation(argo.OperationFailed, explain(err))
		a.condition(argo.ConditionSyncError, fmt.Sprintf("sync of %s failed: %s", short(t), explain(err)))
		a.event(a.object, "Warning", "SyncFailed", explain(err))
		a.retryByHealing()
	default:
		a.completeOperation(argo.OperationSucceeded, succeeded(op, outcome))
		if !op.Sync.DryRun && !selective {
			a.remember(t, op)
			a.status.Delivered = delivered(t, took)
			a.stats.measure(argo.ApplicationKind, took)
		}
		a.event(a.object, "Normal", "Synced", fmt.Sprintf("synced %s: %s", short(t), state.Message))
	}
	log.FromContext(ctx).Info("synced", "revision", t.revision(), "phase", state.Phase, "took", outcome.Took, "error", errorText(err))
	return a.settle(ctx, t, op, err, selective)
}

// finishEarly ends an operation that was to end before it was through.
func (a *applicationRun) finishEarly(ctx context.Context, t *target) (reconcile.Result, error) {
	if a.terminated(ctx) {
		return a.cutOff(ctx, "the operation was terminated")
	}
	if err := a.leaveWait(ctx); err != nil {
		return reconcile.Result{}, err
	}
	a.stats.sync(deploy.ErrSuperseded)
	a.completeOperation(argo.OperationFailed, "superseded by a newer revision")
	log.FromContext(ctx).Info("superseded", "revision", t.revision())
	a.deployed = deployedInPart
	a.why |= sourceMoved
	a.within(time.Millisecond)
	return a.end(ctx)
}

// deployedInPart is no target's digest: what is there is known to be none.
const deployedInPart = "in part"

// settle ends an operation: what it left behind is compared where it did not
// do all of the target.
func (a *applicationRun) settle(ctx context.Context, t *target, op argo.Operation, err error, selective bool) (reconcile.Result, error) {
	switch {
	case err != nil:
		a.deployed = ""
	case op.Sync.DryRun || selective || t != a.target:
		a.deployed = ""
		a.within(time.Millisecond)
	case a.status.Sync.Status == argo.SyncSynced:
		a.settled(t)
		if len(lostOf(a.stages.Watcher.State(a.delivery.owner))) > 0 {
			a.within(time.Millisecond) // it is not as it was sent
		}
	}
	return a.end(ctx)
}

// retryByHealing has a failed automated sync tried again where the policy
// heals, at the pace of healing.
func (a *applicationRun) retryByHealing() {
	if policy := a.automation(); policy != nil && policy.SelfHeal {
		a.heal.healed(a.now)
		a.within(a.heal.pause())
	}
}

func short(t *target) string {
	parts := make([]string, len(t.revisions))
	for i, r := range t.revisions {
		parts[i] = r.Short()
	}
	return strings.Join(parts, ", ")
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// succeeded says in figures what was done.
func succeeded(op argo.Operation, outcome *deploy.Outcome) string {
	counts := map[deploy.Action]int{}
	for _, r := range outcome.Results {
		counts[r.Action]++
	}
	var parts []string
	for _, action := range []deploy.Action{deploy.Created, deploy.Configured, deploy.Unchanged, deploy.Pruned, deploy.PruneSkipped} {
		if n := counts[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	msg := "successfully synced"
	if op.Sync.DryRun {
		msg = "successfully synced (dry run)"
	}
	if len(parts) > 0 {
		msg += ": " + strings.Join(parts, ", ")
	}
	return msg
}

// retry says whether the operation is to be tried again, and if so notes when.
func (a *applicationRun) retry(op argo.Operation, state *argo.OperationState, err error) bool {
	if op.Retry.Limit >= 0 && state.RetryCount >= op.Retry.Limit || hopeless(err) {
		return false
	}
	pause := retryPause(op.Retry, state.RetryCount+1)
	if a.opts.SyncTimeout > 0 && time.Since(state.StartedAt.Time)+pause >= a.opts.SyncTimeout {
		return false // it would end before it began
	}
	state.RetryCount++
	state.Message = fmt.Sprintf("%s; retry %d of %s in %s", explain(err), state.RetryCount, limit(op.Retry), pause)
	a.condition(argo.ConditionSyncError, state.Message)
	a.within(pause)
	return true
}

// hopeless says that the same attempt fails in the same way.
func hopeless(err error) bool {
	var empty *deploy.EmptyPlanError
	return errors.As(err, &empty)
}

func limit(r argo.RetryStrategy) string {
	if r.Limit < 0 {
		return "any number"
	}
	return strconv.FormatInt(r.Limit, 10)
}

// The back-off of retries, as Argo CD has it.
const (
	retryFirst  = 5 * time.Second
	retryFactor = 2
	retryMax    = 3 * time.Minute
)

// retryPause is the pause before the nth retry.
func retryPause(r argo.RetryStrategy, n int64) time.Duration {
	pause, factor, longest := retryFirst, int64(retryFactor), retryMax
	if b := r.Backoff; b != nil {
		pause, longest = parseDuration(b.Duration, pause), parseDuration(b.MaxDuration, longest)
		if b.Factor != nil && *b.Factor > 0 {
			factor = *b.Factor
		}
	}
	for range min(n, 64) - 1 {
		if pause >= longest/time.Duration(factor) { // before it can overflow
			return longest
		}
		pause *= time.Duration(factor)
	}
	return min(pause, longest)
}

// parseDuration reads Go's form, or a number of seconds.
func parseDuration(s string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(s); err == nil {
		return d
	}
	if n, err := strconv.Atoi(s); err == nil {
		return time.Duration(n) * time.Second
	}
	return otherwise
}

// completeOperation ends the operation; it is removed with the next write.
func (a *applicationRun) completeOperation(phase argo.OperationPhase, message string) {
	a.status.OperationState.Phase, a.status.OperationState.Message = phase, message
	a.operated = true
}

// failOperation ends an operation that could not begin.
func (a *applicationRun) failOperation(message string) {
	s := a.status.OperationState
	if s == nil || s.Phase.Completed() {
		s = &argo.OperationState{StartedAt: metav1.NewTime(a.now)}
		if a.app.Operation != nil {
			s.Operation = *a.app.Operation
		}
		a.status.OperationState = s
	}
	s.FinishedAt = now()
	a.completeOperation(argo.OperationError, message)
}

// remember adds the sync to the history: one entry for each time that the
// revisions or the parameters are others.
func (a *applicationRun) remember(t *target, op argo.Operation) {
	h := a.status.History
	entry := argo.RevisionHistory{
		DeployedAt: *now(), DeployStartedAt: &a.status.OperationState.StartedAt, InitiatedBy: op.InitiatedBy, Source: a.sourceOf(),
	}
	if sources := a.app.Spec.Sources; len(sources) > 0 {
		entry.Sources, entry.Revisions = sources, t.commits()
	} else {
		entry.Revision = t.revision()
	}
	if len(h) > 0 {
		last := h[len(h)-1]
		if last.Revision == entry.Revision && slices.Equal(last.Revisions, entry.Revisions) &&
			digest([]any{last.Source, last.Sources}) == digest([]any{entry.Source, entry.Sources}) {
			return
		}
		entry.ID = last.ID + 1
	}
	keep := int64(10)
	if l := a.app.Spec.RevisionHistoryLimit; l != nil {
		keep = max(0, *l)
	}
	h = append(h, entry)
	a.status.History = h[max(0, len(h)-int(keep)):]
}

// superseded returns what the deployer asks at each safe point: whether
// something newer is to be synced in place of t. It costs nothing while
// nothing has happened.
func (a *applicationRun) superseded(ctx context.Context, t *target, op argo.Operation) func() bool {
	seen := reason(0)
	return func() bool {
		news := a.wake.peek(a.key) &^ seen
		seen |= news & specChanged
		if news.has(specChanged) && a.withdrawn(ctx) {
			return true
		}
		if !news.has(sourceMoved) || !op.InitiatedBy.Automated || a.delivery.pin.Revision != "" {
			return false
		}
		snaps, err := a.resolve(ctx, a.delivery, nil, false)
		if err != nil || t.same(a.delivery, snaps) {
			return false
		}
		newer, err := a.render(ctx, a.delivery, snaps)
		return err == nil && newer.digest != t.digest
	}
}

// withdrawn says that the Application was deleted, its operation ended by
// somebody, or its spec changed.
func (a *applicationRun) withdrawn(ctx context.Context) bool {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	if err := a.client.Get(ctx, a.key, u); err != nil {
		return apierrors.IsNotFound(err)
	}
	u = a.newest(u)
	app, err := readApplication(u)
	if err != nil || app.DeletionTimestamp != nil || ended(u) {
		return true
	}
	return applicationParams(app) != a.delivery.params
}
