package fleet

import (
	"errors"
	"net"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/mark"
)

// watcher is that of the owner's cluster, or nil where there is none now.
func (f *Fleet) watcher(owner core.Owner) drift.Watcher {
	parts, err := f.Parts(owner)
	if err != nil {
		return nil
	}
	return parts.Watcher
}

// Expect implements drift.Watcher. While the cluster is away nothing is
// expected; who is bound hears when it is back.
func (f *Fleet) Expect(owner core.Owner, objects []core.ObjectRef) {
	if w := f.watcher(owner); w != nil {
		w.Expect(owner, objects)
	}
}

// Follow implements drift.Watcher.
func (f *Fleet) Follow(owner core.Owner, objects []core.ObjectRef) {
	if w := f.watcher(owner); w != nil {
		w.Follow(owner, objects)
	}
}

// Followed implements drift.Watcher.
func (f *Fleet) Followed(owner core.Owner) []drift.ObjectState {
	if w := f.watcher(owner); w != nil {
		return w.Followed(owner)
	}
	return nil
}

// Recheck implements drift.Watcher.
func (f *Fleet) Recheck(owner core.Owner) {
	if w := f.watcher(owner); w != nil {
		w.Recheck(owner)
	}
}

// RecheckAll is Recheck of all owners in all clusters.
func (f *Fleet) RecheckAll() {
	type all interface{ RecheckAll() }
	list := []drift.Watcher{f.home.Watcher}
	f.mu.Lock()
	for _, m := range f.members {
		if s := m.current(); s != nil {
			list = append(list, s.Watcher)
		}
	}
	f.mu.Unlock()
	for _, w := range list {
		if w, ok := w.(all); ok {
			w.RecheckAll()
		}
	}
}

// Forget implements drift.Watcher. The owner stays bound.
func (f *Fleet) Forget(owner core.Owner) {
	if w := f.watcher(owner); w != nil {
		w.Forget(owner)
	}
}

// State implements drift.Watcher.
func (f *Fleet) State(owner core.Owner) []drift.ObjectState {
	if w := f.watcher(owner); w != nil {
		return w.State(owner)
	}
	return nil
}

// Foreign implements drift.Watcher.
func (f *Fleet) Foreign(owner core.Owner) bool {
	w := f.watcher(owner)
	return w != nil && w.Foreign(owner)
}

// Known implements drift.Watcher.
func (f *Fleet) Known(owner core.Owner) func(core.ObjectRef) (mark.Seen, bool) {
	if w := f.watcher(owner); w != nil {
		return w.Known(owner)
	}
	return func(core.ObjectRef) (mark.Seen, bool) { return mark.Seen{}, false }
}

// Changes implements drift.Watcher.
func (f *Fleet) Changes() <-chan core.Owner { return f.changes }

// noAnswer says that the error is of a connection, and not of an API server.
func noAnswer(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return false
	}
	var network net.Error
	return errors.As(err, &network) || errors.As(err, new(*url.Error))
}
