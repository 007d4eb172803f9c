// Package orphan finds the objects of a namespace that nobody has asked for:
// no other object owns them, and no delivery tracks them. It watches, with one
// watch a kind, only the namespaces that somebody wants to know about, and
// keeps of each orphan its name.
package orphan

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// MaxNamespaces bounds how many namespaces are watched: each takes a watch for
// every kind that there is.
const MaxNamespaces = 50

const (
	// gather is how long changes of a namespace gather before who wants to
	// know of them is told.
	gather = time.Second
	// refresh is after how long a namespace's kinds are asked for again, when
	// somebody wants it.
	refresh = 10 * time.Minute
)

// Watcher watches namespaces. Its methods are safe for concurrent use.
type Watcher struct {
	tracking mark.Tracking
	changed  func(core.Owner)

	mu     sync.Mutex
	ctx    context.Context // of Run; nil before and after
	loops  sync.WaitGroup  // begin while ctx is there, or within another one
	places map[place]*namespace
	wants  map[core.Owner]place
}

// place is a namespace of a cluster.
type place struct {
	client *kube.Client
	name   string
}

// New calls changed, which must not block, with each owner whose namespace has
// other orphans than before.
func New(tracking mark.Tracking, changed func(core.Owner)) *Watcher {
	return &Watcher{tracking: tracking, changed: changed, places: map[place]*namespace{}, wants: map[core.Owner]place{}}
}

// Run watches until ctx ends. What was wanted before is watched from then on.
// When it returns nothing of it goes on, and nobody is told any more.
func (w *Watcher) Run(ctx context.Context) error {
	w.mu.Lock()
	w.ctx = ctx
	for _, n := range w.places {
		n.start(ctx)
	}
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	w.ctx = nil
	w.mu.Unlock()
	w.loops.Wait()
	return nil
}

// ErrTooMany says that MaxNamespaces are watched already.
var ErrTooMany = errors.New("too many namespaces are watched for orphaned resources already")

// Want says that the owner wants to know of the orphans of a namespace, and of
// no other one any more.
func (w *Watcher) Want(owner core.Owner, client *kube.Client, name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := place{client, name}
	if old, ok := w.wants[owner]; ok && old != at {
		w.leave(owner)
	}
	n := w.places[at]
	if n == nil {
		if len(w.places) >= MaxNamespaces {
			return ErrTooMany
		}
		n = &namespace{watcher: w, place: at, owners: map[core.Owner]struct{}{}, kinds: map[core.ObjectRef]*kind{}}
		w.places[at] = n
	}
	w.wants[owner] = at
	n.owners[owner] = struct{}{}
	if w.ctx != nil {
		n.start(w.ctx)
	}
	return nil
}

// Leave says that the owner wants to know nothing any more.
func (w *Watcher) Leave(owner core.Owner) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leave(owner)
}

func (w *Watcher) leave(owner core.Owner) {
	at, ok := w.wants[owner]
	if !ok {
		return
	}
	delete(w.wants, owner)
	n := w.places[at]
	delete(n.owners, owner)
	if len(n.owners) == 0 {
		n.stop()
		delete(w.places, at)
	}
}

// Orphans are those of the owner's namespace, in order. What was not listed yet
// is missing: when it is, the owner is told.
func (w *Watcher) Orphans(owner core.Owner) []core.ObjectRef {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.wants[owner]
	if !ok {
		return nil
	}
	var all []core.ObjectRef
	for ref, k := range w.places[at].kinds {
		for name := range k.orphans {
			all = append(all, core.ObjectRef{Group: ref.Group, Version: ref.Version, Kind: ref.Kind, Namespace: at.name, Name: name})
		}
	}
	slices.SortFunc(all, func(a, b core.ObjectRef) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// namespace is one that is watched. Its fields are guarded by the watcher's
// lock.
type namespace struct {
	watcher *Watcher
	place   place
	owners  map[core.Owner]struct{}
	kinds   map[core.ObjectRef]*kind // by group, version and kind
	asked   time.Time
	ctx     context.Context // ends with end
	end     context.CancelFunc
	// gathering says that the owners will be told.
	gathering bool
}

// start watches the kinds that there are and that are not watched yet.
func (n *namespace) start(ctx context.Context) {
	if time.Since(n.asked) < refresh {
		return
	}
	n.asked = time.Now()
	if n.end == nil {
		n.ctx, n.end = context.WithCancel(ctx)
	}
	within := n.ctx
	n.watcher.loops.Go(func() { n.watch(within) })
}

func (n *namespace) stop() {
	if n.end != nil {
		n.end()
	}
}

// watch finds the kinds and follows each.
func (n *namespace) watch(ctx context.Context) {
	kinds, err := n.place.client.NamespacedKinds()
	if err != nil {
		slog.WarnContext(ctx, "the kinds of a namespace's orphaned resources are not known", "namespace", n.place.name, "error", err)
	}
	for _, m := range kinds {
		gvk := m.GroupVersionKind
		if never(gvk.Group, gvk.Kind) {
			continue
		}
		if k := n.add(core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind}); k != nil {
			n.watcher.loops.Go(func() {
				kube.Follow(ctx, n.place.client, kube.Scope{Mapping: m, Namespace: n.place.name}, k)
			})
		}
	}
}

// add is a kind that was not known yet, or nil.
func (n *namespace) add(ref core.ObjectRef) *kind {
	n.watcher.mu.Lock()
	defer n.watcher.mu.Unlock()
	if n.kinds[ref] != nil {
		return nil
	}
	n.kinds[ref] = &kind{namespace: n, orphans: map[string]struct{}{}}
	return n.kinds[ref]
}

// tell tells the owners, when changes have gathered.
func (n *namespace) tell() {
	if n.gathering {
		return
	}
	n.gathering = true
	ctx := n.ctx
	n.watcher.loops.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(gather):
		}
		n.watcher.mu.Lock()
		n.gathering = false
		var owners []core.Owner
		for o := range n.owners {
			owners = append(owners, o)
		}
		n.watcher.mu.Unlock()
		for _, o := range owners {
			n.watcher.changed(o)
		}
	})
}

