package release

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
)

// selector is of what Helm applies: its label is on each object.
const selector = "app.kubernetes.io/managed-by=Helm"

// watch tells who has objects that something has happened to. It keeps a hash
// of each object of the kinds that it watches, and those are the kinds that
// somebody expects.
type watch struct {
	client *kube.Client

	mu      sync.Mutex
	kinds   map[core.ObjectRef]*watchedKind // by group, version and kind
	owners  map[core.ObjectRef]map[types.NamespacedName]struct{}
	expects map[types.NamespacedName][]core.ObjectRef
	// start has the kinds that are not watched yet; changed is who is told.
	start   chan *watchedKind
	changed func(types.NamespacedName)
}

func newWatch(client *kube.Client) *watch {
	return &watch{
		client: client, kinds: map[core.ObjectRef]*watchedKind{}, owners: map[core.ObjectRef]map[types.NamespacedName]struct{}{},
		expects: map[types.NamespacedName][]core.ObjectRef{}, start: make(chan *watchedKind, 1), changed: func(types.NamespacedName) {},
	}
}

// Run watches what is expected until ctx ends, and calls changed, which must
// not block, with who has something that was changed or is gone. That a release
// changes its own objects is told as well.
func (c *Cluster) Run(ctx context.Context, changed func(owner types.NamespacedName)) error {
	w := c.watch
	w.mu.Lock()
	w.changed = changed
	w.mu.Unlock()
	var loops sync.WaitGroup
	defer loops.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case k := <-w.start:
			loops.Go(func() { w.follow(ctx, k) })
		}
	}
}

// Expect says what a release has, of which Run is to tell; nothing ends that.
// Run must run.
func (c *Cluster) Expect(ctx context.Context, owner types.NamespacedName, refs []core.ObjectRef) {
	for _, k := range c.watch.expect(owner, refs) {
		select {
		case c.watch.start <- k:
		case <-ctx.Done():
			return
		}
	}
}

// expect notes what is expected, and returns the kinds that are new.
func (w *watch) expect(owner types.NamespacedName, refs []core.ObjectRef) (fresh []*watchedKind) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ref := range w.expects[owner] {
		delete(w.owners[ref], owner)
		if len(w.owners[ref]) == 0 {
			delete(w.owners, ref)
		}
	}
	delete(w.expects, owner)
	if len(refs) == 0 {
		return nil
	}
	keys := make([]core.ObjectRef, len(refs))
	for i, ref := range refs {
		keys[i] = ref.Key()
		if w.owners[keys[i]] == nil {
			w.owners[keys[i]] = map[types.NamespacedName]struct{}{}
		}
		w.owners[keys[i]][owner] = struct{}{}
		kind := core.ObjectRef{Group: ref.Group, Version: ref.Version, Kind: ref.Kind}
		if w.kinds[kind] == nil {
			w.kinds[kind] = &watchedKind{watch: w, ref: kind, objects: map[kube.Key]uint64{}}
			fresh = append(fresh, w.kinds[kind])
		}
	}
	w.expects[owner] = keys
	return fresh
}

// missingKind is the pause before a kind is looked for again.
const missingKind = 5 * time.Second

func (w *watch) follow(ctx context.Context, k *watchedKind) {
	for {
		mapping, err := w.client.Mapping(k.ref.GroupVersionKind())
		if err == nil {
			kube.Follow(ctx, w.client, kube.Scope{Mapping: mapping, Labels: selector}, k)
			return
		}
		slog.WarnContext(ctx, "a kind of a release cannot be watched yet", "group", k.ref.Group, "kind", k.ref.Kind, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(missingKind):
		}
	}
}

// watchedKind is one kind. All of it is guarded by the watch's mutex.
type watchedKind struct {
	watch   *watch
	ref     core.ObjectRef
	objects map[kube.Key]uint64
	listed  bool
}

var _ kube.Sink[uint64] = (*watchedKind)(nil)

// Project implements kube.Sink: a hash of what people and releases write.
func (k *watchedKind) Project(obj *unstructured.Unstructured) uint64 {
	h := fnv.New64a()
	// What was decoded from JSON encodes; maps are sorted.
	_ = json.NewEncoder(h).Encode(comparable(obj))
	return h.Sum64()
}

// Set implements kube.Sink.
func (k *watchedKind) Set(key kube.Key, p uint64) {
	k.watch.mu.Lock()
	defer k.watch.mu.Unlock()
	if was, known := k.objects[key]; known && was == p {
		return
	}
	k.objects[key] = p
	k.tell(key)
}

// Delete implements kube.Sink.
func (k *watchedKind) Delete(key kube.Key) {
	k.watch.mu.Lock()
	defer k.watch.mu.Unlock()
	delete(k.objects, key)
	k.tell(key)
}

// Replace implements kube.Sink. The first list tells nobody: who expects
// something has just compared it.
func (k *watchedKind) Replace(all map[kube.Key]uint64) {
	k.watch.mu.Lock()
	defer k.watch.mu.Unlock()
	before, listed := k.objects, k.listed
	k.objects, k.listed = all, true
	if !listed {
		return
	}
	for key, p := range all {
		if was, known := before[key]; !known || was != p {
			k.tell(key)
		}
	}
	for key := range before {
		if _, there := all[key]; !there {
			k.tell(key)
		}
	}
}

// tell announces a change to those who expect the object.
func (k *watchedKind) tell(key kube.Key) {
	ref := core.ObjectRef{Group: k.ref.Group, Kind: k.ref.Kind, Namespace: key.Namespace, Name: key.Name}
	for owner := range k.watch.owners[ref] {
		k.watch.changed(owner)
	}
}
