package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/health"
)

// Apply implements Deployer. The whole plan is validated by the API server
// first; where an object is refused, nothing is applied and the error is a
// *PlanError. An error of a later step is a *PlanError too, whose Applied is
// true; what was not reached by then is Skipped.
func (c *Cluster) Apply(ctx context.Context, p Plan) (*Outcome, error) {
	r := &run{Cluster: c, plan: p, start: time.Now(), inventory: map[core.ObjectRef]core.ObjectRef{}}
	for _, ref := range p.Inventory {
		r.keep(ref)
	}
	err := r.apply(ctx)
	return r.outcome(), err
}

// run is one Apply on its way.
type run struct {
	*Cluster
	plan      Plan
	pre       *prepared
	steps     []*step
	start     time.Time
	results   []ObjectResult
	inventory map[core.ObjectRef]core.ObjectRef
	order     []core.ObjectRef
	done      map[*item]bool
	touched   bool
	// unconfirmed are the objects whose prune has to be confirmed first. All
	// else goes on until the sync would be taken for done.
	unconfirmed []core.ObjectRef
}

func (r *run) apply(ctx context.Context) error {
	pre, err := r.prepare(r.plan)
	r.pre = pre
	if err != nil {
		return r.refuse(err)
	}
	if err := guardEmpty(pre); err != nil {
		return err
	}
	r.done = map[*item]bool{}
	r.examine(ctx, pre, pre.items)
	extras := r.extras(ctx, pre)
	if err := r.validated(ctx, extras); err != nil {
		return err
	}
	if r.superseded() {
		return ErrSuperseded
	}
	if err := r.createNamespace(ctx, pre); err != nil {
		return r.refuse(&PlanError{Objects: []*ObjectError{objectError("create", core.ObjectRef{}, err)}})
	}
	if err := r.examineInNamespace(ctx, extras); err != nil {
		return err
	}
	var failures []*item
	pre.items = slices.DeleteFunc(pre.items, func(it *item) bool {
		if it.phase == phaseSyncFail {
			failures = append(failures, it)
			return true
		}
		return false
	})
	r.steps = steps(pre, extras)
	err = r.all(ctx)
	r.count(err)
	var waiting *UnconfirmedError
	if err != nil && r.touched && !errors.Is(err, ErrSuperseded) && !errors.As(err, &waiting) && ctx.Err() == nil {
		r.failHooks(ctx, failures)
	}
	r.skipRest()
	return err
}

// examineInNamespace looks again at what could not be validated because the
// delivery's namespace was not there, so that an object that is refused is
// known of before the first one is applied.
func (r *run) examineInNamespace(ctx context.Context, extras []*extra) error {
	o := r.plan.Options
	if !o.CreateNamespace || o.DryRun {
		return nil
	}
	var items []*item
	for _, it := range r.pre.items {
		if it.verdict == undecided && it.ref.Namespace == o.Namespace {
			items = append(items, it)
		}
	}
	if len(items) == 0 {
		return nil
	}
	r.examine(ctx, r.pre, items)
	return r.validated(ctx, extras)
}

// count says in the error of a plan that was begun how far it came.
func (r *run) count(err error) {
	var plan *PlanError
	if !errors.As(err, &plan) {
		return
	}
	for _, res := range r.results {
		switch res.Action {
		case Created, Configured, Pruned:
			plan.Changed++
		}
	}
	for _, s := range r.steps {
		for _, it := range s.items {
			if !r.done[it] {
				plan.Unreached++
			}
		}
	}
}

// validated ends the run where the cluster refuses objects.
func (r *run) validated(ctx context.Context, extras []*extra) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	var failed []*ObjectError
	for _, it := range r.pre.items {
		if it.err != nil {
			failed = append(failed, it.err)
		}
	}
	for _, x := range extras {
		if x.err != nil {
			failed = append(failed, x.err)
		}
	}
	if len(failed) > 0 {
		return r.refuse(&PlanError{Objects: failed})
	}
	return nil
}

// refuse notes the objects of an error as failed and returns it.
func (r *run) refuse(err error) error {
	var plan *PlanError
	if errors.As(err, &plan) {
		for _, o := range plan.Objects {
			r.report(ObjectResult{Ref: o.Ref, Action: Failed, Health: core.Unknown, Message: o.Error(), Err: o})
		}
	}
	return err
}

// all goes through the steps.
func (r *run) all(ctx context.Context) error {
	for i, s := range r.steps {
		if r.superseded() {
			return ErrSuperseded
		}
		if s.phase == phasePostSync && len(r.unconfirmed) > 0 {
			return &UnconfirmedError{What: "pruning", Objects: r.unconfirmed}
		}
		if err := r.prunes(ctx, s); err != nil {
			return err
		}
		for _, group := range groups(s.items) {
			if r.superseded() {
				return ErrSuperseded
			}
			if err := r.group(ctx, group); err != nil {
				return err
			}
		}
		last := i == len(r.steps)-1
		if err := r.settleStep(ctx, s, last); err != nil {
			return err
		}
	}
	if len(r.unconfirmed) > 0 {
		return &UnconfirmedError{What: "pruning", Objects: r.unconfirmed}
	}
	if r.plan.Options.WaitAtEnd && !r.plan.Options.DryRun {
		return r.waitAtEnd(ctx)
	}
	return nil
}

func (r *run) prunes(ctx context.Context, s *step) error {
	if len(s.prunes) == 0 {
		return nil
	}
	r.touched = true
	r.prune(ctx, r.plan, s.prunes)
	var failed []*ObjectError
	for _, x := range s.prunes {
		switch {
		case x.err != nil:
			failed = append(failed, x.err)
		case x.keep == "" || x.forget:
			if !r.plan.Options.DryRun {
				r.drop(x.ref)
			}
		}
		if x.unconfirmed && !r.plan.Options.DryRun {
			r.unconfirmed = append(r.unconfirmed, x.ref)
		}
		if x.live != nil || x.err != nil {
			r.report(x.result())
		}
	}
	return planError(failed)
}

