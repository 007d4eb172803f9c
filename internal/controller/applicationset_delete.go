package controller

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// keepFinalizer has the set wait for us when it is deleted, where its
// Applications are to outlive it: otherwise Kubernetes' garbage collector
// takes them with it.
func (s *setRun) keepFinalizer(ctx context.Context) error {
	if s.set.Spec.SyncPolicy.AllowDelete() || slices.Contains(s.set.Finalizers, argo.Finalizer) {
		return nil
	}
	return s.writeFinalizers(ctx, append(slices.Clone(s.set.Finalizers), argo.Finalizer))
}

func (s *setRun) writeFinalizers(ctx context.Context, finalizers []string) error {
	before := s.object.DeepCopy()
	u := s.object.DeepCopy()
	u.SetFinalizers(finalizers)
	err := s.client.Patch(ctx, u, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the finalizers of ApplicationSet %s: %w", s.key, err)
	}
	if err == nil {
		s.object, s.written, s.set.Finalizers = u, u.DeepCopy(), finalizers
	}
	return nil
}

// finalize lets a set go. Applications that may not be deleted are let go
// first; the others go with it, by the garbage collector.
func (s *setRun) finalize(ctx context.Context) (reconcile.Result, error) {
	if !slices.Contains(s.set.Finalizers, argo.Finalizer) {
		return reconcile.Result{}, nil
	}
	if !s.set.Spec.SyncPolicy.AllowDelete() {
		if err := s.letGo(ctx); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, s.writeFinalizers(ctx, slices.DeleteFunc(slices.Clone(s.set.Finalizers), func(f string) bool { return f == argo.Finalizer }))
}

// letGo removes the set's owner reference from its Applications, as the API
// server knows them.
func (s *setRun) letGo(ctx context.Context) error {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind + "List"))
	if err := s.reader.List(ctx, list, client.InNamespace(s.key.Namespace)); err != nil {
		return fmt.Errorf("list the Applications of ApplicationSet %s: %w", s.key, err)
	}
	for i := range list.Items {
		app := &list.Items[i]
		if !appset.Owns(s.set, app) {
			continue
		}
		refs := []any{}
		for _, ref := range app.GetOwnerReferences() {
			if ref.UID != s.set.UID {
				refs = append(refs, ref)
			}
		}
		meta := map[string]any{"ownerReferences": refs, "resourceVersion": app.GetResourceVersion()}
		if err := s.patchApplication(ctx, app.GetName(), map[string]any{"metadata": meta}); err != nil {
			return err
		}
	}
	return nil
}
