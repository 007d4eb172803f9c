package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
)

// waitFor leaves the apply where it is: definitions or classes, which the rest
// needs, or what has to be made anew are not there yet.
func (k *kustomizationRun) waitFor(ctx context.Context, t *target, outcome *deploy.Outcome, err *deploy.WaitingError) (reconcile.Result, error) {
	before := k.wait
	w := &waiting{target: t, objects: err.Objects, looked: k.now, since: k.now}
	if before != nil {
		w.since = before.since
	}
	w.worked(before, outcome.Took)
	k.wait, k.deployed = w, ""
	come := k.await(k.delivery.owner, w)
	if k.waitedTooLong() {
		return k.giveUp(ctx)
	}
	setReady(&k.status.Conditions, k.k.Generation, metav1.ConditionUnknown, meta.ProgressingReason, err.Error())
	if err := k.writeStatus(ctx, k.status); err != nil {
		return reconcile.Result{}, err
	}
	if come {
		return k.schedule("wait", w.sooner(before)), nil
	}
	return k.stay(), nil
}

// stirred says that the apply has a reason not to wait any more.
func (k *kustomizationRun) stirred() bool {
	return k.waitedTooLong() || k.come(k.delivery.owner, k.wait) || k.now.Sub(k.wait.looked) >= lookAgain
}

func (k *kustomizationRun) waitedTooLong() bool { return k.now.Sub(k.wait.since) >= k.k.GetTimeout() }

// stay has the wait looked at in time.
func (k *kustomizationRun) stay() reconcile.Result {
	return k.schedule("wait", min(lookAgain, k.k.GetTimeout()-k.now.Sub(k.wait.since)))
}

// giveUp ends a wait that is over its time; it is tried again later.
func (k *kustomizationRun) giveUp(ctx context.Context) (reconcile.Result, error) {
	o := k.wait.objects[0]
	k.wait = nil
	return k.fail(ctx, meta.HealthCheckFailedReason, &deploy.ObjectError{
		Ref: o.Ref, Op: "wait for", Reason: deploy.Timeout,
		Err: fmt.Errorf("after %s it is still %s: %s", k.k.GetTimeout(), o.Health, orElse(o.Message, "no message")),
	})
}

// finalize deletes what a deleted Kustomization owns, as its policy says.
func (k *kustomizationRun) finalize(ctx context.Context) (reconcile.Result, error) {
	policy := k.k.GetDeletionPolicy()
	remove := policy == kustomizev1.DeletionPolicyDelete || policy == kustomizev1.DeletionPolicyWaitForTermination ||
		policy == kustomizev1.DeletionPolicyMirrorPrune && k.k.Spec.Prune
	owner := fluxOwner(k.key)
	if remove && !k.k.Spec.Suspend && k.accountGone(ctx) {
		// As in Flux: nobody is there who could delete it.
		k.event(k.object, "Warning", "PruneSkipped", "what was applied stays, because its ServiceAccount is gone: "+kustomizationUser(k.k))
		remove = false
	}
	if remove && !k.k.Spec.Suspend {
		if k.parting != nil && k.why == drifted && !k.come(owner, k.parting) {
			return reconcile.Result{RequeueAfter: lookAgain}, nil
		}
		if k.parting == nil {
			k.parting = &waiting{since: k.now, inventory: k.inventory()}
		}
		outcome, err := k.stages.Deployer.Delete(ctx, deploy.Deletion{
			Owner: owner, Inventory: k.parting.inventory, Propagation: "background",
			Wait: policy == kustomizev1.DeletionPolicyWaitForTermination, Options: deploy.Options{As: kustomizationUser(k.k)},
			Apart: apart(owner, k.k.UID),
		})
		if ctx.Err() != nil {
			return reconcile.Result{}, ctx.Err()
		}
		if err != nil {
			k.parting.inventory = outcome.Inventory
			return k.remain(ctx, err)
		}
	}
	k.stages.Watcher.Forget(owner)
	return reconcile.Result{}, k.removeFinalizer(ctx)
}

// remain says why the deletion is not through.
func (k *kustomizationRun) remain(ctx context.Context, err error) (reconcile.Result, error) {
	owner, w := fluxOwner(k.key), k.parting
	var held *deploy.WaitingError
	if !errors.As(err, &held) {
		return k.fail(ctx, meta.PruneFailedReason, fmt.Errorf("delete what was applied: %w", err))
	}
	before := *w
	w.objects = held.Objects
	k.stages.Watcher.Expect(owner, w.inventory)
	come := k.await(owner, w)
	left := k.k.GetTimeout() - k.now.Sub(w.since)
	if left <= 0 {
		w.since = k.now
		return k.fail(ctx, meta.PruneFailedReason, fmt.Errorf("delete what was applied: not all is gone after %s: %w: %s", k.k.GetTimeout(), err, held.Objects[0].Message))
	}
	setReady(&k.status.Conditions, k.k.Generation, metav1.ConditionUnknown, meta.ProgressingReason, err.Error())
	if err := k.writeStatus(ctx, k.status); err != nil {
		return reconcile.Result{}, err
	}
	if come {
		return reconcile.Result{RequeueAfter: w.sooner(&before)}, nil
	}
	return reconcile.Result{RequeueAfter: min(lookAgain, max(time.Millisecond, left))}, nil
}

// readyAgain notes what was applied, to be judged from now on.
func (k *kustomizationRun) readyAgain(outcome *deploy.Outcome, revision string, took steps) {
	message := "Applied revision: " + revision
	for _, w := range outcome.Warnings {
		message += "; " + w.String()
	}
	k.ready = applied{revision: revision, message: message, took: took, asked: k.asked}
	for _, r := range outcome.Results {
		k.ready.answered = append(k.ready.answered, drift.ObjectState{Ref: r.Ref, Health: r.Health, Message: r.Message})
		if r.Action == deploy.Skipped {
			if k.ready.left == nil {
				k.ready.left = map[core.ObjectRef]bool{}
			}
			k.ready.left[r.Ref.Key()] = true
		}
	}
}
