// Package health says how well an object does, by the rules of the dialect
// that asks: Argo CD's for Applications, kstatus for Flux' kinds. They
// disagree (an Ingress without a load balancer is Progressing to the one and
// done to the other), so there is one table a dialect.
package health

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Func is the form of a health rule: how well obj does, and why, for people.
// It does not keep or change obj.
type Func func(d core.Dialect, obj *unstructured.Unstructured) (core.Health, string)

// Of is the health of a live object by the dialect's rules. For a kind that
// has no rule of its own, its status tells: observedGeneration and the usual
// conditions (Ready, Reconciling, Stalled), and without them it is Healthy.
func Of(d core.Dialect, obj *unstructured.Unstructured) (core.Health, string) {
	if d == core.Flux {
		return byStatus(obj)
	}
	rule := argoRule(obj.GroupVersionKind())
	if obj.GetDeletionTimestamp() != nil && obj.GetKind() != "CustomResourceDefinition" {
		return core.Progressing, "Pending deletion"
	}
	if rule != nil {
		h, msg, err := rule(obj)
		if err != nil {
			return core.Unknown, err.Error()
		}
		return h, msg
	}
	return byStatus(obj)
}

// order is from best to worst, as Argo CD orders them.
var order = map[core.Health]int{
	core.Healthy: 0, core.Suspended: 1, core.Progressing: 2,
	core.Missing: 3, core.Degraded: 4, core.Unknown: 5,
}

// Worst is the health of the whole whose parts have these; of nothing it is
// Healthy.
func Worst(parts ...core.Health) core.Health {
	worst := core.Healthy
	for _, h := range parts {
		if order[h] > order[worst] {
			worst = h
		}
	}
	return worst
}
