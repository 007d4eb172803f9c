package drift

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// confirmers is how many objects of a kind are asked for at a time.
const confirmers = 4

// retryPause is the time to the next try where the API server did not answer,
// or does not know the kind.
const retryPause = 2 * time.Second

// kind is the watch of one kind, and what it has shown. All but its loops is
// guarded by the Cluster's mutex.
type kind struct {
	cluster *Cluster
	ref     core.ObjectRef // the kind's group, version and kind
	objects map[kube.Key]*projection
	// synced: the watch has shown all that there is.
	synced  bool
	started bool
	// doubts are the objects that are to be asked for, asked those of which an
	// answer is awaited, by the number of the last question: no answer but to
	// that one counts, and none once the watch has shown something newer, or
	// there is another doubt.
	doubts  map[kube.Key]bool
	asked   map[kube.Key]uint64
	asks    uint64
	doubted chan struct{}
}

var _ kube.Sink[*projection] = (*kind)(nil)

func newKind(c *Cluster, ref core.ObjectRef) *kind {
	return &kind{
		cluster: c, ref: core.ObjectRef{Group: ref.Group, Version: ref.Version, Kind: ref.Kind},
		objects: map[kube.Key]*projection{}, doubts: map[kube.Key]bool{}, asked: map[kube.Key]uint64{}, doubted: make(chan struct{}, 1),
	}
}

// unstarted returns the kinds that nobody watches yet, and counts them as
// watched.
func (c *Cluster) unstarted() []*kind {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*kind
	for _, k := range c.kinds {
		if !k.started {
			k.started = true
			list = append(list, k)
		}
	}
	return list
}

// run watches a kind until ctx ends.
func (c *Cluster) run(ctx context.Context, k *kind) {
	m := c.mapping(ctx, k.ref)
	if m == nil {
		return
	}
	var loops sync.WaitGroup
	for range confirmers {
		loops.Go(func() { k.confirms(ctx, m) })
	}
	kube.Follow(ctx, c.client, kube.Scope{Mapping: m, Labels: mark.Selector}, k)
	loops.Wait()
}

// mapping waits for the kind to be there.
func (c *Cluster) mapping(ctx context.Context, ref core.ObjectRef) *meta.RESTMapping {
	for told := false; ; told = true {
		m, err := c.client.Mapping(ref.GroupVersionKind())
		if err == nil {
			return m
		}
		if !told {
			slog.WarnContext(ctx, "a kind cannot be watched yet", "group", ref.Group, "kind", ref.Kind, "error", err)
		}
		if !pause(ctx, retryPause) {
			return nil
		}
	}
}

// Project implements kube.Sink.
func (k *kind) Project(obj *unstructured.Unstructured) *projection { return k.cluster.project(obj) }

// Set implements kube.Sink.
func (k *kind) Set(key kube.Key, p *projection) {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	k.noteForeign(key, k.objects[key], p)
	k.set(key, p)
}

// Delete implements kube.Sink. That an object does not match the selector any
// more looks the same as its end, so it is asked for.
func (k *kind) Delete(key kube.Key) {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	if len(k.cluster.watchers[k.key(key)]) == 0 {
		delete(k.objects, key)
		return
	}
	k.confirm(key)
}

// Replace implements kube.Sink.
func (k *kind) Replace(all map[kube.Key]*projection) {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	k.synced = true
	for key, p := range all {
		k.noteForeign(key, k.objects[key], p)
		k.set(key, p)
	}
	for key := range k.objects {
		if all[key] != nil {
			continue
		}
		if len(k.cluster.watchers[k.key(key)]) == 0 {
			delete(k.objects, key)
			continue
		}
		k.confirm(key)
	}
	for ref := range k.cluster.watchers {
		key := kube.Key{Namespace: ref.Namespace, Name: ref.Name}
		if ref.Group == k.ref.Group && ref.Kind == k.ref.Kind && all[key] == nil {
			k.confirm(key)
		}
	}
}

