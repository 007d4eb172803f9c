// Package drift watches what is managed, and only that, and says what
// changed. It keeps a projection of each object (UID, resource version, a
// hash of the fields that we own, health), never the object.
package drift

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Watcher watches the managed objects of one cluster. Implementations are
// safe for concurrent use.
type Watcher interface {
	// Run watches until ctx ends.
	Run(ctx context.Context) error
	// Expect declares what owner has applied: from now on a difference from
	// these objects, as they were answered by the API server, is drift. It
	// replaces what was expected of the owner before and starts what watches
	// are missing.
	Expect(owner core.Owner, applied []*unstructured.Unstructured)
	// Forget ends it.
	Forget(owner core.Owner)
	// State is what is known now of the owner's objects.
	State(owner core.Owner) []ObjectState
	// Changes is where the owners are announced of which an object has
	// drifted, come back, or changed its health. An owner is announced once
	// until it was received, however much happens to it.
	Changes() <-chan core.Owner
}

// ObjectState is the projection of one object.
type ObjectState struct {
	Ref core.ObjectRef
	// Drift is "", or how the object differs from what was applied.
	Drift  Drift
	Health core.Health
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
