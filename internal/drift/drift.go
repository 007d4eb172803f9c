// Package drift watches what is managed, and only that, and says what
// changed. It keeps a projection of each object (UID, resource version,
// whether the fields that we own are as we applied them, health), never the
// object.
//
// What an object should look like it carries itself (package mark), so the
// watch has no memory that a restart could lose, and an apply of ours is never
// taken for somebody's change.
package drift

import (
	"context"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Watcher watches the managed objects of one cluster. Implementations are
// safe for concurrent use.
type Watcher interface {
	// Run watches until ctx ends.
	Run(ctx context.Context) error
	// Expect declares what owner has in the cluster: an outcome's inventory.
	// From now on it is drift where one of them is gone or is not as it was
	// applied. It replaces what was expected of the owner before and starts
	// what watches are missing; to call it again with the same objects, as
	// after a restart, costs nothing.
	Expect(owner core.Owner, objects []core.ObjectRef)
	// Follow declares objects of which owner waits for the health, or for the
	// end, though they need not be managed: hooks, health checks of others'
	// objects. Each has a watch of its own, and is announced as the owner's own
	// ones are. It replaces what was followed before; none ends it.
	Follow(owner core.Owner, objects []core.ObjectRef)
	// Followed is what is known now of what the owner follows, in the order of
	// Follow: the health, by the owner's dialect, and whether it is there. One
	// that its watch has not shown yet is not in it.
	Followed(owner core.Owner) []ObjectState
	// Recheck asks for the owner's objects again, because the rules of their
	// health have changed.
	Recheck(owner core.Owner)
	// Forget ends what Expect and Follow have begun.
	Forget(owner core.Owner)
	// State is what is known now of the owner's objects, in the order of
	// Expect. An object that no watch has shown yet is not in it.
	State(owner core.Owner) []ObjectState
	// Foreign says that an object of the owner's was written with the evidence
	// of an apply, and nobody here is known to have applied it: whether it is
	// what is wanted has to be looked at. Expect says that it was.
	Foreign(owner core.Owner) bool
	// Known returns a function for deploy.Plan.Known: what is known to be in
	// the cluster just as owner applied it.
	Known(owner core.Owner) func(core.ObjectRef) (mark.Seen, bool)
	// Changes is where the owners are announced of which an object has
	// come into view, drifted, come back, or changed its health. An owner is announced once
	// until it was received, however much happens to it.
	Changes() <-chan core.Owner
}

// ObjectState is the projection of one object.
type ObjectState struct {
	Ref core.ObjectRef
	// Drift is None, or how the object differs from what was applied.
	Drift Drift
	// TakenBy is set where another delivery tracks the object now. That is no
	// drift: to heal it would be to fight, at the speed of events, with
	// whoever took it. What the dialect's rule is, the next full apply knows.
	TakenBy *core.Owner
	Health  core.Health
	// Message is the health's.
	Message string
	// By is the field manager that made the last change that drifted.
	By string
}

// Drift is how an object differs from what was applied.
type Drift string

// The kinds of drift.
const (
	None     Drift = ""
	Modified Drift = "Modified"
	Deleted  Drift = "Deleted"
)
