package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
)

// sourceRun is one reconcile of an object that has an artifact: what
// HelmRepositories, HelmCharts and OCIRepositories have in common.
type sourceRun struct {
	fluxObject
	meta   metav1.ObjectMeta
	status any
	view   sourceView
	// changed wakes who reads the object.
	changed func()
}

// sourceView is the part of a status that all sources have.
type sourceView struct {
	conditions *[]metav1.Condition
	observed   *int64
	handled    *string
	artifact   **meta.Artifact
	interval   time.Duration
}

// load gets the object of a reconcile. It is nil where it is not there, or is
// not ours to reconcile.
func (e *Engine) loadFlux(ctx context.Context, gvk schema.GroupVersionKind, key types.NamespacedName, memories *memories, why reason, forget func(types.NamespacedName)) (*fluxObject, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	if err := e.client.Get(ctx, key, u); err != nil {
		if apierrors.IsNotFound(err) {
			forget(key)
			return nil, nil
		}
		return nil, fmt.Errorf("get %s %s: %w", gvk.Kind, key, err)
	}
	if e.others.active(core.Flux) {
		return nil, nil
	}
	m := memories.of(key)
	return &fluxObject{Engine: e, memory: m, key: key, why: why, object: m.newest(u), now: time.Now()}, nil
}

// reconcileFlux has run reconcile an object of Flux' kinds, if it is there and
// ours.
func (e *Engine) reconcileFlux(ctx context.Context, gvk schema.GroupVersionKind, key types.NamespacedName, w *waker, memories *memories,
	forget func(types.NamespacedName), run func(fluxObject) (reconcile.Result, error)) (reconcile.Result, error) {
	why := w.take(key)
	object, err := e.loadFlux(ctx, gvk, key, memories, why, forget)
	if object == nil || err != nil {
		return reconcile.Result{}, err
	}
	return run(*object)
}

// asked is the last request for a reconciliation.
func (s *sourceRun) asked() string { return s.meta.Annotations[flux.AnnotationReconcile] }

// due says whether what is remote is to be asked again.
func (s *sourceRun) due() bool {
	return s.why.has(timerFired|specChanged) || s.asked() != *s.view.handled
}

// succeed writes that the artifact is there.
func (s *sourceRun) succeed(ctx context.Context, revision, digest, path, url string, size *int64, reason, message string) (reconcile.Result, error) {
	s.failures = 0
	*s.view.observed, *s.view.handled = s.meta.Generation, s.asked()
	news := false
	if a := *s.view.artifact; a == nil || a.Revision != revision || a.Digest != digest {
		news = true
		*s.view.artifact = &meta.Artifact{Path: path, URL: url, Revision: revision, Digest: digest, Size: size, LastUpdateTime: metav1.NewTime(s.now)}
	}
	setReady(s.view.conditions, s.meta.Generation, metav1.ConditionTrue, reason, message)
	apimeta.RemoveStatusCondition(s.view.conditions, sourcev1.FetchFailedCondition)
	apimeta.SetStatusCondition(s.view.conditions, metav1.Condition{
		Type: sourcev1.ArtifactInStorageCondition, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: s.meta.Generation,
	})
	if err := s.writeStatus(ctx, s.status); err != nil {
		return reconcile.Result{}, err
	}
	if news {
		s.event(s.object, "Normal", reason, message)
	}
	return reconcile.Result{RequeueAfter: s.next()}, nil
}

// fail says what is wrong; the last artifact stays. stalled is for what only
// a change of the spec can put right.
func (s *sourceRun) fail(ctx context.Context, stalled bool, reason string, err error) (reconcile.Result, error) {
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	s.failures++
	*s.view.observed, *s.view.handled = s.meta.Generation, s.asked()
	message := explain(err)
	if stalled = stalled || errors.As(err, new(*SpecError)); stalled {
		setStalled(s.view.conditions, s.meta.Generation, reason, message)
	} else {
		setReady(s.view.conditions, s.meta.Generation, metav1.ConditionFalse, reason, message)
	}
	was := apimeta.FindStatusCondition(*s.view.conditions, sourcev1.FetchFailedCondition)
	news := was == nil || was.Message != message
	apimeta.SetStatusCondition(s.view.conditions, metav1.Condition{
		Type: sourcev1.FetchFailedCondition, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: s.meta.Generation,
	})
	if err := s.writeStatus(ctx, s.status); err != nil {
		return reconcile.Result{}, err
	}
	if news {
		s.event(s.object, "Warning", reason, message)
	}
	// Who reads it says why it has nothing to go on with.
	s.changed()
	if stalled {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: retryAfter(s.failures, s.next())}, nil
}

func (s *sourceRun) next() time.Duration { return jitter(max(s.view.interval, time.Second)) }

// notThereError says that an object that is referred to is not there.
type notThereError struct {
	kind string
	key  types.NamespacedName
}

func (e *notThereError) Error() string { return fmt.Sprintf("%s '%s' is not there", e.kind, e.key) }

// referredTo reads an object that another one refers to, as it was last
// written by us or by others.
func (e *Engine) referredTo(ctx context.Context, gvk schema.GroupVersionKind, key types.NamespacedName, memories *memories) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	if err := e.client.Get(ctx, key, u); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, &notThereError{gvk.Kind, key}
		}
		return nil, fmt.Errorf("get %s '%s': %w", gvk.Kind, key, err)
	}
	return memories.peek(key, u), nil
}

func isNotThere(err error) bool { return errors.As(err, new(*notThereError)) }
