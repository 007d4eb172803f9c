package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// fluxState is what the statuses of Flux' kinds have in common.
type fluxState struct {
	kind       string
	suspended  bool
	conditions []metav1.Condition
	// handled is the last request that was answered, observed the spec that was
	// seen.
	handled  string
	observed int64
}

// fluxOf reads it of an object of Flux' kinds.
func fluxOf(obj client.Object) (fluxState, bool) {
	switch o := obj.(type) {
	case *kustomizev1.Kustomization:
		return fluxState{kustomizev1.KustomizationKind, o.Spec.Suspend, o.Status.Conditions, o.Status.LastHandledReconcileAt, o.Status.ObservedGeneration}, true
	case *helmv2.HelmRelease:
		return fluxState{helmv2.HelmReleaseKind, o.Spec.Suspend, o.Status.Conditions, o.Status.LastHandledReconcileAt, o.Status.ObservedGeneration}, true
	}
	return fluxState{}, false
}

// state fills in what Ready says.
func (r *appRow) state(f fluxState) {
	r.Sync, r.Health = "Unknown", "Unknown"
	ready := apimeta.FindStatusCondition(f.conditions, "Ready")
	switch {
	case f.suspended:
		r.Health = "Suspended"
	case ready == nil:
	case ready.Status == metav1.ConditionTrue:
		r.Sync, r.Health = "Synced", "Healthy"
	case ready.Status == metav1.ConditionFalse:
		r.Health, r.Message = "Degraded", ready.Message
	default:
		r.Health, r.Message = "Progressing", ready.Message
	}
}

// findHelmRelease looks in the key's namespace or, where none was named, in
// all; it returns nil where there is none.
func findHelmRelease(ctx context.Context, c client.Reader, key client.ObjectKey, there bool) (client.Object, error) {
	options := []client.ListOption{}
	if there {
		options = append(options, client.InNamespace(key.Namespace))
	}
	var list helmv2.HelmReleaseList
	if err := c.List(ctx, &list, options...); err != nil && !missing(err) {
		return nil, fmt.Errorf("listing HelmReleases: %w", err)
	}
	var found *helmv2.HelmRelease
	for i := range list.Items {
		if list.Items[i].Name != key.Name {
			continue
		}
		if found != nil {
			return nil, ambiguous(helmv2.HelmReleaseKind, key.Name, found.Namespace, list.Items[i].Namespace)
		}
		found = &list.Items[i]
	}
	if found == nil {
		return nil, nil
	}
	return found, nil
}

func helmReleaseRow(h *helmv2.HelmRelease) appRow {
	r := appRow{Kind: helmv2.HelmReleaseKind, Namespace: h.Namespace, Name: h.Name, Cluster: argo.InClusterName}
	if c := h.Spec.KubeConfig; c != nil && c.SecretRef != nil {
		r.Cluster = h.Namespace + "/" + c.SecretRef.Name
	}
	switch {
	case h.Spec.ChartRef != nil:
		r.Source = h.Spec.ChartRef.Kind + "/" + h.Spec.ChartRef.Name
	case h.Spec.Chart != nil:
		ref := h.Spec.Chart.Spec.SourceRef
		r.Source, r.Path = ref.Kind+"/"+ref.Name, h.Spec.Chart.Spec.Chart
	}
	if last := h.Status.History.Latest(); last != nil {
		r.Revision, r.commit = last.ChartVersion, last.ChartVersion
	}
	f, _ := fluxOf(h)
	r.state(f)
	return r
}

func printHelmRelease(t *tabwriter.Writer, h *helmv2.HelmRelease) {
	row := helmReleaseRow(h)
	fmt.Fprintf(t, "Name:\t%s/%s\n", h.Namespace, h.Name)
	fmt.Fprintf(t, "Kind:\t%s\n", row.Kind)
	fmt.Fprintf(t, "Source:\t%s\n", row.Source)
	fmt.Fprintf(t, "Chart:\t%s\n", row.Path)
	fmt.Fprintf(t, "Release:\t%s/%s\n", h.GetReleaseNamespace(), h.GetReleaseName())
	if last := h.Status.History.Latest(); last != nil {
		fmt.Fprintf(t, "Released:\tv%d, chart %s at %s\n", last.Version, last.VersionedChartName(), last.LastDeployed.UTC().Format(time.RFC3339))
	}
	for _, c := range h.Status.Conditions {
		fmt.Fprintf(t, "Condition:\t%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	if h.Status.Inventory == nil {
		return
	}
	fmt.Fprintln(t, "\nOBJECT\tVERSION")
	for _, e := range h.Status.Inventory.Entries {
		fmt.Fprintf(t, "%s\t%s\n", e.ID, e.Version)
	}
}

// helmHistory is what the status keeps of the release's own history, the oldest
// first. 'helm history' has all of it.
func helmHistory(h *helmv2.HelmRelease) []deployedRow {
	rows := []deployedRow{}
	for _, s := range slices.Backward(h.Status.History) {
		rows = append(rows, deployedRow{ID: int64(s.Version), Date: s.LastDeployed.Time, Revision: s.ChartVersion, By: s.Status})
	}
	return rows
}

// ofHelm refuses what only helm does.
func ofHelm(obj client.Object, what string) error {
	h, ok := obj.(*helmv2.HelmRelease)
	if !ok {
		return nil
	}
	return helmOnly(h.Name, what, fmt.Sprintf("helm history %s -n %s", h.GetReleaseName(), h.GetReleaseNamespace()))
}

// helmOnly says what to do in place of it; begin is helm's command to begin
// with.
func helmOnly(name, what, begin string) error {
	return withHint(fmt.Errorf("%s is a HelmRelease, which cannot be %s", name, what),
		"set the chart's version in its spec; or suspend it and use helm: '"+begin+"'")
}
