package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// catchUp is how long the cache has to catch up with a change that was met.
const catchUp = 50 * time.Millisecond

// setUser is who Argo CD says has begun the syncs of a RollingSync.
const setUser = "applicationset-controller"

// roll moves a RollingSync on, and returns its condition. The status is
// written before a sync is asked for, so that one is asked for again if this
// process dies between the two.
func (s *setRun) roll(ctx context.Context, plan []appset.Change, status *argo.ApplicationSetStatus) ([]argo.ApplicationSetCondition, error) {
	if !appset.Rolls(s.set) {
		status.ApplicationStatus = nil
		return nil, nil
	}
	rollout := appset.Roll(s.set, plan, s.current, s.now)
	status.ApplicationStatus = rollout.Status
	condition := argo.ApplicationSetCondition{
		Type: argo.SetConditionRolloutProgressing, Status: "False", Reason: "ApplicationSetRolloutComplete",
		Message: "ApplicationSet Rollout has completed",
	}
	if rollout.Step > 0 {
		condition.Status, condition.Reason = "True", "ApplicationSetModified"
		condition.Message = fmt.Sprintf("ApplicationSet is performing rollout of step %d", rollout.Step)
	}
	if len(rollout.Sync) > 0 {
		if err := s.writeStatus(ctx, status); err != nil {
			return nil, err
		}
	}
	live := map[string]*unstructured.Unstructured{}
	for _, c := range plan {
		live[c.Name] = c.Live
	}
	for _, sync := range rollout.Sync {
		if err := s.syncApplication(ctx, live[sync.Name], sync.Token); err != nil {
			return nil, err
		}
	}
	return []argo.ApplicationSetCondition{condition}, nil
}

// current says whether the Application's status is known to be of its sources
// as they are now: it follows all of them, and no commit has concerned it
// since; or it is held.
func (s *setRun) current(name string) bool {
	key := types.NamespacedName{Namespace: s.key.Namespace, Name: name}
	if len(s.apps.reads.sources(key)) > 0 {
		return true
	}
	for _, app := range s.wanted {
		if app.GetName() == name {
			return app.GetAnnotations()[AnnotationPinnedRevision] != ""
		}
	}
	return false
}

// syncApplication asks for a sync, as the Application's policy has it. An
// Application that has changed meanwhile is looked at again first, when the
// cache has it.
func (s *setRun) syncApplication(ctx context.Context, live *unstructured.Unstructured, token string) error {
	if live == nil {
		return nil
	}
	op := argo.Operation{
		InitiatedBy: argo.OperationInitiator{Username: setUser, Automated: true},
		Info: []argo.Info{
			{Name: "Reason", Value: "ApplicationSet RollingSync triggered a sync of this Application resource"},
			{Name: appset.InfoRollout, Value: token},
		},
		Sync: &argo.SyncOperation{},
	}
	if policy := s.policyOf(live.GetName()); policy != nil {
		op.Sync.SyncOptions = policy.SyncOptions
		op.Sync.Prune = policy.Automated != nil && policy.Automated.Prune
		if policy.Retry != nil {
			op.Retry = *policy.Retry
		}
	}
	encoded, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&op)
	if err != nil {
		return fmt.Errorf("encode an operation: %w", err)
	}
	err = s.patchApplication(ctx, live.GetName(), map[string]any{
		"metadata": map[string]any{"resourceVersion": live.GetResourceVersion()}, "operation": encoded,
	})
	if apierrors.IsConflict(err) {
		s.within(catchUp)
		return nil
	}
	return err
}

// policyOf is the sync policy that the set's template has for an Application,
// with the automation that a RollingSync takes out of it.
func (s *setRun) policyOf(name string) *argo.SyncPolicy {
	for _, app := range s.wanted {
		if app.GetName() != name {
			continue
		}
		var typed argo.Application
		if runtime.DefaultUnstructuredConverter.FromUnstructured(app.Object, &typed) == nil {
			return typed.Spec.SyncPolicy
		}
	}
	return nil
}
