package controller

import (
	"context"
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// write writes the status, where it has changed.
func (a *applicationRun) write(ctx context.Context) error { return a.writeOperation(ctx, nil) }

// writeProgress writes what a running operation has come to.
func (a *applicationRun) writeProgress(ctx context.Context) error {
	op := a.status.OperationState.Operation
	return a.writeOperation(ctx, &op)
}

// writeOperation writes the status and, with begun, that this operation runs.
// Where the object was changed meanwhile its spec is left as it is now: the
// event of that change wakes us again.
func (a *applicationRun) writeOperation(ctx context.Context, begun *argo.Operation) error {
	a.status.Conditions = a.mergeConditions(begun != nil)
	for try := 0; ; try++ {
		u, changed, err := a.rewritten(begun)
		if err != nil || !changed {
			return err
		}
		err = a.client.Update(ctx, u)
		switch {
		case err == nil:
			a.object = u
			a.written.Store(u.DeepCopy())
			if begun == nil {
				a.refreshed, a.operated = "", false
			}
			return nil
		case apierrors.IsNotFound(err):
			return nil // deleted meanwhile
		case !apierrors.IsConflict(err) || try == 4:
			return fmt.Errorf("write the status of %s: %w", a.delivery.owner, err)
		}
		fresh := &unstructured.Unstructured{}
		fresh.SetGroupVersionKind(a.object.GroupVersionKind())
		if err := a.reader.Get(ctx, a.key, fresh); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("read %s again: %w", a.delivery.owner, err)
		}
		if !a.operated && hasOperation(a.object) && ended(fresh) {
			return nil // that is an event, and the operation ends by it
		}
		a.object = fresh
	}
}

// rewritten is the object with our status, and whether that is a change.
func (a *applicationRun) rewritten(begun *argo.Operation) (*unstructured.Unstructured, bool, error) {
	u := a.object.DeepCopy()
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(a.status)
	if err != nil {
		return nil, false, fmt.Errorf("encode the status: %w", err)
	}
	dropNulls(status)
	old, _, _ := unstructured.NestedMap(u.Object, "status")
	u.Object["status"] = status
	if begun != nil {
		op, err := runtime.DefaultUnstructuredConverter.ToUnstructured(begun)
		if err != nil {
			return nil, false, fmt.Errorf("encode the operation: %w", err)
		}
		u.Object["operation"] = op
	}
	if a.operated {
		delete(u.Object, "operation")
	}
	if a.refreshed != "" && begun == nil && u.GetAnnotations()[argo.AnnotationRefresh] == a.refreshed {
		annotations := u.GetAnnotations()
		delete(annotations, argo.AnnotationRefresh)
		u.SetAnnotations(annotations)
	}
	if old == nil {
		old = map[string]any{}
	}
	old["reconciledAt"] = status["reconciledAt"]
	u2 := a.object.DeepCopy()
	u2.Object["status"] = old
	if apiequality.Semantic.DeepEqual(u.Object, u2.Object) {
		return u, false, nil
	}
	status["reconciledAt"] = a.now.UTC().Format("2006-01-02T15:04:05Z")
	return u, true, nil
}

// mergeConditions are the conditions that hold now; while an operation begins
// those before it are kept. The time of one that held already stays.
func (a *applicationRun) mergeConditions(keep bool) []argo.ApplicationCondition {
	if keep {
		return a.app.Status.Conditions
	}
	var out []argo.ApplicationCondition
	for _, c := range a.conditions {
		c.LastTransitionTime = &metav1.Time{Time: a.now}
		for _, old := range a.app.Status.Conditions {
			if old.Type == c.Type && old.Message == c.Message && old.LastTransitionTime != nil {
				c.LastTransitionTime = old.LastTransitionTime
			}
		}
		out = append(out, c)
	}
	return out
}

// dropNulls removes what metav1.Time's zero value encodes to.
func dropNulls(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			dropNulls(v)
		case []any:
			for _, item := range v {
				if m, ok := item.(map[string]any); ok {
					dropNulls(m)
				}
			}
		}
	}
}
