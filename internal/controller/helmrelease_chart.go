package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/api/flux"
)

// Labels by which Flux finds what is a HelmRelease's.
const (
	labelHelmName      = "helm.toolkit.fluxcd.io/name"
	labelHelmNamespace = "helm.toolkit.fluxcd.io/namespace"
)

func (h *helmReleaseRun) originLabels() map[string]string {
	return map[string]string{labelHelmName: h.key.Name, labelHelmNamespace: h.key.Namespace}
}

// chartKey is the HelmChart that stands for spec.chart.
func (h *helmReleaseRun) chartKey() types.NamespacedName {
	return types.NamespacedName{Namespace: h.hr.Spec.Chart.GetNamespace(h.key.Namespace), Name: h.hr.GetHelmChartName()}
}

// chartDep is what the chart is read from.
func (h *helmReleaseRun) chartDep() string {
	if ref := h.hr.Spec.ChartRef; ref != nil {
		return ref.Kind + " " + h.refKey().String()
	}
	return helmChartDep(h.chartKey())
}

func (h *helmReleaseRun) refKey() types.NamespacedName {
	key := types.NamespacedName{Namespace: h.hr.Spec.ChartRef.Namespace, Name: h.hr.Spec.ChartRef.Name}
	if key.Namespace == "" {
		key.Namespace = h.key.Namespace
	}
	return key
}

// findChart finds the chart that is wanted. It is not ready where it is not
// known in this process yet.
func (h *helmReleaseRun) findChart(ctx context.Context) (ready bool, err error) {
	ref := h.hr.Spec.ChartRef
	if ref == nil {
		key := h.chartKey()
		if err := h.ensureChart(ctx, key); err != nil {
			return false, err
		}
		h.hr.Status.HelmChart = key.String()
		return h.ofChart(ctx, key)
	}
	if err := h.dropChart(ctx); err != nil {
		return false, err
	}
	switch ref.Kind {
	case sourcev1.HelmChartKind:
		return h.ofChart(ctx, h.refKey())
	case sourcev1.OCIRepositoryKind:
		return h.ofArtifact(ctx, h.refKey())
	}
	refused := &SpecError{}
	refused.add("spec.chartRef.kind", "%q is not supported; want OCIRepository or HelmChart", ref.Kind)
	return false, refused
}

func (h *helmReleaseRun) ofChart(ctx context.Context, key types.NamespacedName) (bool, error) {
	if a, ok := h.helm.charts.artifact(key); ok {
		u, err := h.referredTo(ctx, flux.HelmChart, key, h.helm.charts.memories)
		// A chart that is about to be another one is waited for.
		if err == nil && a.generation == u.GetGeneration() {
			h.chart = a
			return true, nil
		}
	}
	return false, h.notReady(ctx, flux.HelmChart.Kind, key, h.helm.charts.memories)
}

// observed says that the status is of the newest spec.
func observed(u *unstructured.Unstructured) bool {
	generation, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
	return generation == u.GetGeneration()
}

// notReady is why a source has no chart, and nil where that is not known.
func (h *helmReleaseRun) notReady(ctx context.Context, kind string, key types.NamespacedName, memories *memories) error {
	gvk := flux.HelmChart
	gvk.Kind = kind
	u, err := h.referredTo(ctx, gvk, key, memories)
	if err != nil {
		return err
	}
	if message := readyMessage(u); message != "" && observed(u) {
		return fmt.Errorf("%s '%s' is not ready: %s", kind, key, message)
	}
	return nil
}

