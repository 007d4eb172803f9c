package drift

import (
	"context"
	"slices"
	"sync"
	"time"
	"unique"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Cluster is the Watcher of one cluster.
type Cluster struct {
	client   *kube.Client
	tracking mark.Tracking
	health   health.Owned
	resync   time.Duration
	// grace is what a watch has to show what a list has shown, before it
	// counts as missed.
	grace  time.Duration
	missed func(core.ObjectRef)

	changes chan core.Owner
	// start wakes Run where a kind or an object is to be watched that is not yet.
	start chan struct{}

	mu sync.Mutex
	// kinds are watched, by group and kind.
	kinds map[groupKind]*kind
	// expected are the owners' objects, and watchers the owners of an object.
	expected map[core.Owner][]core.ObjectRef
	watchers map[core.ObjectRef][]core.Owner
	// followed are the objects that owners wait for besides.
	followed map[core.Owner][]*followed
	queue    queue
}

var _ Watcher = (*Cluster)(nil)

type groupKind struct{ group, kind string }

func groupKindOf(ref core.ObjectRef) groupKind { return groupKind{ref.Group, ref.Kind} }

// Option changes a Cluster's defaults.
type Option func(*Cluster)

// WithMissed sets what is called for each object of which the watches had
// missed something. To find that out, everything is listed every 10 minutes.
// It must not block.
func WithMissed(f func(core.ObjectRef)) Option { return func(c *Cluster) { c.missed = f } }

// WithHealth sets the rules of health; without it they are those that are
// shipped.
func WithHealth(f health.Owned) Option { return func(c *Cluster) { c.health = f } }

// New returns a watcher of the client's cluster.
func New(client *kube.Client, opts ...Option) *Cluster {
	c := &Cluster{
		client:   client,
		tracking: mark.Tracking{ArgoNamespace: "argocd"},
		health:   new(health.Owners).Of,
		resync:   10 * time.Minute,
		grace:    5 * time.Second,
		missed:   func(core.ObjectRef) {},
		changes:  make(chan core.Owner),
		start:    make(chan struct{}, 1),
		kinds:    map[groupKind]*kind{},
		expected: map[core.Owner][]core.ObjectRef{},
		watchers: map[core.ObjectRef][]core.Owner{},
		followed: map[core.Owner][]*followed{},
		queue:    queue{waiting: map[core.Owner]bool{}, filled: make(chan struct{}, 1)},
	}
	for _, o := range opts {
		o(c)
	}
	return c
}

// Run implements Watcher.
func (c *Cluster) Run(ctx context.Context) error {
	parent := ctx
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.announce(ctx) })
	g.Go(func() error { return c.resyncs(ctx) })
	g.Go(func() error {
		for {
			for _, k := range c.unstarted() {
				g.Go(func() error {
					c.run(ctx, k)
					return nil
				})
			}
			for _, f := range c.unfollowed() {
				g.Go(func() error {
					f.run(ctx)
					return nil
				})
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.start:
			}
		}
	})
	if err := g.Wait(); parent.Err() == nil {
		return err
	}
	return nil
}

// Changes implements Watcher.
func (c *Cluster) Changes() <-chan core.Owner { return c.changes }

// Expect implements Watcher.
func (c *Cluster) Expect(owner core.Owner, objects []core.ObjectRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := map[core.ObjectRef]bool{}
	for _, ref := range c.expected[owner] {
		before[ref.Key()] = true
	}
	wanted := make(map[core.ObjectRef]bool, len(objects))
	for _, ref := range objects {
		wanted[ref.Key()] = true
	}
	c.forget(owner, wanted)
	if len(objects) == 0 {
		return
	}
	list := make([]core.ObjectRef, len(objects))
	for i, ref := range objects {
		list[i] = ref
		if p := c.find(ref); p != nil {
			p.foreign = false // it was looked at
		}
		key := ref.Key()
		c.watchers[key] = append(c.watchers[key], owner)
		k := c.kindOf(ref)
		if k.unseen(ref) {
			// Nobody has shown it: it may have just been made, or be gone.
			k.confirm(kube.Key{Namespace: ref.Namespace, Name: ref.Name})
		} else if p := c.find(ref); p != nil && p.drift != None && !before[key] {
			c.queue.add(owner) // it was so before anybody was to be told
		}
	}
	c.expected[owner] = list
}

