package deploy

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Until is for what an object is waited for.
type Until string

const (
	// UntilHealthy: an object of the plan, which what comes after it needs.
	UntilHealthy Until = "healthy state of"
	// UntilGone: a managed object that was deleted, in a deletion.
	UntilGone Until = "deletion of"
	// UntilDone: a hook. It is not managed, so that no watch of managed objects
	// shows it.
	UntilDone Until = "completion of hook"
	// UntilCleared: an object that makes room for another one of its name.
	UntilCleared Until = "deletion of the former"
)

// Awaited is an object that is waited for.
type Awaited struct {
	Ref   core.ObjectRef
	Until Until
	// Health and Message are what is known of it now.
	Health  core.Health
	Message string
}

func (a Awaited) String() string { return fmt.Sprintf("%s %s", a.Until, a.Ref) }

// WaitingError says that an apply or a deletion has come as far as it can for
// now. Nothing holds it: to go on, call again with the outcome's inventory,
// the same HookLog, and Resumed set, when what it waits for has come.
type WaitingError struct {
	Objects []Awaited
	// Failure, if set, is why the apply has failed already: it is its SyncFail
	// hooks that are waited for. It goes into HookLog.Failure.
	Failure error
}

// Error has Argo CD's words.
func (e *WaitingError) Error() string {
	msg := "waiting for " + e.Objects[0].String()
	if n := len(e.Objects) - 1; n > 0 {
		msg += fmt.Sprintf(" and %d more", n)
	}
	return msg
}

// await notes that the item is waited for.
func (it *item) await(until Until, h core.Health, message string) {
	it.waits = &Awaited{Ref: it.ref, Until: until, Health: h, Message: message}
}

// mayRest says that nobody waits for the objects of the step to be healthy:
// nothing comes after it. Argo CD waits for the last of several steps too.
func (r *run) mayRest(i int) bool {
	if r.plan.Owner.Dialect == core.ArgoCD {
		return len(r.steps) == 1
	}
	return i == len(r.steps)-1
}

// settled is an error while what a step has applied holds what comes after it:
// a *WaitingError, or the failure of what will not get there. A failure is told
// when the hooks of the step are done.
func (r *run) settled(s *step, rests bool) error {
	if r.plan.Options.DryRun {
		return nil
	}
	var hooks, objects []Awaited
	var failed []*ObjectError
	for _, it := range s.items {
		switch {
		case it.waits != nil:
			hooks = append(hooks, *it.waits)
		case it.hook != nil && it.err != nil:
			failed = append(failed, it.err)
		case rests || it.hook != nil || it.verdict == skip || it.verdict == shared || !s.ready && !r.plan.Options.WaitBetweenWaves:
		case it.health == core.Suspended && s == r.steps[len(r.steps)-1]: // nothing comes of it by itself, nor after it
		case it.health == core.Degraded:
			failed = append(failed, unhealthy("wait for", it))
		case it.health != core.Healthy:
			objects = append(objects, Awaited{Ref: it.ref, Until: UntilHealthy, Health: it.health, Message: it.message})
		}
	}
	switch {
	case len(failed) > 0 && len(hooks) == 0:
		return planError(failed)
	case len(failed) > 0:
		return &WaitingError{Objects: hooks}
	case len(hooks)+len(objects) > 0:
		return &WaitingError{Objects: append(hooks, objects...)}
	}
	return nil
}

// unhealthy is the error of what was applied and has failed then.
func unhealthy(op string, it *item) *ObjectError {
	msg := it.message
	if msg == "" {
		msg = "it is Degraded"
	}
	return &ObjectError{Ref: it.ref, Op: op, Reason: Unhealthy, Err: errors.New(msg)}
}

// vanishes says that the object deletes itself when it is done, so that its
// absence is no failure.
func vanishes(obj *unstructured.Unstructured) bool {
	_, ttl, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", "ttlSecondsAfterFinished")
	return ttl && obj.GetKind() == "Job"
}

// After adds to the outcome of a resumed apply what the operation had come to
// before, so that it tells of the whole of it. Live objects of then are not
// kept.
func (o *Outcome) After(before []ObjectResult) {
	type id struct {
		ref  core.ObjectRef
		hook string
	}
	idOf := func(r ObjectResult) id { return id{r.Ref.Key(), r.Hook} }
	now := make(map[id]ObjectResult, len(o.Results))
	for _, r := range o.Results {
		now[idOf(r)] = r
	}
	var all []ObjectResult
	seen := map[id]bool{}
	for _, old := range before {
		old.Live = nil
		r, again := now[idOf(old)]
		switch {
		case !again, r.Action == Unchanged && r.Hook != "":
			r = old
		case r.Action == Unchanged && (old.Action == Created || old.Action == Configured):
			r.Action = old.Action
		}
		all = append(all, r)
		seen[idOf(old)] = true
	}
	for _, r := range o.Results {
		if !seen[idOf(r)] {
			all = append(all, r)
		}
	}
	o.Results = all
}
