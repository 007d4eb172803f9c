package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/render"
)

// The reasons of conditions, as Argo CD has them.
const (
	reasonUpToDate   = "ApplicationSetUpToDate"
	reasonParams     = "ApplicationParamsGenerationError"
	reasonRender     = "RenderTemplateParamsError"
	reasonValidation = "ApplicationValidationError"
	reasonGenerated  = "ParametersGenerated"
	reasonFailed     = "ErrorOccurred"
)

// maxSetResources is how many Applications the status names: an object has its
// limits.
const maxSetResources = 5000

// settle is how long changes of Applications gather before the status has
// them: a set's status is as long as the set is large.
const settle = time.Second

// reasonOf is the condition's reason of an error of a generation.
func reasonOf(err error) string {
	switch {
	case errors.As(err, new(*appset.TemplateError)), errors.As(err, new(*render.Error)):
		return reasonRender
	case errors.As(err, new(*appset.ApplicationError)):
		return reasonValidation
	}
	return reasonParams
}

// fail ends the reconcile: the status says why, and the Applications stay as
// they are.
func (s *setRun) fail(ctx context.Context, reason string, err error) (reconcile.Result, error) {
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	status := s.set.Status.DeepCopy()
	message := explain(err)
	generated := reason != reasonParams
	parameters := argo.ApplicationSetCondition{Type: argo.SetConditionParametersGenerated, Status: "False", Reason: reasonFailed, Message: message}
	if generated && reason != reasonValidation {
		parameters.Status, parameters.Reason, parameters.Message = "True", reasonGenerated, messageGenerated
	}
	s.setConditions(status,
		argo.ApplicationSetCondition{Type: argo.SetConditionErrorOccurred, Status: "True", Reason: reason, Message: message},
		parameters,
		argo.ApplicationSetCondition{Type: argo.SetConditionResourcesUpToDate, Status: "False", Reason: reason, Message: message},
	)
	if !hasSetCondition(&s.set.Status, argo.SetConditionErrorOccurred, message) {
		s.event(s.object, "Warning", reason, message)
	}
	if !setPermanent(err) {
		s.failures++
		s.within(retryAfter(s.failures, s.opts.Poll))
	}
	return s.look(ctx, status)
}