// answered takes what a write was answered. That may come here late: after the
// watch has shown what it has written, and even the object's end after that,
// which it must not call into question.
func (k *kind) answered(key kube.Key, p *projection) {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	switch old := k.objects[key]; {
	case old == nil || p.version > old.version:
		k.set(key, p)
	case p.digest == old.digest:
		old.foreign = false
	}
}

// set takes a newer projection, and announces those to whom it is news.
func (k *kind) set(key kube.Key, p *projection) {
	old := k.objects[key]
	if old != nil && p.version < old.version && old.drift != Deleted {
		return
	}
	k.objects[key] = p
	delete(k.doubts, key)
	delete(k.asked, key)
	if old != nil && old.drift == p.drift && old.by == p.by && old.health == p.health &&
		old.message == p.message && slices.Equal(old.owners, p.owners) {
		return
	}
	for _, owner := range k.cluster.watchers[k.key(key)] {
		k.cluster.queue.add(owner)
	}
}

func (k *kind) key(key kube.Key) core.ObjectRef {
	return core.ObjectRef{Group: k.ref.Group, Kind: k.ref.Kind, Namespace: key.Namespace, Name: key.Name}
}

// unseen says whether a synced watch does not show the object.
func (k *kind) unseen(ref core.ObjectRef) bool {
	p := k.objects[kube.Key{Namespace: ref.Namespace, Name: ref.Name}]
	return k.synced && (p == nil || p.drift == Deleted)
}

// dropAbsent forgets that an object is gone, when nobody expects it any more.
func (k *kind) dropAbsent(key kube.Key) {
	if p := k.objects[key]; p != nil && p.drift == Deleted {
		delete(k.objects, key)
	}
}

func (k *kind) confirm(key kube.Key) {
	k.doubts[key] = true
	wake(k.doubted)
}

// confirms asks for the objects in doubt.
func (k *kind) confirms(ctx context.Context, m *meta.RESTMapping) {
	for {
		key, ask, ok := k.takeDoubt()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-k.doubted:
			}
			continue
		}
		wake(k.doubted) // for the other confirmers
		obj, err := k.cluster.client.In(m, key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
		switch {
		case err == nil:
			k.there(key, ask, k.cluster.project(obj))
		case apierrors.IsNotFound(err):
			k.gone(key, ask)
		case ctx.Err() != nil:
			return
		default:
			slog.WarnContext(ctx, "an object that left the watch cannot be asked for", "object", k.key(key).String(), "error", err)
			if !pause(ctx, retryPause) {
				return
			}
			k.cluster.mu.Lock()
			k.confirm(key)
			k.cluster.mu.Unlock()
		}
	}
}

func (k *kind) takeDoubt() (_ kube.Key, ask uint64, ok bool) {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	for key := range k.doubts {
		delete(k.doubts, key)
		k.asks++
		k.asked[key] = k.asks
		return key, k.asks, true
	}
	return kube.Key{}, 0, false
}

// counts says whether the answer to a question is still news, and that it was
// answered. The mutex is held.
func (k *kind) counts(key kube.Key, ask uint64) bool {
	if k.asked[key] != ask {
		return false
	}
	delete(k.asked, key)
	return !k.doubts[key]
}

// there notes that an object was found.
func (k *kind) there(key kube.Key, ask uint64, p *projection) {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	if k.counts(key, ask) {
		k.noteForeign(key, k.objects[key], p)
		k.set(key, p)
	}
}

// absent is what is known of an object that is gone, but for the version that
// it had last.
var absent = projection{drift: Deleted, health: core.Missing, message: "is not there"}

// gone notes the end of an object.
func (k *kind) gone(key kube.Key, ask uint64) {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	if !k.counts(key, ask) {
		return
	}
	if len(k.cluster.watchers[k.key(key)]) == 0 {
		delete(k.objects, key)
		return
	}
	if old := k.objects[key]; old == nil || old.drift != Deleted {
		p := absent
		if old != nil {
			p.version = old.version
		}
		k.objects[key] = &p
		for _, owner := range k.cluster.watchers[k.key(key)] {
			k.cluster.queue.add(owner)
		}
	}
}

// pause returns false where ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
