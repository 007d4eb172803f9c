package deploy

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/fence"
	"github.com/fairway-cd/fairway/internal/kube"
)

// runHook makes the hook's object anew, and, when it is done, deletes it where
// its policies say so. Until then the item waits. A hook whose kind cannot be
// done (a ConfigMap) is done once it is there.
func (r *run) runHook(ctx context.Context, it *item, res ObjectResult) ObjectResult {
	if r.plan.Options.DryRun {
		res.Action, res.Health = Created, core.Missing
		return res
	}
	if ran, failure := r.plan.Hooks.ran(it); ran {
		res.Action, res.Health, res.Message = Unchanged, core.Healthy, "it ran before this operation was resumed"
		if failure != nil {
			it.err = &ObjectError{Ref: it.ref, Op: "run hook", Reason: Unhealthy, Err: failure}
		}
		return res
	}
	live, err := r.startHook(ctx, it)
	switch {
	case err != nil:
		it.err = objectError("run hook", it.ref, err)
		return res
	case it.waits != nil:
		res.Action, res.Health, res.Message = Skipped, core.Missing, "waiting for what is left of the last time to go"
		return res
	}
	res.Action, res.Live = Created, live
	it.health, it.message = core.Healthy, "done and deleted"
	if live != nil {
		it.health, it.message = r.health(r.plan.Owner, live)
	}
	res.Health, res.Message = it.health, it.message
	switch it.health {
	case core.Healthy, core.Degraded:
		r.endHook(ctx, it, live)
	default:
		it.await(UntilDone, it.health, it.message)
	}
	return res
}

// startHook deletes what is left of the last time and makes the object, when
// that is gone. What this very operation has made before goes on; nil is what
// it made, and what is done and has deleted itself.
func (r *run) startHook(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	old, err := r.get(ctx, it.ref)
	if err != nil {
		return nil, err
	}
	switch {
	case old == nil && r.plan.Hooks.begun(it):
		if vanishes(it.obj) {
			return nil, nil
		}
		return nil, &ObjectError{Ref: it.ref, Op: "run hook", Reason: Unhealthy, Err: errors.New("was deleted before it was done")}
	case old != nil && r.goesOn(it, old):
		return old, nil
	case old != nil && (old.GetDeletionTimestamp() != nil || r.plan.Hooks.told(old) || it.hook.deletes(beforeHookCreation)):
		if err := r.remove(ctx, old, propagation(core.ArgoCD, "")); err != nil {
			return nil, err
		}
		it.await(UntilCleared, core.Progressing, fmt.Sprint("finalizers: ", old.GetFinalizers()))
		return nil, nil
	}
	r.plan.Hooks.sign(it.obj)
	it.live = old
	return r.makeHook(ctx, it)
}

// makeHook applies the hook's object, without evidence: nobody watches it.
func (r *run) makeHook(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	res, err := r.client.For(it.ref)
	if err != nil {
		return nil, err
	}
	if fence.From(ctx) != nil {
		it.obj.SetResourceVersion(decidedOn(it.live))
	}
	return res.Apply(ctx, it.ref.Name, it.obj, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
}

// goesOn says whether the object was made by this operation, so that it is
// waited for and not made again. A deletion has no operation that fails and
// another that is begun: there a hook whose failure was told is run again.
func (r *run) goesOn(it *item, old *unstructured.Unstructured) bool {
	return r.plan.Hooks.signed(old) && old.GetDeletionTimestamp() == nil && !r.plan.Hooks.told(old)
}

// endHook notes how a hook has ended, and deletes its object where its
// policies say so. The item has the hook's failure then.
func (r *run) endHook(ctx context.Context, it *item, live *unstructured.Unstructured) {
	remove := it.hook.deletes(hookSucceeded) && it.phase != phasePreDelete // what ran before a deletion goes when that is through
	if it.health == core.Degraded {
		it.err = unhealthy("run hook", it)
		remove = it.hook.deletes(hookFailed)
	}
	if it.err == nil || remove {
		// Before its object may go, which says so too.
		var failure error
		if it.err != nil {
			failure = it.err.Err
		}
		if err := r.plan.Hooks.note(ctx, it, failure); err != nil {
			it.err = objectError("note the end of hook", it.ref, err)
			return
		}
	}
	if !remove || live == nil {
		return
	}
	if err := r.remove(ctx, live, propagation(core.ArgoCD, "")); err != nil && it.err == nil {
		it.err = objectError("delete hook", it.ref, fmt.Errorf("delete the finished hook: %w", err))
	}
}

// failHooks runs the SyncFail hooks. Their own failure changes nothing more:
// it is in the results. It returns those that are waited for.
func (r *run) failHooks(ctx context.Context, items []*item) []Awaited {
	var waits []Awaited
	for _, it := range items {
		res := r.runHook(ctx, it, ObjectResult{Ref: it.ref, Hook: string(it.phase), Wave: it.settings.wave})
		if it.err != nil {
			res.Action, res.Err, res.Message = Failed, it.err, it.err.Error()
		}
		if it.waits != nil {
			waits = append(waits, *it.waits)
		}
		r.report(res)
	}
	return waits
}

// Stop implements Deployer.
func (c *Cluster) Stop(ctx context.Context, owner core.Owner, log *HookLog) error {
	c, err := c.as(log.As)
	if err != nil {
		return err
	}
	var failed []*ObjectError
	for run := range log.Begun {
		live, err := c.get(ctx, run.Ref)
		if err == nil && live != nil && log.signed(live) && c.tracking.Tracks(owner, live) {
			err = c.remove(ctx, live, propagation(owner.Dialect, ""))
		}
		if err != nil && !kube.IsMissingKind(err) {
			failed = append(failed, objectError("stop hook", run.Ref, err))
		}
	}
	return planError(failed)
}