// ensureChart makes the HelmChart of spec.chart, and keeps it up to date.
func (h *helmReleaseRun) ensureChart(ctx context.Context, key types.NamespacedName) error {
	if was := h.hr.Status.HelmChart; was != "" && was != key.String() {
		if err := h.dropChart(ctx); err != nil {
			return err
		}
	}
	wanted, err := h.chartObject(key)
	if err != nil {
		return err
	}
	live, err := h.referredTo(ctx, flux.HelmChart, key, h.helm.charts.memories)
	if isNotThere(err) {
		err = h.client.Create(ctx, wanted)
		if apierrors.IsAlreadyExists(err) {
			return nil // the cache is behind, and its event wakes us
		}
		if err != nil {
			return fmt.Errorf("make HelmChart '%s': %w", key, err)
		}
		h.helm.charts.memories.of(key).written.Store(wanted)
		return nil
	}
	if err != nil {
		return err
	}
	if live.GetLabels()[labelHelmName] != h.key.Name || live.GetLabels()[labelHelmNamespace] != h.key.Namespace {
		return fmt.Errorf("HelmChart '%s' is there already and not of this HelmRelease", key)
	}
	updated := live.DeepCopy()
	updated.Object["spec"] = wanted.Object["spec"]
	updated.SetLabels(mergedMaps(live.GetLabels(), wanted.GetLabels()))
	updated.SetAnnotations(mergedMaps(live.GetAnnotations(), wanted.GetAnnotations()))
	if apiequality.Semantic.DeepEqual(live.Object, updated.Object) {
		return nil
	}
	if err := h.client.Update(ctx, updated); err != nil {
		return fmt.Errorf("update HelmChart '%s': %w", key, err)
	}
	// The cache may show the one before for a moment, whose chart is not wanted.
	h.helm.charts.memories.of(key).written.Store(updated)
	return nil
}

func mergedMaps(a, b map[string]string) map[string]string {
	if len(a)+len(b) == 0 {
		return nil
	}
	out := map[string]string{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

func (h *helmReleaseRun) chartObject(key types.NamespacedName) (*unstructured.Unstructured, error) {
	t := h.hr.Spec.Chart
	spec := sourcev1.HelmChartSpec{
		Chart: t.Spec.Chart, Version: t.Spec.Version, Interval: t.GetInterval(h.hr.Spec.Interval),
		SourceRef:         sourcev1.LocalHelmChartSourceReference{Kind: t.Spec.SourceRef.Kind, Name: t.Spec.SourceRef.Name},
		ReconcileStrategy: t.Spec.ReconcileStrategy,
		ValuesFiles:       t.Spec.ValuesFiles, IgnoreMissingValuesFiles: t.Spec.IgnoreMissingValuesFiles,
	}
	if spec.Version == "" {
		spec.Version = "*"
	}
	if spec.ReconcileStrategy == "" {
		spec.ReconcileStrategy = sourcev1.ReconcileStrategyChartVersion
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode HelmChart '%s': %w", key, err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(flux.HelmChart)
	u.SetNamespace(key.Namespace)
	u.SetName(key.Name)
	labels := h.originLabels()
	if m := t.ObjectMeta; m != nil {
		labels = mergedMaps(m.Labels, labels)
		u.SetAnnotations(m.Annotations)
	}
	u.SetLabels(labels)
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("encode HelmChart '%s': %w", key, err)
	}
	u.Object["spec"] = fields
	return u, nil
}

// dropChart deletes the HelmChart that was made for the HelmRelease.
func (h *helmReleaseRun) dropChart(ctx context.Context) error {
	if h.hr.Status.HelmChart == "" {
		return nil
	}
	if err := h.deleteChart(ctx); err != nil {
		return err
	}
	h.hr.Status.HelmChart = ""
	return nil
}

func (h *helmReleaseRun) deleteChart(ctx context.Context) error {
	namespace, name := h.hr.Status.GetHelmChart()
	if name == "" {
		return nil
	}
	u, err := h.referredTo(ctx, flux.HelmChart, types.NamespacedName{Namespace: namespace, Name: name}, h.helm.charts.memories)
	if isNotThere(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if u.GetLabels()[labelHelmName] != h.key.Name || u.GetLabels()[labelHelmNamespace] != h.key.Namespace {
		return nil
	}
	if err := h.client.Delete(ctx, u); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete HelmChart '%s': %w", h.hr.Status.HelmChart, err)
	}
	return nil
}
