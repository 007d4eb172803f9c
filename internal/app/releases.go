package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/registry"
	"github.com/fairway-cd/fairway/internal/web"
)

// ready fills in what the Ready condition of Flux' kinds says.
func ready(d *web.Delivery, conditions []metav1.Condition, suspended bool) {
	d.Sync, d.Health = "Unknown", "Progressing"
	c := meta.FindStatusCondition(conditions, "Ready")
	if c == nil {
		return
	}
	d.Changed = &c.LastTransitionTime.Time
	switch c.Status {
	case metav1.ConditionTrue:
		d.Sync, d.Health = "Synced", "Healthy"
	case metav1.ConditionFalse:
		d.Health, d.Message = "Degraded", c.Reason+": "+c.Message
	default:
		d.Message = c.Message
	}
	if suspended {
		d.Health = "Suspended"
	}
	if fight := meta.FindStatusCondition(conditions, "Fighting"); fight != nil {
		d.Message = strings.TrimPrefix(d.Message+"\n"+fight.Type+": "+fight.Message, "\n")
	}
}

// inventoried are the objects of an inventory, whose identities are
// NAMESPACE_NAME_GROUP_KIND: Flux' ResourceRef.
func inventoried[T any](entries []T, id func(T) string) []web.Resource {
	var all []web.Resource
	for _, e := range entries {
		if f := strings.Split(id(e), "_"); len(f) == 4 {
			all = append(all, web.Resource{Kind: f[3], Namespace: f[0], Name: f[1]})
		}
	}
	return all
}

func releaseSummary(h *helmv2.HelmRelease) web.Delivery {
	d := web.Delivery{Kind: helmv2.HelmReleaseKind, Namespace: h.Namespace, Name: h.Name, Target: h.GetReleaseNamespace()}
	switch {
	case h.Spec.ChartRef != nil:
		d.Source = h.Spec.ChartRef.Kind + " " + h.Spec.ChartRef.Name
	case h.Spec.Chart != nil:
		ref := h.Spec.Chart.Spec.SourceRef
		d.Source, d.Path = ref.Kind+" "+ref.Name, h.Spec.Chart.Spec.Chart
	}
	if last := h.Status.History.Latest(); last != nil {
		d.Revision = last.ChartVersion
	}
	ready(&d, h.Status.Conditions, h.Spec.Suspend)
	return d
}

func releaseDetail(h *helmv2.HelmRelease) *web.Delivery {
	d := releaseSummary(h)
	if h.Status.Inventory != nil {
		d.Resources = inventoried(h.Status.Inventory.Entries, func(r helmv2.ResourceRef) string { return r.ID })
	}
	for _, s := range h.Status.History {
		d.History = append(d.History, web.Deployed{ID: int64(s.Version), Revision: s.ChartVersion, At: s.LastDeployed.Time, By: s.Status})
	}
	return &d
}

// addReleases adds the images, and the charts, of what Helm's releases have
// been: 'helm rollback' and a remediation go back to them. Where a cluster does
// not say what it keeps, the error is registry.ErrKeepManifests.
func (e *engine) addReleases(ctx context.Context, all imageSet) error {
	releases, err := listAs[helmv2.HelmRelease](ctx, e.mgr.GetCache(), flux.HelmRelease)
	if err != nil {
		return err
	}
	if err := e.stage.releases.Manifests(ctx, all.addManifest); err != nil {
		return err
	}
	var unknown error
	for _, h := range releases {
		for _, s := range h.Status.History {
			if s.OCIDigest != "" {
				all[s.OCIDigest] = true
			}
		}
		if h.Spec.KubeConfig == nil {
			continue // with those of the home cluster
		}
		if err := e.core.KeptReleases(ctx, &h, all.addManifest); err != nil {
			unknown = errors.Join(unknown, fmt.Errorf("%w: reading what HelmRelease %s/%s has been: %w", registry.ErrKeepManifests, h.Namespace, h.Name, err))
		}
	}
	return unknown
}

// addManifest adds the images of a manifest of Helm.
func (s imageSet) addManifest(manifest string) {
	decoder := yaml.NewYAMLToJSONDecoder(strings.NewReader(manifest))
	for {
		var object map[string]any
		if err := decoder.Decode(&object); err != nil {
			return // the end, or what no cluster would take either
		}
		s.addObject(object)
	}
}
