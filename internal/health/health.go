// Package health says how well an object does, by the rules of the dialect
// that asks: Argo CD's for Applications, kstatus for Flux' kinds. They
// disagree (an Ingress without a load balancer is Progressing to the one and
// done to the other), so there is one table a dialect.
//
// The kinds of Kubernetes itself are Go functions. Custom kinds are rules,
// CEL expressions in files: those of the directory rules are shipped, and New
// takes those of a user. docs/spec/health.md describes them.
package health

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Func is the form of a health rule: how well obj does, and why, for people.
// It does not keep or change obj.
type Func func(d core.Dialect, obj *unstructured.Unstructured) (core.Health, string)

// Of is the health of a live object by the rules that are shipped, as
// Table.Of.
func Of(d core.Dialect, obj *unstructured.Unstructured) (core.Health, string) {
	t, err := New()
	if err != nil {
		return core.Unknown, err.Error()
	}
	return t.Of(d, obj)
}

// healths are from best to worst, as Argo CD orders them.
var healths = []core.Health{
	core.Healthy, core.Suspended, core.Progressing, core.Missing, core.Degraded, core.Unknown,
}

// order is the place of a health in healths.
var order = func() map[core.Health]int {
	order := map[core.Health]int{}
	for i, h := range healths {
		order[h] = i
	}
	return order
}()

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
