package controller

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"
)

// reason is a set of what has happened to an object since it was last
// reconciled. A reconcile does what its reasons need, and no more.
type reason uint8

const (
	// sourceMoved: a reference of a repository that it reads has moved.
	sourceMoved reason = 1 << iota
	// drifted: one of its objects has drifted, come back or changed its health.
	drifted
	// specChanged: the object itself, or what it depends on, has changed.
	specChanged
	// timerFired: it asked to be looked at again.
	timerFired
)

func (r reason) has(other reason) bool { return r&other != 0 }

// waker hands out the wake-ups of one kind. It puts straight into the
// controller's work queue, with no rate limit and no channel between.
type waker struct {
	mu       sync.Mutex
	queue    workqueue.TypedRateLimitingInterface[reconcile.Request]
	pending  map[types.NamespacedName]reason
	settling map[types.NamespacedName]struct{}
	// shown are told of each object of the kind as the cache shows it.
	shown []func(client.Object)
}

func newWaker() *waker { return &waker{pending: map[types.NamespacedName]reason{}} }

// source is what the controller watches. What was woken before it was started
// is queued at once.
func (w *waker) source() ctrlsource.Source {
	return ctrlsource.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.queue = q
		for key, r := range w.pending {
			w.add(key, r)
		}
		return nil
	})
}

// wake queues the object for r.
func (w *waker) wake(key types.NamespacedName, r reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[key] |= r
	if w.queue != nil {
		w.add(key, r)
	}
}

// add queues the object. What only has drifted waits for what somebody asks
// for: when a thousand objects drift at once, a commit is not the last.
func (w *waker) add(key types.NamespacedName, r reason) {
	req := reconcile.Request{NamespacedName: key}
	queue, ok := w.queue.(priorityqueue.PriorityQueue[reconcile.Request])
	if !ok {
		w.queue.Add(req)
		return
	}
	priority := whenever
	if r != drifted {
		priority = soon
	}
	queue.AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, req)
}

// take returns what has happened to the object, and forgets it. Nothing
// noted means that the queue itself asked: a timer or a retry.
func (w *waker) take(key types.NamespacedName) reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.pending[key]
	delete(w.pending, key)
	if !ok {
		return timerFired
	}
	return r
}

// put gives back what take has returned, for the next reconcile, which it does
// not ask for.
func (w *waker) put(key types.NamespacedName, r reason) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending[key] |= r
}

// settle has the object looked at as after a restart, the next time.
func (w *waker) settle(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.settling == nil {
		w.settling = map[types.NamespacedName]struct{}{}
	}
	w.settling[key] = struct{}{}
}

// settles says whether that is to be done, and forgets it.
func (w *waker) settles(key types.NamespacedName) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, there := w.settling[key]
	delete(w.settling, key)
	return there
}

// peek returns what has happened since the last take.
func (w *waker) peek(key types.NamespacedName) reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pending[key]
}
