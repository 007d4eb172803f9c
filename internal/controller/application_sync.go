package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/syncwindow"
)

// advance brings the cluster nearer to t, as far as the policy permits and an
// operation asks.
func (a *applicationRun) advance(ctx context.Context, t *target) (reconcile.Result, error) {
	a.noteTarget(t)
	switch {
	case a.app.Operation != nil:
		return a.operate(ctx, a.current(*a.app.Operation))
	case a.deployed == t.digest && a.refreshed == "":
		return a.observe(ctx)
	}
	if a.surelyNew(t) {
		if v, err := a.window(ctx, syncwindow.Operation{}); err == nil && v.Permitted {
			return a.operate(ctx, a.automatedOperation(nil))
		} // otherwise it is to be seen what is held back
	}
	return a.compare(ctx, t)
}

// noteTarget says in the status what is compared with.
func (a *applicationRun) noteTarget(t *target) {
	spec := a.app.Spec
	compared := &argo.ComparedTo{Source: spec.Source, Sources: spec.Sources, Destination: spec.Destination, IgnoreDifferences: spec.IgnoreDifferences}
	a.status.Sync.ComparedTo = compared
	if len(spec.Sources) > 0 {
		a.status.Sync.Revision, a.status.Sync.Revisions = "", t.commits()
		a.status.SourceType, a.status.SourceTypes = "", t.tools
	} else {
		a.status.Sync.Revision, a.status.Sync.Revisions = t.revision(), nil
		a.status.SourceType, a.status.SourceTypes = first(t.tools), nil
	}
	a.status.Summary.Images = t.images
	a.status.ControllerNamespace = a.opts.ArgoNamespace
	for _, ref := range t.repeated {
		a.condition(argo.ConditionRepeatedResourceWarning, fmt.Sprintf("%s appears more than once; the last one is used", ref))
	}
	if len(t.warnings) > 0 {
		a.condition(argo.ConditionRenderWarning, strings.Join(t.warnings, "\n"))
	}
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// automation is the automated policy, or nil where it is off.
func (a *applicationRun) automation() *argo.SyncPolicyAutomated {
	policy := a.app.Spec.SyncPolicy
	if policy == nil || policy.Automated == nil || policy.Automated.Enabled != nil && !*policy.Automated.Enabled {
		return nil
	}
	return policy.Automated
}

// surelyNew says that t has to be synced, so that it need not be compared
// first: its objects are not those that were deployed last. Where that is not
// known (after a restart) it is only so if there never was a sync.
func (a *applicationRun) surelyNew(t *target) bool {
	known := a.deployed != "" || a.status.OperationState == nil
	return known && a.deployed != t.digest && a.automation() != nil && !a.attempted(t)
}

// attempted says whether the last sync was of these revisions and parameters,
// and has ended.
func (a *applicationRun) attempted(t *target) bool {
	s := a.status.OperationState
	if s == nil || !s.Phase.Completed() || s.SyncResult == nil {
		return false
	}
	return a.of(s.SyncResult, t)
}

// sourceOf is the only source, or an empty one.
func (a *applicationRun) sourceOf() argo.ApplicationSource {
	if a.app.Spec.Source == nil || len(a.app.Spec.Sources) > 0 {
		return argo.ApplicationSource{}
	}
	return *a.app.Spec.Source
}

// compare asks the cluster how it stands to t, and syncs where the policy
// says so.
func (a *applicationRun) compare(ctx context.Context, t *target) (reconcile.Result, error) {
	c, err := a.stages.Deployer.Compare(ctx, a.plan(t, a.delivery.options))
	if err != nil {
		return a.refuse(ctx, argo.ConditionComparisonError, err)
	}
	a.compared(c)
	if a.status.Sync.Status == argo.SyncUnknown {
		a.failures++
		a.within(retryAfter(a.failures, a.opts.Poll))
		return a.end(ctx)
	}
	a.failures = 0
	if a.status.Sync.Status == argo.SyncSynced {
		a.settled(t)
		return a.end(ctx)
	}
	return a.automate(ctx, t)
}

// settled notes that the cluster has t.
func (a *applicationRun) settled(t *target) {
	a.deployed, a.actedAs = t.digest, a.delivery.options.As
	a.heal.synced(a.now)
}

// automate syncs what is out of sync, where the policy wants that.
func (a *applicationRun) automate(ctx context.Context, t *target) (reconcile.Result, error) {
	policy := a.automation()
	switch {
	case policy == nil, a.onlyToPrune() && !policy.Prune:
		return a.end(ctx)
	case !policy.SelfHeal && a.attempted(t):
		a.noteFailure()
		return a.end(ctx)
	}
	if held, err := a.heldBack(ctx); held || err != nil {
		return a.endUnless(ctx, err)
	}
	if !a.attempted(t) {
		return a.operate(ctx, a.automatedOperation(nil))
	}
	if wait := a.heal.drifted(a.now); wait > 0 {
		a.noteFailure()
		a.within(wait)
		return a.end(ctx)
	}
	a.heal.healed(a.now)
	return a.operate(ctx, a.automatedOperation(nil))
}

// onlyToPrune says that all that is out of sync is there and should not be.
func (a *applicationRun) onlyToPrune() bool {
	for _, r := range a.status.Resources {
		if r.Status != argo.SyncSynced && !r.RequiresPruning {
			return false
		}
	}
	return true
}

// noteFailure repeats why the last sync failed, for as long as it stands.
func (a *applicationRun) noteFailure() {
	if s := a.status.OperationState; s != nil && (s.Phase == argo.OperationFailed || s.Phase == argo.OperationError) {
		a.condition(argo.ConditionSyncError, "the last sync failed and is not tried again by itself: "+s.Message)
	}
}

// plan is what is wanted of the deployer.
func (a *applicationRun) plan(t *target, o deploy.Options) deploy.Plan {
	return deploy.Plan{
		Owner: a.delivery.owner, Objects: t.objects.list(), Inventory: inventoryOf(a.status.Resources), Options: o,
		Known: a.known(), Revision: t.revision(),
	}
}

func now() *metav1.Time { t := metav1.Now(); return &t }

// operate does what the operation says. Before it begins the status says so,
// so that it is found and finished should the process die.
func (a *applicationRun) operate(ctx context.Context, op argo.Operation) (reconcile.Result, error) {
	if s := a.status.OperationState; s != nil && s.Phase == argo.OperationTerminating {
		return a.cutOff(ctx, "the operation was terminated")
	}
	if held, err := a.blocked(ctx, op); held || err != nil {
		return a.endUnless(ctx, err)
	}
	state, wait := a.resume(op)
	if wait > 0 {
		a.condition(argo.ConditionSyncError, state.Message)
		a.within(wait)
		return a.end(ctx)
	}
	if a.wait != nil && a.status.OperationState != state { // it is another operation
		if err := a.leaveWait(ctx); err != nil {
			return reconcile.Result{}, err
		}
	}
	t, options, err := a.operand(ctx, op)
	if err != nil {
		a.failOperation(explain(err))
		a.condition(argo.ConditionSyncError, explain(err))
		return a.end(ctx)
	}
	if a.wait != nil {
		switch {
		case a.outdated(t, op):
			return a.overtake(ctx, t)
		case !a.resuming && !a.stirred():
			return a.stay(ctx)
		}
		t = a.wait.target
	}
	return a.perform(ctx, t, op, options, state)
}

// perform applies the operation's target, as far as that comes without
// waiting.
func (a *applicationRun) perform(ctx context.Context, t *target, op argo.Operation, options deploy.Options, state *argo.OperationState) (reconcile.Result, error) {
	if a.status.OperationState != state || state.FinishedAt != nil || !a.began(t) {
		if a.running() { // one that was begun for something older, in a process that died
			if err := a.leaveWait(ctx); err != nil {
				return reconcile.Result{}, err
			}
		}
		if err := a.begin(ctx, t, op, state); err != nil {
			return reconcile.Result{}, err
		}
	}
	a.tried = t.digest
	options.Confirmed = approved(a.app, state.StartedAt.Time)
	plan := a.plan(t, options)
	plan.Resumed = a.wait != nil && !a.wait.unconfirmed
	if !options.DryRun {
		plan.Hooks = a.hookLog(state)
	}
	for _, r := range op.Sync.Resources {
		plan.Only = append(plan.Only, core.ObjectRef{Group: r.Group, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name})
	}
	plan.Superseded = a.superseded(ctx, t, op)
	outcome, err := a.stages.Deployer.Apply(ctx, plan)
	if ctx.Err() != nil {
		// We are being stopped. The operation goes on in the next process.
		return reconcile.Result{}, ctx.Err()
	}
	if unreachable(err) {
		return a.away(ctx, err)
	}
	if a.wait != nil {
		outcome.After(a.wait.results)
	}
	return a.finish(ctx, t, op, outcome, err)
}

// current is the operation as the policy would have it now, where the policy
// asked for it: what waits for a confirmation may wait for long.
func (a *applicationRun) current(op argo.Operation) argo.Operation {
	if a.automation() == nil || !op.InitiatedBy.Automated || op.Sync == nil || len(op.Sync.Resources) > 0 {
		return op
	}
	return a.automatedOperation(nil)
}

// automatedOperation is a sync that the policy asks for.
func (a *applicationRun) automatedOperation(resources []argo.SyncOperationResource) argo.Operation {
	op := argo.Operation{
		InitiatedBy: argo.OperationInitiator{Automated: true},
		// Argo CD's default for automated syncs.
		Retry: argo.RetryStrategy{Limit: 5},
		Sync:  &argo.SyncOperation{Prune: a.delivery.options.Prune, Resources: resources},
	}
	if policy := a.app.Spec.SyncPolicy; policy != nil {
		op.Sync.SyncOptions = policy.SyncOptions
		if policy.Retry != nil {
			op.Retry = *policy.Retry
		}
	}
	return op
}

// resume returns the state of the operation, and how long a retry has to wait.
func (a *applicationRun) resume(op argo.Operation) (*argo.OperationState, time.Duration) {
	s := a.status.OperationState
	if s == nil || s.Phase != argo.OperationRunning || digest(s.Operation) != digest(op) {
		return a.newState(op), 0
	}
	if s.RetryCount == 0 || s.FinishedAt == nil {
		return s, 0
	}
	if op.InitiatedBy.Automated && !a.began(a.target) && a.tried != a.target.digest {
		return a.newState(op), 0 // what is to be tried again is not wanted any more
	}
	return s, time.Until(s.FinishedAt.Add(retryPause(op.Retry, s.RetryCount)))
}

func (a *applicationRun) newState(op argo.Operation) *argo.OperationState {
	return &argo.OperationState{Operation: op, Phase: argo.OperationRunning, StartedAt: metav1.NewTime(a.now)}
}

// operand is what the operation syncs, and how.
func (a *applicationRun) operand(ctx context.Context, op argo.Operation) (*target, deploy.Options, error) {
	o := a.delivery.options
	if op.Sync == nil {
		return nil, o, errors.New("the operation asks for nothing: operation.sync is not there")
	}
	t := a.target
	if a.wait != nil && (a.resuming || !op.InitiatedBy.Automated) {
		return a.wait.target, o, operationOptions(&o, op)
	}
	revisions := op.Sync.Revisions
	if op.Sync.Revision != "" {
		revisions = []string{op.Sync.Revision}
	}
	if len(revisions) > 0 && !slices.Equal(revisions, t.commits()) {
		if a.delivery.pin.Revision != "" {
			return nil, o, &pinnedError{a.delivery.pin}
		}
		other, err := a.find(ctx, revisions)
		if err != nil {
			return nil, o, err
		}
		if a.automation() != nil && !slices.Equal(other.commits(), t.commits()) {
			return nil, o, &autoSyncError{Wanted: revisions[0]}
		}
		if err := a.permitted(ctx, other); err != nil {
			return nil, o, err
		}
		t = other
	}
	return t, o, operationOptions(&o, op)
}

// operationOptions lays what the operation says over the policy's options.
func operationOptions(o *deploy.Options, op argo.Operation) error {
	refused := &SpecError{}
	applySyncOptions(o, op.Sync.SyncOptions, "operation.sync.syncOptions", refused)
	o.Prune, o.DryRun = op.Sync.Prune, op.Sync.DryRun
	// Who asks by hand for a prune of everything is taken at his word.
	o.AllowEmpty = o.AllowEmpty || !op.InitiatedBy.Automated
	if s := op.Sync.SyncStrategy; s != nil {
		o.Force = o.Force || s.Apply != nil && s.Apply.Force || s.Hook != nil && s.Hook.Force
	}
	return refused.orNil()
}

// autoSyncError says that a revision cannot be synced because the policy
// would sync another right after.
type autoSyncError struct{ Wanted string }

func (e *autoSyncError) Error() string {
	return fmt.Sprintf("cannot sync to %s: the automated policy syncs the target revision", e.Wanted)
}

func (e *autoSyncError) Hint() string { return "pin it: fairway app pin NAME --revision REVISION" }

// begin writes that the operation runs, and what it is going to apply.
func (a *applicationRun) begin(ctx context.Context, t *target, op argo.Operation, state *argo.OperationState) error {
	if !op.InitiatedBy.Automated {
		a.fights.drop() // whoever asks may have ended them
	}
	if state.RetryCount == 0 && (state.SyncResult != nil || state.Message != "") { // what was begun for something older, or was held by a window, begins now
		state.StartedAt, state.Message = metav1.NewTime(a.now), ""
	}
	state.Phase, state.FinishedAt, state.SyncResult = argo.OperationRunning, nil, a.syncResult(t, &deploy.Outcome{})
	if !op.Sync.DryRun {
		for _, ref := range a.planned(t.objects.list(), a.delivery.options.Namespace, inventoryOf(a.status.Resources)) {
			a.status.Resources = append(a.status.Resources, carry(nil, ref, argo.SyncOutOfSync))
		}
	}
	a.status.OperationState = state
	if a.status.Sync.Status == "" {
		a.status.Sync.Status = argo.SyncOutOfSync
	}
	log.FromContext(ctx).V(1).Info("sync begins", "revision", a.target.revision(), "automated", op.InitiatedBy.Automated)
	return a.writeOperation(ctx, &op)
}
