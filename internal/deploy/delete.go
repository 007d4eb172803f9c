package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// Delete implements Deployer. What has become somebody else's, and what its
// annotations keep, stays; waves and kinds go in the reverse of the order in
// which they came. An object that could not be deleted does not hold the
// others of its wave, but the waves that come after.
func (c *Cluster) Delete(ctx context.Context, d Deletion) (*Outcome, error) {
	start := time.Now()
	plan := Plan{
		Owner: d.Owner, Inventory: d.Inventory,
		Options: Options{
			As: d.Options.As, Prune: true, Namespace: d.Options.Namespace, PropagationPolicy: d.Propagation,
			KeepOnDelete: d.Options.KeepOnDelete, ConfirmDelete: d.Options.ConfirmDelete, Confirmed: d.Options.Confirmed,
		},
		Hooks: d.Log,
	}
	r := &run{Cluster: c, plan: plan, start: start, inventory: map[core.ObjectRef]core.ObjectRef{}}
	for _, ref := range d.Inventory {
		r.keep(ref)
	}
	actor, err := c.as(d.Options.As)
	if err == nil {
		r.Cluster = actor
		err = r.delete(ctx, d)
	}
	out := r.outcome()
	out.Health = core.Missing
	return out, err
}

func (r *run) delete(ctx context.Context, d Deletion) error {
	before, after, leftovers, err := r.deletionHooks(d)
	if err != nil {
		return r.refuse(err)
	}
	r.pre = &prepared{plan: r.plan, all: map[core.ObjectRef]bool{}}
	list := r.extras(ctx, r.pre)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	for _, x := range list {
		// What a prune does not delete is deleted with its delivery, and the
		// other way round.
		if x.keep != "" && (x.settings.keep || x.settings.confirmPrune) && r.plan.Owner.Dialect == core.ArgoCD {
			x.keep, x.unconfirmed = "", false
		}
		switch {
		case x.live != nil && d.Apart != nil && d.Apart(x.live):
			x.keep, x.unconfirmed, x.forget = "goes by itself", false, true
		case x.settings.keepOnDelete:
			x.keep, x.forget = "kept (Delete=false)", true
		case x.settings.confirmDelete && !d.Options.Confirmed:
			r.unconfirmed = append(r.unconfirmed, x.ref)
		}
	}
	if len(r.unconfirmed) > 0 {
		return &UnconfirmedError{What: "deletion", Objects: r.unconfirmed}
	}
	if err := r.hooks(ctx, before); err != nil {
		return err
	}
	if err := r.waves(ctx, d, list); err != nil {
		return err
	}
	if err := r.hooks(ctx, after); err != nil {
		return err
	}
	// Last, because until then they are what tells that they have run.
	for _, it := range leftovers {
		if err := r.removeLeftover(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// waves deletes the last wave first, and in it the last kind.
func (r *run) waves(ctx context.Context, d Deletion, list []*extra) error {
	order := byKind(d.Owner.Dialect)
	slices.SortStableFunc(list, func(a, b *extra) int {
		if a.settings.wave != b.settings.wave {
			return b.settings.wave - a.settings.wave
		}
		return order(b.ref, a.ref)
	})
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].settings.wave == list[0].settings.wave {
			n++
		}
		wave := list[:n]
		list = list[n:]
		if err := r.kinds(ctx, wave); err != nil {
			return err
		}
		if err := r.gone(d, wave); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) kinds(ctx context.Context, wave []*extra) error {
	var failed []error
	for len(wave) > 0 {
		n := 1
		for n < len(wave) && wave[n].ref.Kind == wave[0].ref.Kind {
			n++
		}
		if err := r.prunes(ctx, &step{prunes: wave[:n]}); err != nil {
			failed = append(failed, err)
		}
		wave = wave[n:]
	}
	return errors.Join(failed...)
}

// gone waits for what was deleted to be gone: for all of a wave that was there
// when it was looked at. That it is gone is an event.
func (r *run) gone(d Deletion, wave []*extra) error {
	if !d.Wait {
		return nil
	}
	var waits []Awaited
	for _, x := range wave {
		if x.live == nil || x.keep != "" || x.err != nil {
			continue
		}
		r.keep(x.ref) // it is still ours to see gone
		waits = append(waits, Awaited{Ref: x.ref, Until: UntilGone, Health: core.Progressing, Message: fmt.Sprint("finalizers: ", x.live.GetFinalizers())})
	}
	if len(waits) > 0 {
		return &WaitingError{Objects: waits}
	}
	return nil
}

// deletionHooks returns the hooks to run before and after, and those of syncs,
// whose objects may be left.
func (r *run) deletionHooks(d Deletion) (before, after, leftovers []*item, err error) {
	pre := &prepared{plan: r.plan}
	for _, source := range d.Hooks {
		obj := source.DeepCopy()
		h, err := hookOf(d.Owner, obj)
		if err != nil || h == nil || h.skip || obj.GetName() == "" {
			continue // it was refused when it was applied
		}
		r.settle(pre, obj)
		it := &item{obj: obj, ref: refOf(obj), hook: h}
		if it.settings, err = settingsOf(d.Owner, obj, Options{}); err != nil {
			return nil, nil, nil, &PlanError{Objects: []*ObjectError{{Ref: it.ref, Op: "run hook", Reason: Unsupported, Err: err}}}
		}
		r.trackHook(it, d.Owner, d.Options.Namespace)
		if !slices.Contains(h.phases, phasePostDelete) {
			// What ran last stays to be looked at, unless its policy says otherwise.
			leftovers = append(leftovers, it)
		}
		for _, p := range h.phases {
			one := *it
			one.phase = p
			switch p {
			case phasePreDelete:
				before = append(before, &one)
			case phasePostDelete:
				after = append(after, &one)
			}
		}
	}
	byWave := func(a, b *item) int { return a.settings.wave - b.settings.wave }
	slices.SortStableFunc(before, byWave)
	slices.SortStableFunc(after, byWave)
	return before, after, leftovers, nil
}

// hooks runs hooks one after the other; one that fails or waits ends it.
func (r *run) hooks(ctx context.Context, items []*item) error {
	for _, it := range items {
		res := r.runHook(ctx, it, ObjectResult{Ref: it.ref, Hook: string(it.phase), Wave: it.settings.wave})
		if it.err != nil {
			res.Action, res.Err, res.Message = Failed, it.err, it.err.Error()
			r.report(res)
			return planError([]*ObjectError{it.err})
		}
		r.report(res)
		if it.waits != nil {
			return &WaitingError{Objects: []Awaited{*it.waits}}
		}
	}
	return nil
}

// removeLeftover deletes what a hook left, if it is the owner's.
func (r *run) removeLeftover(ctx context.Context, it *item) error {
	live, err := r.get(ctx, it.ref)
	if err != nil || live == nil || !r.tracking.Tracks(r.plan.Owner, live) {
		return nil // it goes with its namespace or stays: no reason to hold the deletion
	}
	if err := r.remove(ctx, live, propagation(r.plan.Owner.Dialect, r.plan.Options.PropagationPolicy)); err != nil {
		return planError([]*ObjectError{objectError("delete", it.ref, err)})
	}
	return nil
}
