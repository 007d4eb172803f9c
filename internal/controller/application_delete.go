package controller

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// propagation is how each finalizer of Argo CD deletes what is owned.
var propagation = map[string]string{
	argo.Finalizer:           "foreground",
	argo.ForegroundFinalizer: "foreground",
	argo.BackgroundFinalizer: "background",
}

// annotationApproved is how people approve what waits for a confirmation.
const annotationApproved = "argocd.argoproj.io/deletion-approved"

// finalize deletes what a deleted Application owns, where it has one of the
// finalizers that ask for that, and lets it go.
func (a *applicationRun) finalize(ctx context.Context) (reconcile.Result, error) {
	hooks := a.deletionHooks(ctx)
	i := slices.IndexFunc(a.app.Finalizers, func(f string) bool { return propagation[f] != "" })
	if i < 0 {
		a.stages.Watcher.Forget(a.delivery.owner)
		return reconcile.Result{}, nil
	}
	_, err := a.stages.Deployer.Delete(ctx, deploy.Deletion{
		Owner:       a.delivery.owner,
		Inventory:   inventoryOf(a.status.Resources),
		Propagation: propagation[a.app.Finalizers[i]],
		Hooks:       hooks,
		Namespace:   a.delivery.options.Namespace,
		Confirmed:   a.app.Annotations[annotationApproved] != "",
		Wait:        deletionWait,
	})
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	if err != nil {
		a.condition(argo.ConditionDeletionError, explain(err))
		a.failures++
		a.within(retryAfter(a.failures, a.opts.Poll))
		return a.end(ctx)
	}
	a.stages.Watcher.Forget(a.delivery.owner)
	u := a.object.DeepCopy()
	u.SetFinalizers(slices.DeleteFunc(u.GetFinalizers(), func(f string) bool { return propagation[f] != "" }))
	return reconcile.Result{}, a.release(ctx, u)
}

// deletionHooks are the objects among which the hooks of a deletion are: what
// was rendered last, or now. An Application whose source is gone can be
// deleted all the same, without its hooks.
func (a *applicationRun) deletionHooks(ctx context.Context) []*unstructured.Unstructured {
	if err := a.model(ctx, nil); err != nil {
		return nil
	}
	if a.target == nil {
		t, err := a.find(ctx, nil)
		if err != nil {
			a.event(a.object, "Warning", "HooksSkipped", "deleting without hooks: "+explain(err))
			return nil
		}
		a.target = t
	}
	return copies(a.target.objects)
}

// release writes an object whose finalizers were removed. A conflict is an
// error: the next try reads the object again.
func (e *Engine) release(ctx context.Context, u *unstructured.Unstructured) error {
	if err := e.client.Update(ctx, u); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("remove the finalizer of %s %s/%s: %w", u.GetKind(), u.GetNamespace(), u.GetName(), err)
	}
	return nil
}