// kindOf returns the watch of the object's kind, which is started where it is
// not yet. The mutex is held.
func (c *Cluster) kindOf(ref core.ObjectRef) *kind {
	k := c.kinds[groupKindOf(ref)]
	if k == nil {
		k = newKind(c, ref)
		c.kinds[groupKindOf(ref)] = k
		wake(c.start)
	}
	return k
}

// Observe takes what an API server has answered to a write, which may be ahead
// of the watch. Without it State and Known would for a moment still tell of
// before an apply. The watch of its kind is started where it is not yet, since
// what was just applied is about to be expected.
func (c *Cluster) Observe(obj *unstructured.Unstructured) {
	if obj.GetLabels()[mark.LabelManaged] != "true" {
		return
	}
	gvk := obj.GroupVersionKind()
	c.mu.Lock()
	k := c.kindOf(core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind})
	c.mu.Unlock()
	k.answered(kube.Key{Namespace: obj.GetNamespace(), Name: obj.GetName()}, k.Project(obj))
}

// Recheck implements Watcher.
func (c *Cluster) Recheck(owner core.Owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recheck(owner)
}

// RecheckAll is Recheck of all owners.
func (c *Cluster) RecheckAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for owner := range c.expected {
		c.recheck(owner)
	}
}

func (c *Cluster) recheck(owner core.Owner) {
	for _, ref := range c.expected[owner] {
		if k := c.kinds[groupKindOf(ref)]; k != nil {
			k.confirm(kube.Key{Namespace: ref.Namespace, Name: ref.Name})
		}
	}
	for i, f := range c.followed[owner] {
		close(f.ended)
		c.followed[owner][i] = &followed{cluster: c, owner: owner, ref: f.ref, ended: make(chan struct{})}
		wake(c.start)
	}
}

// Forget implements Watcher.
func (c *Cluster) Forget(owner core.Owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(owner, nil)
	for _, f := range c.followed[owner] {
		close(f.ended)
	}
	delete(c.followed, owner)
}

// forget ends what is expected of the owner. What is known not to be there is
// forgotten too, but for what is wanted on: it would be found out, and
// announced, again.
func (c *Cluster) forget(owner core.Owner, wanted map[core.ObjectRef]bool) {
	for _, ref := range c.expected[owner] {
		key := ref.Key()
		var rest []core.Owner
		for _, o := range c.watchers[key] {
			if o != owner {
				rest = append(rest, o)
			}
		}
		if len(rest) > 0 {
			c.watchers[key] = rest
			continue
		}
		delete(c.watchers, key)
		if k := c.kinds[groupKindOf(ref)]; k != nil && !wanted[key] {
			k.dropAbsent(kube.Key{Namespace: ref.Namespace, Name: ref.Name})
		}
	}
	delete(c.expected, owner)
}

// State implements Watcher.
func (c *Cluster) State(owner core.Owner) []ObjectState {
	c.mu.Lock()
	defer c.mu.Unlock()
	var states []ObjectState
	for _, ref := range c.expected[owner] {
		if p := c.find(ref); p != nil {
			states = append(states, c.state(owner, ref, p))
		}
	}
	return states
}

// Known implements Watcher.
func (c *Cluster) Known(owner core.Owner) func(core.ObjectRef) (mark.Seen, bool) {
	return func(ref core.ObjectRef) (mark.Seen, bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		p := c.find(ref)
		if p == nil || p.drift != None || p.digest == "" || len(p.owners) != 1 || p.owners[0].Value() != owner {
			return mark.Seen{}, false
		}
		return mark.Seen{Digest: p.digest, Health: p.health, Message: p.message}, true
	}
}

func (c *Cluster) find(ref core.ObjectRef) *projection {
	k := c.kinds[groupKindOf(ref)]
	if k == nil {
		return nil
	}
	return k.objects[kube.Key{Namespace: ref.Namespace, Name: ref.Name}]
}

func (c *Cluster) state(owner core.Owner, ref core.ObjectRef, p *projection) ObjectState {
	s := ObjectState{Ref: ref, Drift: p.drift, Health: p.health, Message: p.message, By: p.by}
	if n := len(p.owners); n > 0 && !slices.Contains(p.owners, unique.Make(owner)) {
		by := p.owners[n-1].Value()
		s.Drift, s.TakenBy = None, &by
	}
	return s
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