// kind are the orphans of a kind.
type kind struct {
	namespace *namespace
	orphans   map[string]struct{}
}

var _ kube.Sink[bool] = (*kind)(nil)

// Project implements kube.Sink: whether the object is an orphan.
func (k *kind) Project(obj *unstructured.Unstructured) bool {
	if len(obj.GetOwnerReferences()) > 0 || obj.GetDeletionTimestamp() != nil {
		return false
	}
	return len(k.namespace.watcher.tracking.Read(obj)) == 0 && !ofHelm(obj) && !isMade(obj)
}

// Set implements kube.Sink.
func (k *kind) Set(key kube.Key, orphan bool) {
	k.namespace.watcher.mu.Lock()
	defer k.namespace.watcher.mu.Unlock()
	k.set(key.Name, orphan)
}

func (k *kind) set(name string, orphan bool) {
	if _, was := k.orphans[name]; was == orphan {
		return
	}
	if orphan {
		k.orphans[name] = struct{}{}
	} else {
		delete(k.orphans, name)
	}
	k.namespace.tell()
}

// Delete implements kube.Sink.
func (k *kind) Delete(key kube.Key) { k.Set(key, false) }

// Replace implements kube.Sink.
func (k *kind) Replace(all map[kube.Key]bool) {
	k.namespace.watcher.mu.Lock()
	defer k.namespace.watcher.mu.Unlock()
	for name := range k.orphans {
		if !all[kube.Key{Namespace: k.namespace.place.name, Name: name}] {
			k.set(name, false)
		}
	}
	for key, orphan := range all {
		k.set(key.Name, orphan)
	}
}

// ofHelm says that the object is of a release of Flux' helm-controller, or of
// ours.
func ofHelm(obj *unstructured.Unstructured) bool {
	return obj.GetLabels()["helm.toolkit.fluxcd.io/name"] != ""
}

// isMade says that Kubernetes itself has made the object, in every namespace or
// in one (Argo CD's exceptions).
func isMade(obj *unstructured.Unstructured) bool {
	switch name := obj.GetName(); obj.GetKind() {
	case "ServiceAccount":
		return name == "default"
	case "ConfigMap":
		return name == "kube-root-ca.crt"
	case "Service":
		return name == "kubernetes" && obj.GetNamespace() == "default"
	case "Secret":
		return obj.GetAnnotations()["kubernetes.io/service-account.name"] == "default"
	}
	return false
}

// never says that objects of a kind are no orphans: they come and go by
// themselves. The list is Argo CD's resource.exclusions, as it is since 3.0.
func never(group, kind string) bool {
	switch group {
	case "":
		return kind == "Endpoints" || kind == "Event"
	case "discovery.k8s.io":
		return kind == "EndpointSlice"
	case "events.k8s.io", "metrics.k8s.io", "coordination.k8s.io", "reports.kyverno.io", "wgpolicyk8s.io":
		return true
	case "cert-manager.io":
		return kind == "CertificateRequest"
	case "cilium.io":
		return kind == "CiliumEndpoint" || kind == "CiliumEndpointSlice"
	case "kyverno.io":
		return kind == "PolicyReport" || kind == "AdmissionReport" || kind == "BackgroundScanReport" || kind == "UpdateRequest"
	}
	return false
}
