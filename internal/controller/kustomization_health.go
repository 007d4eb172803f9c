package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
)

// applied is what a Kustomization has applied, as long as it is remembered.
type applied struct {
	// revision and message are what is said of it when it is well.
	revision, message string
	took              steps
	// asked is the request to reconcile that it has answered.
	asked string
	// left are the objects that were not applied because somebody said so.
	left map[core.ObjectRef]bool
	// answered are the objects as the API server has answered, until the watch
	// shows all of them.
	answered []drift.ObjectState
	// since is when it began to be waited for; zero while it is not. expired
	// says that it was waited for long enough.
	since   time.Time
	expired bool
}

// waiting says that what was applied is still waited for.
func (a *applied) waiting() bool { return !a.since.IsZero() && !a.expired }

// rest ends the waiting.
func (a *applied) rest(now time.Time) {
	if !a.since.IsZero() {
		a.took.wait += now.Sub(a.since)
	}
	a.since, a.expired = time.Time{}, false
}

// checks says whether the Kustomization is ready only when objects are healthy.
func (k *kustomizationRun) checks() bool {
	return k.k.Spec.Wait || len(k.k.Spec.HealthChecks) > 0
}

// judge writes how healthy it is what was applied. Nobody waits for it to
// change: the watch tells of that, at once and for as long as it is there.
// Flux looks at it when it applies, once an interval.
func (k *kustomizationRun) judge(ctx context.Context) (reconcile.Result, error) {
	if !k.checks() {
		k.ready.since = time.Time{}
		return k.succeed(ctx)
	}
	worst, unseen := k.unwell()
	switch {
	case worst == nil:
		k.ready.rest(k.now)
		return k.succeed(ctx)
	case worst.Reason == deploy.Unhealthy:
		k.ready.rest(k.now)
		return k.failHealth(ctx, worst)
	}
	timeout := k.k.GetTimeout()
	if k.ready.since.IsZero() {
		k.ready.since = k.waitedSince()
	}
	left := timeout - k.now.Sub(k.ready.since)
	if k.ready.expired || left <= 0 {
		k.ready.expired = true
		worst.Err = fmt.Errorf("after %s it is %w", timeout, worst.Err)
		return k.failHealth(ctx, worst)
	}
	if unseen && apimeta.IsStatusConditionTrue(k.k.Status.Conditions, meta.ReadyCondition) {
		return k.schedule("health", left), nil // it was well, and nothing is known to the contrary
	}
	k.setProgressing(k.ready.revision)
	if err := k.writeStatus(ctx, k.status); err != nil {
		return reconcile.Result{}, err
	}
	return k.schedule("health", left), nil
}

// progress is what is said while health is waited for, in Flux' words.
func (k *kustomizationRun) progress(revision string) string {
	return fmt.Sprintf("Running health checks for revision %s with a timeout of %s", revision, k.k.GetTimeout())
}

// setProgressing says that health is waited for.
func (k *kustomizationRun) setProgressing(revision string) {
	message := k.progress(revision)
	if old := apimeta.FindStatusCondition(k.status.Conditions, meta.ReadyCondition); old != nil && old.Message != message {
		// Its time is when this wait began, and not one before.
		apimeta.RemoveStatusCondition(&k.status.Conditions, meta.ReadyCondition)
	}
	setReady(&k.status.Conditions, k.k.Generation, metav1.ConditionUnknown, meta.ProgressingReason, message)
	k.setHealthy(metav1.ConditionUnknown, meta.ProgressingReason, message)
}

func (k *kustomizationRun) setHealthy(status metav1.ConditionStatus, reason, message string) {
	apimeta.SetStatusCondition(&k.status.Conditions, metav1.Condition{
		Type: meta.HealthyCondition, Status: status, Reason: reason, Message: message, ObservedGeneration: k.k.Generation,
	})
}

// waitedSince is when the wait began, which may have been in a process that
// died since.
func (k *kustomizationRun) waitedSince() time.Time {
	c := apimeta.FindStatusCondition(k.k.Status.Conditions, meta.ReadyCondition)
	if c != nil && c.Status == metav1.ConditionUnknown && c.Message == k.progress(k.ready.revision) {
		return c.LastTransitionTime.Time
	}
	return k.now
}

