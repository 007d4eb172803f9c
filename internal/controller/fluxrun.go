package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// fluxFinalizer is on each object of Flux' kinds that has to be cleaned up
// after.
const fluxFinalizer = "finalizers.fluxcd.io"

// fluxObject is what the reconciles of Flux' kinds have in common: an object
// with a status subresource.
type fluxObject struct {
	*Engine
	*memory
	key    types.NamespacedName
	why    reason
	object *unstructured.Unstructured
	now    time.Time
}

// writeStatus writes the status subresource, where it has changed.
func (f *fluxObject) writeStatus(ctx context.Context, status any) error {
	if visits(ctx) {
		return nil
	}
	encoded, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return fmt.Errorf("encode the status: %w", err)
	}
	dropNulls(encoded)
	for try := 0; ; try++ {
		if apiequality.Semantic.DeepEqual(f.object.Object["status"], encoded) {
			return nil
		}
		u := f.object.DeepCopy()
		u.Object["status"] = encoded
		err := f.client.Status().Update(ctx, u)
		switch {
		case err == nil:
			f.object = u
			f.written.Store(u.DeepCopy())
			return nil
		case apierrors.IsNotFound(err):
			return nil // deleted meanwhile
		case !apierrors.IsConflict(err) || try == 4:
			return fmt.Errorf("write the status of %s %s: %w", f.object.GetKind(), f.key, err)
		}
		fresh := &unstructured.Unstructured{}
		fresh.SetGroupVersionKind(f.object.GroupVersionKind())
		if err := f.reader.Get(ctx, f.key, fresh); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("read %s %s again: %w", f.object.GetKind(), f.key, err)
		}
		f.object = fresh
	}
}

// addFinalizer makes sure that we are asked before the object goes.
func (f *fluxObject) addFinalizer(ctx context.Context) error {
	u := f.object.DeepCopy()
	if visits(ctx) || !controllerutil.AddFinalizer(u, fluxFinalizer) {
		return nil
	}
	if err := f.client.Update(ctx, u); err != nil {
		return fmt.Errorf("add the finalizer to %s %s: %w", f.object.GetKind(), f.key, err)
	}
	f.object = u
	f.written.Store(u.DeepCopy())
	return nil
}

// removeFinalizer lets the object go.
func (f *fluxObject) removeFinalizer(ctx context.Context) error {
	if visits(ctx) || !controllerutil.ContainsFinalizer(f.object, fluxFinalizer) {
		return nil
	}
	return f.release(ctx, f.object, func(name string) bool { return name == fluxFinalizer })
}

// setReady sets the Ready condition, and with it whether a reconciliation is
// going on or can go on no more.
func setReady(conditions *[]metav1.Condition, generation int64, status metav1.ConditionStatus, reason, message string) {
	const longest = 20000 // Flux' MaxConditionMessageLength
	if len(message) > longest {
		message = strings.ToValidUTF8(message[:longest], "") + "…"
	}
	set := func(kind string, status metav1.ConditionStatus) {
		apimeta.SetStatusCondition(conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: generation,
		})
	}
	set(meta.ReadyCondition, status)
	apimeta.RemoveStatusCondition(conditions, meta.StalledCondition)
	switch status {
	case metav1.ConditionTrue:
		apimeta.RemoveStatusCondition(conditions, meta.ReconcilingCondition)
	case metav1.ConditionUnknown:
		set(meta.ReconcilingCondition, metav1.ConditionTrue)
	case metav1.ConditionFalse:
		apimeta.SetStatusCondition(conditions, metav1.Condition{
			Type: meta.ReconcilingCondition, Status: metav1.ConditionTrue, Reason: meta.ProgressingWithRetryReason,
			Message: message, ObservedGeneration: generation,
		})
	}
}

// setStalled says that nothing will change before the spec does.
func setStalled(conditions *[]metav1.Condition, generation int64, reason, message string) {
	setReady(conditions, generation, metav1.ConditionFalse, reason, message)
	apimeta.RemoveStatusCondition(conditions, meta.ReconcilingCondition)
	apimeta.SetStatusCondition(conditions, metav1.Condition{
		Type: meta.StalledCondition, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: generation,
	})
}

// setPinned says that the delivery is held, or that it is not.
func setPinned(conditions *[]metav1.Condition, generation int64, p pin) {
	if p.Revision == "" {
		apimeta.RemoveStatusCondition(conditions, "Pinned")
		return
	}
	apimeta.SetStatusCondition(conditions, metav1.Condition{
		Type: "Pinned", Status: metav1.ConditionTrue, Reason: "Pinned", Message: p.String(), ObservedGeneration: generation,
	})
}
