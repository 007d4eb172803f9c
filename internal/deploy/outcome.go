package deploy

import (
	"fmt"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/health"
)

// skipRest says of what was not reached that it was not.
func (r *run) skipRest() {
	for _, s := range r.steps {
		for _, it := range s.items {
			if !r.done[it] {
				res := ObjectResult{Ref: it.ref, Action: Skipped, Wave: it.settings.wave, Message: "not reached", Health: core.Missing}
				if it.hook != nil {
					res.Hook = string(it.phase)
				} else if it.live != nil {
					res.Live = it.live
					res.Health, _ = r.health(r.plan.Owner, it.live)
				}
				r.report(res)
			}
		}
	}
}

func (r *run) report(res ObjectResult) {
	r.results = append(r.results, res)
	if r.plan.Progress != nil {
		r.plan.Progress(res)
	}
}

func (r *run) keep(ref core.ObjectRef) {
	if _, ok := r.inventory[ref.Key()]; !ok {
		r.order = append(r.order, ref.Key())
	}
	r.inventory[ref.Key()] = ref
}

func (r *run) drop(ref core.ObjectRef) { delete(r.inventory, ref.Key()) }

func (r *run) superseded() bool { return r.plan.Superseded != nil && r.plan.Superseded() }

func (r *run) outcome() *Outcome {
	out := &Outcome{Results: r.results, Took: time.Since(r.start), Health: core.Healthy}
	if r.pre != nil {
		out.Warnings = r.pre.warnings
		for _, it := range r.pre.items {
			if it.verdict == shared {
				out.Warnings = append(out.Warnings, sharedWarning(it, r.plan.Owner))
			}
		}
	}
	for _, key := range r.order {
		if ref, ok := r.inventory[key]; ok {
			out.Inventory = append(out.Inventory, ref)
			delete(r.inventory, key) // what was dropped and kept again is in order twice
		}
	}
	for _, res := range r.results {
		if res.Hook == "" && res.Action != Pruned && res.Action != PruneSkipped && !(res.Action == Skipped && res.Live == nil) {
			out.Health = health.Worst(out.Health, res.Health)
		}
	}
	return out
}

// sharedWarning has Argo CD's words.
func sharedWarning(it *item, owner core.Owner) Warning {
	return Warning{SharedResource, fmt.Sprintf("%s/%s is part of applications %s/%s and %s/%s",
		it.ref.Kind, it.ref.Name, owner.Namespace, owner.Name, it.owner.Namespace, it.owner.Name)}
}

func planError(failed []*ObjectError) error {
	if len(failed) == 0 {
		return nil
	}
	return &PlanError{Objects: failed, Applied: true}
}
