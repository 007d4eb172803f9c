package controller

import (
	"context"
	"fmt"
	"slices"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube/dense"
)

// argoApplicationSets is the part of Argo CD's dialect that a controller of
// its own has there.
const argoApplicationSets core.Dialect = argo.Group + "/applicationsets"

// add adds the controller of ApplicationSets to mgr.
func (r *applicationSets) add(mgr manager.Manager) error {
	app := &unstructured.Unstructured{}
	app.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), app, fieldSetOwner, ownerSet); err != nil {
		return fmt.Errorf("index Applications by their ApplicationSets: %w", err)
	}
	if err := mgr.Add(manager.RunnableFunc(r.clusters.Run)); err != nil {
		return err
	}
	return r.addController(mgr, "applicationset", argo.GroupVersion.WithKind(argo.ApplicationSetKind), r, r.wake, r.applications(mgr))
}

// applications tells the sets of each change of their Applications.
func (r *applicationSets) applications(mgr manager.Manager) ctrlsource.Source {
	app := &unstructured.Unstructured{}
	app.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return ctrlsource.Kind[client.Object](mgr.GetCache(), app, handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, _ queue) { r.applicationChanged(e.Object) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, _ queue) { r.applicationChanged(e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, _ queue) {
			if metav1.GetControllerOfNoCopy(e.ObjectOld) == nil && metav1.GetControllerOfNoCopy(e.ObjectNew) == nil {
				return // of no set
			}
			if setCares(e.ObjectOld, e.ObjectNew) {
				r.applicationChanged(e.ObjectOld)
				r.applicationChanged(e.ObjectNew)
			}
		},
	})
}

func (r *applicationSets) applicationChanged(app client.Object) {
	owner := metav1.GetControllerOfNoCopy(app)
	if owner == nil || owner.Kind != argo.ApplicationSetKind {
		return
	}
	r.wake.wake(types.NamespacedName{Namespace: app.GetNamespace(), Name: owner.Name}, drifted)
}

// setCares says whether a change of an Application is one that its set has a
// part in: what the set writes, and what the set's status shows.
func setCares(old, now client.Object) bool {
	a, ok1 := old.(*unstructured.Unstructured)
	b, ok2 := now.(*unstructured.Unstructured)
	if !ok1 || !ok2 || userChanged(a, b) {
		return true
	}
	differ := func(a, b map[string]any, paths ...[]string) bool {
		return slices.ContainsFunc(paths, func(path []string) bool {
			was, _, _ := unstructured.NestedFieldNoCopy(a, path...)
			is, _, _ := unstructured.NestedFieldNoCopy(b, path...)
			return !apiequality.Semantic.DeepEqual(was, is)
		})
	}
	return differ(a.Object, b.Object, []string{"metadata", "labels"}, []string{"metadata", "finalizers"}, []string{"metadata", "ownerReferences"}) ||
		differ(dense.Field(a, "status"), dense.Field(b, "status"),
			[]string{"sync"}, []string{"health"}, []string{"operationState", "phase"}, []string{"operationState", "startedAt"})
}