// look ends the reconcile of a set of which it is not known what its
// Applications should be: the status says how those are that it has.
func (s *setRun) look(ctx context.Context, status *argo.ApplicationSetStatus) (reconcile.Result, error) {
	owned, err := s.owned(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	have := make([]appset.Change, len(owned))
	for i, app := range owned {
		have[i] = appset.Change{Name: app.GetName(), Live: app}
	}
	noteResources(status, have)
	return s.end(ctx, status)
}

const (
	messageGenerated = "Successfully generated parameters for all Applications"
	messageUpToDate  = "All applications have been generated successfully"
)

// finish ends the reconcile of a set whose Applications are as it says.
func (s *setRun) finish(ctx context.Context, plan []appset.Change) (reconcile.Result, error) {
	status := s.set.Status.DeepCopy()
	conditions := []argo.ApplicationSetCondition{
		{Type: argo.SetConditionErrorOccurred, Status: "False", Reason: reasonUpToDate, Message: messageGenerated},
		{Type: argo.SetConditionParametersGenerated, Status: "True", Reason: reasonGenerated, Message: messageGenerated},
		{Type: argo.SetConditionResourcesUpToDate, Status: "True", Reason: reasonUpToDate, Message: messageUpToDate},
	}
	rollout, err := s.roll(ctx, plan, status)
	if err != nil {
		return s.fail(ctx, "SyncApplicationError", err)
	}
	s.setConditions(status, append(conditions, rollout...)...)
	noteResources(status, plan)
	return s.end(ctx, status)
}

// noteResources has the status name the Applications.
func noteResources(status *argo.ApplicationSetStatus, plan []appset.Change) {
	status.Resources = setResources(plan)
	status.ResourcesCount = int64(len(status.Resources))
	status.Resources = status.Resources[:min(len(status.Resources), maxSetResources)]
}

// setResources are the Applications, by name, as they were seen.
func setResources(plan []appset.Change) []argo.ResourceStatus {
	out := []argo.ResourceStatus{}
	for _, c := range plan {
		app := c.Live
		if app == nil {
			app = c.Wanted
		}
		r := argo.ResourceStatus{
			Group: argo.Group, Version: argo.GroupVersion.Version, Kind: argo.ApplicationKind, Namespace: app.GetNamespace(), Name: c.Name,
		}
		sync, _, _ := unstructured.NestedString(app.Object, "status", "sync", "status")
		r.Status = argo.SyncStatusCode(sync)
		health, _, _ := unstructured.NestedString(app.Object, "status", "health", "status")
		if health != "" {
			message, _, _ := unstructured.NestedString(app.Object, "status", "health", "message")
			r.Health = &argo.HealthStatus{Status: health, Message: message}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b argo.ResourceStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// setConditions replaces the conditions. The time of one that has the status
// that it had stays.
func (s *setRun) setConditions(status *argo.ApplicationSetStatus, conditions ...argo.ApplicationSetCondition) {
	for i, c := range conditions {
		conditions[i].LastTransitionTime = &metav1.Time{Time: s.now}
		for _, old := range status.Conditions {
			if old.Type == c.Type && old.Status == c.Status && old.Reason == c.Reason && old.LastTransitionTime != nil {
				conditions[i].LastTransitionTime = old.LastTransitionTime
			}
		}
	}
	status.Conditions = conditions
}

func hasSetCondition(status *argo.ApplicationSetStatus, kind, message string) bool {
	return slices.ContainsFunc(status.Conditions, func(c argo.ApplicationSetCondition) bool {
		return c.Type == kind && c.Message == message
	})
}

// end writes the status and says when to look again.
func (s *setRun) end(ctx context.Context, status *argo.ApplicationSetStatus) (reconcile.Result, error) {
	if every := s.every(); every > 0 {
		s.within(jitter(max(every-s.now.Sub(s.polled), time.Second)))
	}
	s.within(jitter(s.opts.Resync))
	if err := s.writeStatus(ctx, status); err != nil {
		return reconcile.Result{}, err
	}
	if err := s.answerRefresh(ctx); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: s.after}, nil
}

// writeStatus writes the status where it has changed. A change of Applications
// alone waits until they settle.
func (s *setRun) writeStatus(ctx context.Context, status *argo.ApplicationSetStatus) error {
	encoded, err := encodeStatus(status)
	if err != nil {
		return err
	}
	old, err := encodeStatus(&s.set.Status)
	if err != nil || apiequality.Semantic.DeepEqual(encoded, old) {
		return err
	}
	calm := *status
	calm.Resources, calm.ResourcesCount = s.set.Status.Resources, s.set.Status.ResourcesCount
	if since := s.now.Sub(s.wrote); since < settle && apiequality.Semantic.DeepEqual(&calm, &s.set.Status) {
		s.within(settle - since)
		return nil
	}
	s.wrote = s.now
	patch, err := json.Marshal(map[string]any{"status": statusPatch(old, encoded)})
	if err != nil {
		return fmt.Errorf("encode the status: %w", err)
	}
	u := s.object.DeepCopy()
	err = s.client.Status().Patch(ctx, u, client.RawPatch(types.MergePatchType, patch))
	if apierrors.IsNotFound(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("write the status of ApplicationSet %s: %w", s.key, err)
	}
	s.object, s.written, s.set.Status = u, u.DeepCopy(), *status.DeepCopy()
	return nil
}

func encodeStatus(status *argo.ApplicationSetStatus) (map[string]any, error) {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return nil, fmt.Errorf("encode the status: %w", err)
	}
	dropNulls(m)
	return m, nil
}

// statusPatch replaces what differs and removes what is gone.
func statusPatch(old, now map[string]any) map[string]any {
	patch := map[string]any{}
	for key := range old {
		if _, ok := now[key]; !ok {
			patch[key] = nil
		}
	}
	for key, value := range now {
		if !apiequality.Semantic.DeepEqual(old[key], value) {
			patch[key] = value
		}
	}
	return patch
}

// answerRefresh removes the annotation that asked for a refresh.
func (s *setRun) answerRefresh(ctx context.Context) error {
	if _, asked := s.set.Annotations[argo.AnnotationSetRefresh]; !asked {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{argo.AnnotationSetRefresh: nil}}})
	if err != nil {
		return err
	}
	u := s.object.DeepCopy()
	if err := s.client.Patch(ctx, u, client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("answer the refresh of ApplicationSet %s: %w", s.key, err)
	}
	s.object, s.written = u, u.DeepCopy()
	return nil
}
