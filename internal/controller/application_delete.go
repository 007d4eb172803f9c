package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// propagation is how each finalizer of Argo CD deletes what is owned.
var propagation = map[string]string{
	argo.Finalizer:           "foreground",
	argo.ForegroundFinalizer: "foreground",
	argo.BackgroundFinalizer: "background",
}

// hookFinalizers are those with which Argo CD remembers that an Application
// has hooks to be run when it is deleted. Ours are found in what was rendered,
// so they are not set, but those of an Application that Argo CD had are ours
// to remove; with one of them alone the hooks run and the objects stay.
var hookFinalizers = map[string]bool{
	"pre-delete-finalizer.argocd.argoproj.io":          true,
	"pre-delete-finalizer.argocd.argoproj.io/cleanup":  true,
	"post-delete-finalizer.argocd.argoproj.io":         true,
	"post-delete-finalizer.argocd.argoproj.io/cleanup": true,
}

func ourFinalizer(f string) bool { return propagation[f] != "" || hookFinalizers[f] }

// finalize deletes what a deleted Application owns, where it has one of the
// finalizers that ask for that, and lets it go.
func (a *applicationRun) finalize(ctx context.Context) (reconcile.Result, error) {
	owner := core.Owner{Dialect: core.ArgoCD, Kind: argo.ApplicationKind, Namespace: a.key.Namespace, Name: a.key.Name}
	if a.parting != nil && a.why == drifted && !a.come(owner, a.parting) {
		return reconcile.Result{RequeueAfter: lookAgain}, nil
	}
	hooks := a.deletionHooks(ctx)
	if !slices.ContainsFunc(a.app.Finalizers, ourFinalizer) {
		a.stages.Watcher.Forget(owner)
		return reconcile.Result{}, nil
	}
	switch {
	case a.located != nil && a.leavesNothing():
		a.stages.Watcher.Forget(owner)
		return reconcile.Result{}, a.release(ctx, a.object, ourFinalizer)
	case a.located != nil:
		return a.away(ctx, a.located)
	}
	if a.removed() || a.running() {
		if err := a.leaveWait(ctx); err != nil {
			return reconcile.Result{}, err
		}
		a.completeOperation(argo.OperationFailed, "the Application was deleted")
	}
	if a.parting == nil {
		a.parting = a.part()
	}
	outcome, err := a.deleteAs(ctx, hooks)
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	if err == nil {
		a.stages.Watcher.Forget(owner)
		return reconcile.Result{}, a.release(ctx, a.object, ourFinalizer)
	}
	a.parting.inventory = outcome.Inventory
	return a.remain(ctx, outcome, err)
}

// part begins the deletion. What of it is lost with the process is found again
// in the cluster.
func (a *applicationRun) part() *waiting {
	asked := a.app.DeletionTimestamp.Time
	w := &waiting{since: a.now, inventory: inventoryOf(a.status.Resources)}
	w.log = &deploy.HookLog{
		Operation: fmt.Sprintf("delete-%d", asked.Unix()), Started: asked,
		Done: map[deploy.HookRun]error{}, Begun: map[deploy.HookRun]bool{}, Told: map[types.UID]bool{},
		Note: func(_ context.Context, run deploy.HookRun, failure error) error {
			if failure == nil {
				w.log.Done[run] = nil
			}
			return nil
		},
	}
	return w
}

// remain says why the deletion is not through, and has it looked at again when
// that has changed.
func (a *applicationRun) remain(ctx context.Context, outcome *deploy.Outcome, err error) (reconcile.Result, error) {
	w := a.parting
	for _, r := range outcome.Results {
		run := deploy.HookRun{Ref: r.Ref.Key(), Phase: r.Hook}
		switch {
		case r.Hook == "":
		case r.Action == deploy.Created:
			w.log.Begun[run] = true
		case r.Action == deploy.Failed: // the next attempt makes it anew
			delete(w.log.Begun, run)
			if r.Live != nil {
				w.log.Told[r.Live.GetUID()] = true
			}
		}
	}
	var waiting *deploy.WaitingError
	var unconfirmed *deploy.UnconfirmedError
	switch {
	case errors.As(err, &waiting):
		before := *w
		w.objects = waiting.Objects
		a.stages.Watcher.Expect(a.delivery.owner, w.inventory)
		if a.await(a.delivery.owner, w) {
			a.within(w.sooner(&before))
		}
		a.within(lookAgain)
		if a.now.Sub(w.since) >= deletionWait {
			a.condition(argo.ConditionDeletionError, fmt.Sprintf("%v: %s", err, waiting.Objects[0].Message))
		}
	case errors.As(err, &unconfirmed):
		// The confirmation is an event.
		a.condition(argo.ConditionDeletionError, a.unconfirmed(unconfirmed, a.app.DeletionTimestamp.Time))
	default:
		a.condition(argo.ConditionDeletionError, explain(err))
		a.failures++
		a.within(retryAfter(a.failures, a.opts.Poll))
	}
	return a.end(ctx)
}

// deletion is what is wanted of the deployer.
func (a *applicationRun) deletion(hooks []*unstructured.Unstructured) deploy.Deletion {
	d := deploy.Deletion{
		Owner: a.delivery.owner,
		Hooks: hooks,
		// The options are those of the spec even where it is refused by now.
		Options: applicationOptions(a.app, &SpecError{}),
		Wait:    true,
		Log:     a.parting.log,
		Apart:   apart(a.delivery.owner, a.app.UID),
	}
	d.Options.As = a.delivery.options.As
	d.Options.Confirmed = approved(a.app, a.app.DeletionTimestamp.Time)
	for _, f := range a.app.Finalizers {
		if how := propagation[f]; how != "" {
			d.Propagation, d.Inventory = how, a.parting.inventory
		}
	}
	return d
}

// deletionHooks are the objects among which the hooks of a deletion are: what
// renders now, or else what was rendered last. An Application whose source is gone can be
// deleted all the same, without its hooks.
func (a *applicationRun) deletionHooks(ctx context.Context) []*unstructured.Unstructured {
	if err := a.model(ctx, nil); err != nil {
		return nil
	}
	switch t, err := a.find(ctx, nil); {
	case err == nil:
		a.target = t // a hook that was put right since is run as it is now
	case a.target == nil:
		a.event(a.object, "Warning", "HooksSkipped", "deleting without hooks: "+explain(err))
		return nil
	}
	return a.target.objects.list()
}

// release removes the finalizers that are ours, so that the object can go. It
// is read again where somebody has written it meanwhile: the garbage collector
// does, right when it is deleted.
func (e *Engine) release(ctx context.Context, u *unstructured.Unstructured, ours func(string) bool) error {
	uid := u.GetUID()
	for try := 0; ; try++ {
		u = u.DeepCopy()
		u.SetFinalizers(slices.DeleteFunc(u.GetFinalizers(), ours))
		err := e.client.Update(ctx, u)
		switch {
		case err == nil, apierrors.IsNotFound(err):
			return nil
		case apierrors.IsConflict(err) && try < 4:
			err = e.reader.Get(ctx, client.ObjectKeyFromObject(u), u)
		}
		if apierrors.IsNotFound(err) || u.GetUID() != uid {
			return nil // gone, or another one of its name
		}
		if err != nil {
			return fmt.Errorf("remove the finalizer of %s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
		}
	}
}
