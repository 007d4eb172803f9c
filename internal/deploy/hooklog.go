package deploy

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
)

// annotationOperation is on the object of a hook, and says which operation has
// made it.
const annotationOperation = core.Group + "/operation"

// HookLog has each hook of an operation run once, though the operation waits
// for it between two applies, and may be begun in one process and ended in
// another. A hook that is running is known by its object, which carries the
// operation; one that is done by the log, because its object may be gone. A
// nil log knows nothing: what has hooks that take time needs one.
type HookLog struct {
	// Operation identifies the operation, each attempt anew. It is the value of
	// an annotation.
	Operation string
	// As is whom Stop acts as: Options.As of the operation.
	As string
	// Started is when it began, for the names of generated hooks.
	Started time.Time
	// Done are the hooks that have run; the error is nil for those that have
	// succeeded.
	Done map[HookRun]error
	// Begun are those that were seen to run: one that is not there any more was
	// deleted by somebody.
	Begun map[HookRun]bool
	// Told are the objects of hooks that have failed, and whose failure an
	// earlier attempt of a deletion has told of: these hooks are run again.
	Told map[types.UID]bool
	// Failure is why the operation has failed already. Only its SyncFail hooks
	// are left to be run.
	Failure error
	// Note, if set, keeps that a hook has run, before its object may be deleted;
	// failure is nil where it has succeeded. It is called from Apply's
	// goroutines, several at a time.
	Note func(ctx context.Context, run HookRun, failure error) error
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

// ran says whether the hook has run, and with which error.
func (l *HookLog) ran(it *item) (bool, error) {
	if l == nil {
		return false, nil
	}
	err, ok := l.Done[it.run()]
	return ok, err
}

func (l *HookLog) begun(it *item) bool { return l != nil && l.Begun[it.run()] }

func (l *HookLog) told(obj *unstructured.Unstructured) bool {
	return l != nil && l.Told[obj.GetUID()]
}

func (l *HookLog) failure() error {
	if l == nil {
		return nil
	}
	return l.Failure
}

func (l *HookLog) note(ctx context.Context, it *item, failure error) error {
	if l == nil || l.Note == nil {
		return nil
	}
	return l.Note(ctx, it.run(), failure)
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
