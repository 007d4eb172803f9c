package deploy

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// decidedOn is the resource version that a fenced write is bound to. An apply
// to an object of another version is refused with a conflict, and no object
// has the version 1: what is not there is only made where it is still not.
func decidedOn(live *unstructured.Unstructured) string {
	if live == nil {
		return "1"
	}
	return live.GetResourceVersion()
}

// mostConflicts is how often an item is looked at again because somebody has
// written it meanwhile: a status, most of the time.
const mostConflicts = 5

// late says that a write of the item that was bound to its version, as one that
// is fenced and one that takes fields over are, was refused, because somebody
// has written the object since it was looked at; and that it is to be looked at
// again.
func late(it *item) bool {
	if it.err == nil || !apierrors.IsConflict(it.err) {
		return false
	}
	it.conflicts++
	return it.conflicts <= mostConflicts
}

// again looks at an item once more and does what follows from that.
func (r *run) again(ctx context.Context, it *item) ObjectResult {
	it.err, it.live, it.merged, it.verdict, it.remake = nil, nil, nil, undecided, false
	if err := r.examineOne(ctx, r.pre, it); err != nil {
		it.err = objectError("apply", it.ref, err)
		return ObjectResult{Ref: it.ref, Wave: it.settings.wave, Message: it.note}
	}
	return r.object(ctx, it)
}
