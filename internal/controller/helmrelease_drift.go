package controller

import (
	"context"
	"fmt"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/kustomize"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"

	"github.com/fairway-cd/fairway/internal/release"
)

// drift compares the cluster with the release, where the spec says so.
func (h *helmReleaseRun) drift(ctx context.Context, last *release.Record) error {
	detection := h.hr.GetDriftDetection()
	if !detection.MustDetectChanges() {
		h.unset(helmv2.DriftedCondition)
		h.stages.Releases.Expect(ctx, h.key, nil)
		return nil
	}
	refs, err := h.release.Inventory(ctx, last)
	if err != nil {
		return err
	}
	h.stages.Releases.Expect(ctx, h.key, refs)
	var ignore []release.Ignore
	for _, rule := range detection.Ignore {
		ignore = append(ignore, release.Ignore{Paths: rule.Paths, Target: kustomizeSelector(rule.Target)})
	}
	found, err := h.release.Diff(ctx, last, ignore)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		h.heal.synced(h.now)
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
	if was == nil || was.Message != message || detection.GetMode() == helmv2.DriftDetectionEnabled {
		h.event(h.object, "Warning", helmv2.DriftDetectedReason, message)
	}
	h.set(helmv2.DriftedCondition, metav1.ConditionTrue, helmv2.DriftDetectedReason, message)
	if detection.GetMode() != helmv2.DriftDetectionEnabled {
		return nil
	}
	// Who changes it each time that we do is not fought at full speed.
	if h.pause = h.heal.drifted(h.now); h.pause > 0 {
		return nil
	}
	h.heal.healed(h.now)
	h.stats.heals.Inc()
	if err := h.release.Correct(ctx, found); err != nil {
		h.event(h.object, "Warning", "DriftCorrectionFailed", h.say(err))
		return err
	}
	h.event(h.object, "Normal", "DriftCorrected", fmt.Sprintf("Cluster state of release %s has been corrected: %s", recordName(last), strings.Join(what, ", ")))
	h.set(helmv2.DriftedCondition, metav1.ConditionFalse, helmv2.NoDriftDetectedReason, "Drift of release "+recordName(last)+" was corrected")
	return nil
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
