package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Apply implements Deployer. The whole plan is validated by the API server
// first; where an object is refused, nothing is applied and the error is a
// *PlanError. An error of a later step is a *PlanError too, whose Applied is
// true; what was not reached by then is Skipped. An apply that waits is not at
// its end: of what it has not come to it says nothing.
func (c *Cluster) Apply(ctx context.Context, p Plan) (*Outcome, error) {
	r := &run{Cluster: c, plan: p, start: time.Now(), inventory: map[core.ObjectRef]core.ObjectRef{}}
	for _, ref := range p.Inventory {
		r.keep(ref)
	}
	actor, err := c.as(p.Options.As)
	if err == nil {
		r.Cluster = actor
		err = actor.mayRead(ctx, p)
	}
	if err == nil {
		err = r.apply(ctx)
	}
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
	if !r.plan.Resumed {
		r.examine(ctx, pre, pre.items)
	}
	extras := r.extras(ctx, pre)
	if err := r.validated(ctx, pre.items, extras); err != nil {
		return err
	}
	if r.superseded() {
		return ErrSuperseded
	}
	if !r.plan.Resumed {
		if err := r.createNamespace(ctx, pre); err != nil {
			return r.refuse(&PlanError{Objects: []*ObjectError{objectError("create", core.ObjectRef{}, err)}})
		}
		if err := r.examineInNamespace(ctx, extras); err != nil {
			return err
		}
	}
	return r.perform(ctx, extras)
}

// perform goes through the steps of a plan that is sound, or, where that has
// failed, through the hooks for that.
func (r *run) perform(ctx context.Context, extras []*extra) error {
	pre := r.pre
	var failures []*item
	pre.items = slices.DeleteFunc(pre.items, func(it *item) bool {
		if it.phase == phaseSyncFail {
			failures = append(failures, it)
			return true
		}
		return false
	})
	err := r.plan.Hooks.failure()
	if err == nil {
		r.steps, r.touched = steps(pre, extras), r.plan.Resumed
		err = r.all(ctx)
		r.count(err)
	}
	var waiting *WaitingError
	if errors.As(err, &waiting) {
		return err
	}
	var unconfirmed *UnconfirmedError
	if err != nil && (r.touched || r.plan.Hooks.failure() != nil) && !errors.Is(err, ErrSuperseded) && !errors.As(err, &unconfirmed) && ctx.Err() == nil {
		if waits := r.failHooks(ctx, failures); len(waits) > 0 {
			return &WaitingError{Objects: waits, Failure: err}
		}
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
	return r.validated(ctx, r.pre.items, extras)
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
func (r *run) validated(ctx context.Context, items []*item, extras []*extra) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	var failed []*ObjectError
	for _, it := range items {
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
		return r.refuse(&PlanError{Objects: failed, Applied: r.touched})
	}
	return nil
}

// look examines the objects of a step of a resumed plan.
func (r *run) look(ctx context.Context, s *step) error {
	if !r.plan.Resumed {
		return nil
	}
	var items []*item
	for _, it := range s.items {
		if it.hook == nil {
			items = append(items, it)
		}
	}
	r.examine(ctx, r.pre, items)
	for _, it := range items {
		r.done[it] = it.err != nil // it is reported as failed
	}
	return r.validated(ctx, items, nil)
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
		if err := r.look(ctx, s); err != nil {
			return err
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
		if err := r.settled(s, r.mayRest(i)); err != nil {
			return err
		}
	}
	if len(r.unconfirmed) > 0 {
		return &UnconfirmedError{What: "pruning", Objects: r.unconfirmed}
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
	defined := r.awaitDefinitions(ctx, group, results)
	var failed []*ObjectError
	var waits []Awaited
	for i, res := range results {
		it := group[i]
		r.done[it] = true
		if it.waits != nil && it.hook == nil {
			waits = append(waits, *it.waits)
		}
		switch {
		case it.err != nil:
			if it.hook == nil { // a hook's failure is told when all of its step are done
				failed = append(failed, it.err)
			}
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
	if len(waits) > 0 {
		return &WaitingError{Objects: waits}
	}
	return defined
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
		it.health, it.message = res.Health, res.Message
		return res
	case skip, shared:
		res.Action = Skipped
	case unchanged:
		res.Action, res.Live = Unchanged, it.live
	case refresh, create, configure:
		r.store(ctx, it, &res)
		if late(it) {
			return r.again(ctx, it)
		}
	}
	if it.err != nil || it.waits != nil {
		return res
	}
	if res.Live == nil {
		res.Live = it.live
	}
	if res.Live != nil {
		it.health, it.message = r.health(r.plan.Owner, res.Live)
		res.Health = it.health
		if res.Message == "" {
			res.Message = it.message
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
	before := it.live
	live, err := r.write(ctx, r.plan.Owner.Dialect, it)
	if err != nil {
		it.err = objectError("apply", it.ref, err)
		return
	}
	if it.waits != nil {
		res.Action, res.Health, res.Message = Skipped, core.Missing, "deleted, to be made anew when it is gone"
		return
	}
	r.answered(live)
	it.live, res.Live = live, live
	if before != nil {
		if applied, ok := mark.ReadApplied(before); ok && applied.Digest == it.digest {
			res.Undone = mark.Undone(mark.FieldManager, before, live)
		}
	}
}
