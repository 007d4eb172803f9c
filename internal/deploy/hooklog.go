package deploy

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// annotationOperation is on the object of a hook, and says which operation has
// made it.
const annotationOperation = core.Group + "/operation"

// HookLog has each hook of an operation run once, though the operation is
// begun in one process and ended in another. A hook that is running is known
// by its object, which carries the operation; one that is done by the log,
// because its object may be gone. A nil log knows nothing.
type HookLog struct {
	// Operation identifies the operation, each attempt anew. It is the value of
	// an annotation.
	Operation string
	// Started is when it began, for the names of generated hooks.
	Started time.Time
	// Done are the hooks that have run.
	Done map[HookRun]bool
	// Note, if set, keeps that a hook has run, before its object may be deleted.
	// It is called from Apply's goroutines, several at a time.
	Note func(context.Context, HookRun) error
}

// HookRun is one hook in one phase.
type HookRun struct {
	Ref   core.ObjectRef // a key: without version
	Phase string
}

func (l *HookLog) started() time.Time {
	if l == nil || l.Started.IsZero() {
		return time.Now()
	}
	return l.Started
}

func (l *HookLog) ran(it *item) bool { return l != nil && l.Done[it.run()] }

func (l *HookLog) note(ctx context.Context, it *item) error {
	if l == nil || l.Note == nil {
		return nil
	}
	return l.Note(ctx, it.run())
}

func (l *HookLog) sign(obj *unstructured.Unstructured) {
	if l == nil || l.Operation == "" {
		return
	}
	a := obj.GetAnnotations()
	if a == nil {
		a = map[string]string{}
	}
	a[annotationOperation] = l.Operation
	obj.SetAnnotations(a)
}

func (l *HookLog) signed(obj *unstructured.Unstructured) bool {
	return l != nil && l.Operation != "" && obj.GetAnnotations()[annotationOperation] == l.Operation
}

func (it *item) run() HookRun { return HookRun{Ref: it.ref.Key(), Phase: string(it.phase)} }
