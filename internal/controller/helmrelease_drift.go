package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/kustomize"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"

	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/release"
)

// drift compares the cluster with the release, where the spec says so.
func (h *helmReleaseRun) drift(ctx context.Context, last *release.Record) error {
	detection := h.hr.GetDriftDetection()
	if !detection.MustDetectChanges() {
		h.unset(helmv2.DriftedCondition)
		h.cluster.Expect(ctx, h.key, nil)
		return nil
	}
	refs, err := h.release.Inventory(ctx, last)
	if err != nil {
		return err
	}
	h.cluster.Expect(ctx, h.key, refs)
	found, err := h.release.Diff(ctx, last, h.ignores())
	if err != nil {
		return err
	}
	due, next := h.fights.due(statesOfDifferences(found), h.now)
	defer func() { h.pause = sooner(next, h.setFighting(&h.hr.Status.Conditions)) }()
	if len(found) == 0 {
		if c := apimeta.FindStatusCondition(h.hr.Status.Conditions, helmv2.DriftedCondition); c == nil || c.Status != metav1.ConditionFalse {
			h.set(helmv2.DriftedCondition, metav1.ConditionFalse, helmv2.NoDriftDetectedReason, "No drift detected in release "+recordName(last))
		}
		return nil
	}
	what := make([]string, len(found))
	for i, d := range found {
		what[i] = d.String()
	}
	message := fmt.Sprintf("Cluster state of release %s has drifted from the desired state: %s", recordName(last), strings.Join(what, ", "))
	was := apimeta.FindStatusCondition(h.before.Conditions, helmv2.DriftedCondition)
	if was == nil || was.Message != message || detection.GetMode() == helmv2.DriftDetectionEnabled && len(due) > 0 {
		h.event(h.object, "Warning", helmv2.DriftDetectedReason, message)
	}
	h.set(helmv2.DriftedCondition, metav1.ConditionTrue, helmv2.DriftDetectedReason, message)
	if detection.GetMode() != helmv2.DriftDetectionEnabled {
		return nil
	}
	// Who changes an object each time that we do is not fought at full speed.
	if len(due) == 0 {
		return nil
	}
	now := differencesOf(found, due)
	h.stats.heals.Inc()
	err = h.release.Correct(ctx, now)
	h.tellFights(h.object, &h.fights, h.fights.healed(due, resultsOf(now, err), h.now))
	if err != nil {
		h.event(h.object, "Warning", "DriftCorrectionFailed", h.say(err))
		return err
	}
	if len(now) < len(found) {
		return nil
	}
	h.event(h.object, "Normal", "DriftCorrected", fmt.Sprintf("Cluster state of release %s has been corrected: %s", recordName(last), strings.Join(what, ", ")))
	h.set(helmv2.DriftedCondition, metav1.ConditionFalse, helmv2.NoDriftDetectedReason, "Drift of release "+recordName(last)+" was corrected")
	return nil
}

// ignores are the fields that the spec leaves out of comparisons.
func (h *helmReleaseRun) ignores() []release.Ignore {
	detection := h.hr.GetDriftDetection()
	var out []release.Ignore
	for _, rule := range detection.Ignore {
		out = append(out, release.Ignore{Paths: rule.Paths, Target: kustomizeSelector(rule.Target)})
	}
	return out
}

// statesOfDifferences are differences as the watch has them.
func statesOfDifferences(found []release.Difference) []drift.ObjectState {
	states := make([]drift.ObjectState, len(found))
	for i, d := range found {
		states[i] = drift.ObjectState{Ref: d.Ref, Drift: drift.Modified}
		if d.Removed {
			states[i].Drift = drift.Deleted
		}
	}
	return states
}

// resultsOf are differences as results of putting them right.
func resultsOf(found []release.Difference, err error) []deploy.ObjectResult {
	action := deploy.Configured
	if err != nil {
		action = deploy.Failed
	}
	results := make([]deploy.ObjectResult, len(found))
	for i, d := range found {
		results[i] = deploy.ObjectResult{Ref: d.Ref, Action: action, Undone: d.Changes}
	}
	return results
}

// differencesOf are those of the objects.
func differencesOf(found []release.Difference, objects []drift.ObjectState) []release.Difference {
	wanted := statesOf(objects)
	var out []release.Difference
	for _, d := range found {
		if wanted[d.Ref.Key()] != nil {
			out = append(out, d)
		}
	}
	return out
}

// sooner is the shorter one; 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// kustomizeSelector is Flux' selector as kustomize has it.
func kustomizeSelector(s *kustomize.Selector) *types.Selector {
	if s == nil {
		return nil
	}
	return &types.Selector{
		ResId:              resid.ResId{Gvk: resid.Gvk{Group: s.Group, Version: s.Version, Kind: s.Kind}, Name: s.Name, Namespace: s.Namespace},
		AnnotationSelector: s.AnnotationSelector, LabelSelector: s.LabelSelector,
	}
}
