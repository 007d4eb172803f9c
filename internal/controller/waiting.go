package controller

import (
	"slices"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
)

// waiting is where a delivery stands that waits for objects: in the middle of
// a sync, or of its deletion. It holds no worker: the watch wakes the delivery
// when something has come of it. Whoever has lost this finds it again in the
// status and in the cluster, for some reads more.
type waiting struct {
	// target is what is being applied.
	target  *target
	objects []deploy.Awaited
	// results and inventory are what has come of it so far.
	results   []deploy.ObjectResult
	inventory []core.ObjectRef
	// failure is set while what waits are the hooks for that.
	failure error
	// unconfirmed says that somebody has to confirm the end of the objects.
	unconfirmed bool
	// since is when the waiting began, looked when the cluster was last asked.
	since, looked time.Time
	// first is how long the apply took after which it began, applying all of
	// them so far.
	first, applying time.Duration
	// log is that of a deletion's hooks.
	log *deploy.HookLog
}

// lookAgain is how long a wait trusts the watch alone.
const lookAgain = time.Minute

// await has the watch wake the owner when something has come of what it waits
// for, and returns whether something has already.
func (e *Engine) await(owner core.Owner, w *waiting) bool {
	var others []core.ObjectRef
	for _, o := range w.objects {
		if o.Until == deploy.UntilDone || o.Until == deploy.UntilCleared {
			others = append(others, o.Ref)
		}
	}
	e.stages.Watcher.Follow(owner, others)
	return e.come(owner, w)
}

// come says whether the waiting is over for some of the objects, as the watch
// has it: whether to go on would come further than to wait.
func (e *Engine) come(owner core.Owner, w *waiting) bool {
	managed, others := statesOf(e.stages.Watcher.State(owner)), statesOf(e.stages.Watcher.Followed(owner))
	open := map[deploy.Until]int{}
	for _, o := range w.objects {
		open[o.Until] += 0
		switch o.Until {
		case deploy.UntilHealthy:
			switch s := managed[o.Ref.Key()]; {
			case s == nil || s.Health != core.Healthy && s.Health != core.Degraded:
				open[o.Until]++
			case s.Health == core.Degraded:
				return true
			}
		case deploy.UntilGone:
			if s := managed[o.Ref.Key()]; s == nil || s.Drift != drift.Deleted {
				open[o.Until]++
			}
		case deploy.UntilDone:
			if s := others[o.Ref.Key()]; s != nil && (s.Drift == drift.Deleted || s.Health == core.Healthy || s.Health == core.Degraded) {
				return true
			}
			open[o.Until]++
		case deploy.UntilCleared:
			if s := others[o.Ref.Key()]; s != nil && s.Drift == drift.Deleted {
				return true
			}
			open[o.Until]++
		}
	}
	for _, n := range open {
		if n == 0 {
			return true
		}
	}
	return false
}

func statesOf(list []drift.ObjectState) map[core.ObjectRef]*drift.ObjectState {
	by := make(map[core.ObjectRef]*drift.ObjectState, len(list))
	for i := range list {
		by[list[i].Ref.Key()] = &list[i]
	}
	return by
}

// sooner is how long to wait where the watch says that something has come
// already: not at all, but for one that says so of the same objects again.
// It lags, or sees them by another dialect's rules.
func (w *waiting) sooner(before *waiting) time.Duration {
	same := func(a, b deploy.Awaited) bool { return a.Ref == b.Ref && a.Until == b.Until }
	if before != nil && slices.EqualFunc(w.objects, before.objects, same) {
		return time.Second
	}
	return time.Millisecond
}
