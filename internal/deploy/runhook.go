package deploy

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// runHook makes the hook's object anew, waits until it is done, and deletes it
// where its policies say so. A hook whose kind cannot be done (a ConfigMap) is
// done once it is there.
func (r *run) runHook(ctx context.Context, it *item, res ObjectResult) ObjectResult {
	if r.plan.Options.DryRun {
		res.Action, res.Health = Created, core.Missing
		return res
	}
	if r.plan.Hooks.ran(it) {
		res.Action, res.Health, res.Message = Unchanged, core.Healthy, "it ran before this operation was resumed"
		return res
	}
	live, err := r.startHook(ctx, it)
	if err != nil {
		it.err = objectError("run hook", it.ref, err)
		return res
	}
	waited := awaitedOf(live)
	waited.goneFails = true
	states, err := r.awaitHealthy(ctx, r.plan, []awaited{waited})
	res.Action, res.Live, res.Health = Created, live, core.Healthy
	if len(states) == 1 {
		res.Health, res.Message = states[0].health, states[0].message
	}
	if err != nil {
		it.err = objectError("run hook", it.ref, err)
		it.err.Op = "run hook"
	}
	if err == nil {
		// Before its object may go, which says so too.
		if err := r.plan.Hooks.note(ctx, it); err != nil {
			it.err = objectError("note the end of hook", it.ref, err)
			return res
		}
	}
	if done := r.endHook(ctx, it, live, err); done != nil && it.err == nil {
		it.err = objectError("delete hook", it.ref, done)
	}
	return res
}

// startHook deletes what is left of the last time and makes the object. What
// this very operation has made, in a process that died since, goes on.
func (r *run) startHook(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	old, err := r.get(ctx, it.ref)
	if err != nil {
		return nil, err
	}
	if old != nil && r.goesOn(it, old) {
		return old, nil
	}
	r.plan.Hooks.sign(it.obj)
	if old != nil && it.hook.deletes(beforeHookCreation) {
		if err := r.remove(ctx, old, propagation(core.ArgoCD, "")); err != nil {
			return nil, err
		}
		if err := r.awaitGone(ctx, []*unstructured.Unstructured{old}); err != nil {
			return nil, err
		}
		old = nil
	}
	it.live = old
	return r.makeHook(ctx, it)
}

// makeHook applies the hook's object, without evidence: nobody watches it.
func (r *run) makeHook(ctx context.Context, it *item) (*unstructured.Unstructured, error) {
	res, err := r.client.For(it.ref)
	if err != nil {
		return nil, err
	}
	return res.Apply(ctx, it.ref.Name, it.obj, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
}

// goesOn says whether the object was made by this operation, so that it is
// waited for and not made again. A deletion has no operation that fails and
// another that is begun: there a hook that has failed is run again.
func (r *run) goesOn(it *item, old *unstructured.Unstructured) bool {
	if !r.plan.Hooks.signed(old) || old.GetDeletionTimestamp() != nil {
		return false
	}
	if it.phase != phasePreDelete && it.phase != phasePostDelete {
		return true
	}
	h, _ := r.health(r.plan.Owner.Dialect, old)
	return h != core.Degraded
}

func (r *run) endHook(ctx context.Context, it *item, live *unstructured.Unstructured, err error) error {
	if err == nil && (!it.hook.deletes(hookSucceeded) || it.phase == phasePreDelete) {
		// What ran before a deletion goes when that is through.
		return nil
	}
	var failed *ObjectError
	if err != nil && (!errors.As(err, &failed) || !it.hook.deletes(hookFailed)) {
		return nil
	}
	if err := r.remove(ctx, live, propagation(core.ArgoCD, "")); err != nil {
		return fmt.Errorf("delete the finished hook: %w", err)
	}
	return nil
}

// failHooks runs the SyncFail hooks. Their own failure changes nothing more:
// it is in the results.
func (r *run) failHooks(ctx context.Context, items []*item) {
	for _, it := range items {
		res := r.runHook(ctx, it, ObjectResult{Ref: it.ref, Hook: string(it.phase), Wave: it.settings.wave})
		if it.err != nil {
			res.Action, res.Err, res.Message = Failed, it.err, it.err.Error()
		}
		r.report(res)
	}
}
