package controller

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/release"
)

// setHealthRules has the spec's healthCheckExprs count for the release's
// objects. The error is a *SpecError.
func (h *helmReleaseRun) setHealthRules() error {
	if h.stages.Health == nil {
		return nil
	}
	if _, err := h.stages.Health.Check(helmOwner(h.key), healthRules(h.hr.Spec.HealthCheckExprs)); err != nil {
		refused := &SpecError{}
		refused.add("spec", "%v", err)
		return refused
	}
	return nil
}

// health judges the kinds that the spec has expressions for; nil judges none.
func (h *helmReleaseRun) health() *release.Health {
	if h.stages.Health == nil || len(h.hr.Spec.HealthCheckExprs) == 0 {
		return nil
	}
	out := &release.Health{Of: func(obj *unstructured.Unstructured) (core.Health, string) {
		return h.stages.Health.Of(helmOwner(h.key), obj)
	}}
	for _, c := range healthRules(h.hr.Spec.HealthCheckExprs) {
		out.Kinds = append(out.Kinds, schema.GroupKind{Group: c.Group, Kind: c.Kind})
	}
	return out
}
