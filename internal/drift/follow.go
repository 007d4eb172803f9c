package drift

import (
	"context"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
)

// followed is an object that an owner waits for, and its watch. All but the
// watch itself is guarded by the Cluster's mutex.
type followed struct {
	cluster *Cluster
	owner   core.Owner
	ref     core.ObjectRef
	started bool
	// ended is closed when nobody waits for it any more.
	ended chan struct{}
	// state is nil until the watch has shown whether the object is there.
	state *ObjectState
}

var _ kube.Sink[ObjectState] = (*followed)(nil)

// Follow implements Watcher.
func (c *Cluster) Follow(owner core.Owner, objects []core.ObjectRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.followed[owner]
	list := make([]*followed, 0, len(objects))
	for _, ref := range objects {
		var f *followed
		for i, old := range before {
			if old != nil && old.ref == ref {
				f, before[i] = old, nil
			}
		}
		if f == nil {
			f = &followed{cluster: c, owner: owner, ref: ref, ended: make(chan struct{})}
		}
		list = append(list, f)
	}
	for _, old := range before {
		if old != nil {
			close(old.ended)
		}
	}
	if len(list) == 0 {
		delete(c.followed, owner)
		return
	}
	c.followed[owner] = list
	wake(c.start)
}

// Followed implements Watcher.
func (c *Cluster) Followed(owner core.Owner) []ObjectState {
	c.mu.Lock()
	defer c.mu.Unlock()
	var states []ObjectState
	for _, f := range c.followed[owner] {
		if f.state != nil {
			states = append(states, *f.state)
		}
	}
	return states
}

// unfollowed returns the objects whose watches are still to be started, and
// counts them as started.
func (c *Cluster) unfollowed() []*followed {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*followed
	for _, of := range c.followed {
		for _, f := range of {
			if !f.started {
				f.started = true
				list = append(list, f)
			}
		}
	}
	return list
}

// run watches the object until nobody waits for it any more.
func (f *followed) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-f.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	m := f.cluster.mapping(ctx, f.ref)
	if m == nil {
		return
	}
	scope := kube.Scope{Mapping: m, Fields: "metadata.name=" + f.ref.Name}
	if kube.Namespaced(m) {
		scope.Namespace = f.ref.Namespace
	}
	kube.Follow(ctx, f.cluster.client, scope, f)
}

// Project implements kube.Sink. The health is by the rules of who waits.
func (f *followed) Project(obj *unstructured.Unstructured) ObjectState {
	s := ObjectState{Ref: f.ref}
	s.Health, s.Message = f.cluster.health(f.owner, obj)
	return s
}

// Set implements kube.Sink.
func (f *followed) Set(_ kube.Key, s ObjectState) {
	f.cluster.mu.Lock()
	defer f.cluster.mu.Unlock()
	if f.state == nil || f.state.Drift != s.Drift || f.state.Health != s.Health || f.state.Message != s.Message {
		f.state = &s
		f.cluster.queue.add(f.owner)
	}
}

// Delete implements kube.Sink.
func (f *followed) Delete(key kube.Key) {
	f.Set(key, ObjectState{Ref: f.ref, Drift: absent.drift, Health: absent.health, Message: absent.message})
}

// Replace implements kube.Sink.
func (f *followed) Replace(all map[kube.Key]ObjectState) {
	for key, s := range all {
		f.Set(key, s)
		return
	}
	f.Delete(kube.Key{})
}