// group applies objects of one kind at once.
func (r *run) group(ctx context.Context, group []*item) error {
	r.touched = true
	results := make([]ObjectResult, len(group))
	index := make([]int, len(group))
	for i := range index {
		index[i] = i
	}
	each(ctx, r.concurrency, index, func(ctx context.Context, i int) {
		results[i] = r.object(ctx, group[i])
	})
	var failed []*ObjectError
	for i, res := range results {
		it := group[i]
		r.done[it] = true
		switch {
		case it.err != nil:
			failed = append(failed, it.err)
			res.Action, res.Err, res.Message, res.Health = Failed, it.err, it.err.Error(), core.Unknown
		case it.hook == nil && (it.verdict != skip && it.verdict != shared || it.live != nil && r.tracking.Tracks(r.plan.Owner, it.live)):
			r.keep(it.ref)
		case it.hook == nil:
			r.drop(it.ref)
		}
		r.report(res)
	}
	if err := planError(failed); err != nil || r.plan.Options.DryRun {
		return err
	}
	return r.awaitDefinitions(ctx, group)
}

// object applies one item and says what became of it; its error is in it.err.
func (r *run) object(ctx context.Context, it *item) ObjectResult {
	res := ObjectResult{Ref: it.ref, Wave: it.settings.wave, Message: it.note}
	if it.hook != nil {
		res.Hook = string(it.phase)
		return r.runHook(ctx, it, res)
	}
	if it.verdict == undecided {
		// What it needs has come in an earlier step.
		if err := r.examineOne(ctx, r.pre, it); err != nil {
			it.err = objectError("apply", it.ref, err)
			return res
		}
		if it.verdict == undecided && r.plan.Options.DryRun {
			res.Action, res.Health = Created, core.Missing
			return res
		}
		if it.verdict == undecided {
			it.err = objectError("apply", it.ref, fmt.Errorf("what it needs did not come into being: %w", it.lacks))
			return res
		}
	}
	switch it.verdict {
	case known:
		res.Action, res.Health, res.Message = Unchanged, it.seen.Health, it.seen.Message
		return res
	case skip, shared:
		res.Action = Skipped
	case unchanged:
		res.Action, res.Live = Unchanged, it.live
	case refresh, create, configure:
		r.store(ctx, it, &res)
	}
	if it.err != nil {
		return res
	}
	if res.Live == nil {
		res.Live = it.live
	}
	if res.Live != nil {
		h, msg := r.health(r.plan.Owner.Dialect, res.Live)
		res.Health = h
		if res.Message == "" {
			res.Message = msg
		}
	}
	return res
}

// store writes an item; in a dry run it only says what would be done.
func (r *run) store(ctx context.Context, it *item, res *ObjectResult) {
	res.Action = map[verdict]Action{refresh: Unchanged, create: Created, configure: Configured}[it.verdict]
	if r.plan.Options.DryRun {
		res.Live = it.merged
		return
	}
	live, err := r.write(ctx, r.plan.Owner.Dialect, it)
	if err != nil {
		it.err = objectError("apply", it.ref, err)
		return
	}
	r.answered(live)
	it.live, res.Live = live, live
}

// settleStep waits for what was applied where something follows that must
// wait.
func (r *run) settleStep(ctx context.Context, s *step, last bool) error {
	if r.plan.Options.DryRun || last {
		return nil
	}
	var list []awaited
	for _, it := range s.items {
		if it.hook == nil && it.live != nil && it.verdict != skip && it.verdict != shared && (s.ready || r.plan.Options.WaitBetweenWaves) {
			list = append(list, awaitedOf(it.live))
		}
	}
	return r.wait(ctx, list)
}

// wait waits for objects to be healthy and notes what they became.
func (r *run) wait(ctx context.Context, list []awaited) error {
	states, err := r.awaitHealthy(ctx, r.plan, list)
	for _, s := range states {
		for i := range r.results {
			if res := &r.results[i]; res.Ref == s.ref && res.Action != Failed && res.Hook == "" {
				res.Health, res.Message = s.health, s.message
			}
		}
	}
	var object *ObjectError
	if errors.As(err, &object) {
		return &PlanError{Objects: []*ObjectError{object}, Applied: true}
	}
	return err
}

// waitAtEnd waits for all that was applied, or for what is named instead.
func (r *run) waitAtEnd(ctx context.Context) error {
	var list []awaited
	if checks := r.plan.Options.HealthChecks; len(checks) > 0 {
		for _, ref := range checks {
			list = append(list, awaited{ref: ref})
		}
		return r.wait(ctx, list)
	}
	for _, res := range r.results {
		switch {
		case res.Hook != "" || res.Action == Skipped || res.Action == Failed || res.Action == Pruned || res.Action == PruneSkipped:
		case r.self(res.Ref):
			// A delivery that applies itself would wait for itself.
		case res.Live != nil:
			list = append(list, awaitedOf(res.Live))
		case res.Health != core.Healthy: // known, and not healthy when last seen
			list = append(list, awaited{ref: res.Ref, labelled: true})
		}
	}
	return r.wait(ctx, list)
}

func (r *run) self(ref core.ObjectRef) bool {
	o := r.plan.Owner
	return ref.Kind == o.Kind && ref.Name == o.Name && ref.Namespace == o.Namespace && ref.Group == string(o.Dialect)
}

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
					res.Health, _ = r.health(r.plan.Owner.Dialect, it.live)
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