// unwell is the first of the objects that are not healthy: one that has failed,
// or else one that is not there yet. It is nil where all are well. unseen says
// that all that is wrong is that the watch does not show them yet.
func (k *kustomizationRun) unwell() (first *deploy.ObjectError, unseen bool) {
	states, answered := k.states()
	var open *deploy.ObjectError
	more, missing := 0, 0
	for _, ref := range k.checked() {
		s := states[ref.Key()]
		if s == nil {
			if s = answered[ref.Key()]; s == nil {
				missing++
				s = &drift.ObjectState{Ref: ref, Health: core.Unknown, Message: "it was not seen yet"}
			}
		}
		switch {
		case s.Health == core.Healthy:
		case s.Health == core.Degraded:
			return &deploy.ObjectError{Ref: ref, Op: "wait for", Reason: deploy.Unhealthy, Err: errors.New(orElse(s.Message, "it is Degraded"))}, false
		case open != nil:
			more++
		default:
			open = &deploy.ObjectError{Ref: ref, Op: "wait for", Reason: deploy.Timeout, Err: fmt.Errorf("still %s: %s", s.Health, orElse(s.Message, "no message"))}
		}
	}
	if more > 0 {
		open.Err = fmt.Errorf("%w (and %d more)", open.Err, more)
	}
	return open, missing == more+1
}

// states are the objects as the watch shows them, and as they were answered
// where it does not show all yet.
func (k *kustomizationRun) states() (watched, answered map[core.ObjectRef]*drift.ObjectState) {
	own := k.stages.Watcher.State(k.delivery.owner)
	if len(own) == len(k.inventory()) {
		k.ready.answered = nil
	}
	return statesOf(append(k.stages.Watcher.Followed(k.delivery.owner), own...)), statesOf(k.ready.answered)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// checked are the objects that have to be healthy: those that are named, or,
// with wait, all that were applied.
func (k *kustomizationRun) checked() []core.ObjectRef {
	if !k.k.Spec.Wait {
		return k.healthChecks()
	}
	var refs []core.ObjectRef
	for _, ref := range k.inventory() {
		if !k.ready.left[ref.Key()] && !k.self(ref) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// self says that it is the Kustomization itself, which would wait for itself.
func (k *kustomizationRun) self(ref core.ObjectRef) bool {
	o := k.delivery.owner
	return ref.Kind == o.Kind && ref.Name == o.Name && ref.Namespace == o.Namespace && ref.Group == string(o.Dialect)
}

// follow has the watch show the named objects that are not the Kustomization's
// own.
func (k *kustomizationRun) follow() {
	var others []core.ObjectRef
	if k.checks() && !k.k.Spec.Wait {
		own := map[core.ObjectRef]bool{}
		for _, ref := range k.inventory() {
			own[ref.Key()] = true
		}
		for _, ref := range k.healthChecks() {
			if !own[ref.Key()] {
				others = append(others, ref)
			}
		}
	}
	k.stages.Watcher.Follow(k.delivery.owner, others)
}

// failHealth writes that what was applied is not well. It says so once, though
// how it is not well may change.
func (k *kustomizationRun) failHealth(ctx context.Context, err error) (reconcile.Result, error) {
	const reason = meta.HealthCheckFailedReason
	old := apimeta.FindStatusCondition(k.k.Status.Conditions, meta.HealthyCondition)
	if k.full || old == nil || old.Status != metav1.ConditionFalse {
		k.status.History.Upsert("sha256:"+k.target.digest, k.now, k.ready.took.all(), reason, k.target.metadata(k.ready.revision, k.ready.took))
		k.event(k.object, "Warning", reason, k.say(err))
	}
	return k.fail(ctx, reason, err)
}

// schedule has the Kustomization looked at after d, for what. Events that come
// meanwhile do not put that off.
func (k *kustomizationRun) schedule(what string, d time.Duration) reconcile.Result {
	if next := k.now.Add(d); k.full || k.due.what != what || !k.due.at.After(k.now) || next.Before(k.due.at) {
		k.due = due{what, next}
	}
	return reconcile.Result{RequeueAfter: max(time.Millisecond, time.Until(k.due.at))}
}

// due is when an object is to be looked at, and for what. What fires before is
// a timer that was set for something else since.
type due struct {
	what string
	at   time.Time
}

// early is how long it is until the object is to be looked at, where nothing
// has happened but a timer of earlier.
func (d due) early(why reason, now time.Time) time.Duration {
	if why != timerFired {
		return 0
	}
	return max(0, d.at.Sub(now))
}
