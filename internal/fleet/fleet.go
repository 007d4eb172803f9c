// Package fleet is deploy, drift and release for many clusters: it makes them
// for each cluster, and asks those of the cluster to which an owner is bound.
// A cluster that does not answer is away, which its owners are told at once
// and without asking the network; the other clusters do not notice.
package fleet

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/release"
)

// Parts are what works in one cluster.
type Parts struct {
	Client   *kube.Client
	Deployer deploy.Deployer
	Watcher  drift.Watcher
	// Releases are nil where there are no HelmReleases.
	Releases *release.Cluster
}

// Open makes the parts for a cluster, of which only these namespaces may be
// looked at (none is all). Nothing of them runs yet.
type Open func(cfg *rest.Config, namespaces []string) (*Parts, error)

// News is what has happened to an owner's cluster.
type News int

// The news.
const (
	// Changed: it is away, or back, or was reached for the first time. Who is
	// bound should bind again.
	Changed News = iota
	// Released: objects of a HelmRelease have changed there.
	Released
)

// Fleet is the clusters that are in use. It is safe for concurrent use.
type Fleet struct {
	home *Parts
	open Open
	// changes are the drift watches' announcements.
	changes chan core.Owner

	mu      sync.Mutex
	tell    func(core.Owner, News)
	changed func()
	running context.Context // of Run; nil before
	loops   sync.WaitGroup
	bound   map[core.Owner]*binding
	members map[string]*member
	kept    map[string]bool
}

var (
	_ deploy.Deployer = (*Fleet)(nil)
	_ drift.Watcher   = (*Fleet)(nil)
)

// New returns a fleet that has the home cluster alone. open is for the others.
func New(home *Parts, open Open) *Fleet {
	return &Fleet{
		home: home, open: open, changes: make(chan core.Owner),
		tell: func(core.Owner, News) {}, changed: func() {},
		bound: map[core.Owner]*binding{}, members: map[string]*member{}, kept: map[string]bool{},
	}
}

// Home are the parts of the home cluster.
func (f *Fleet) Home() *Parts { return f.home }

// Tell sets who is told of news of an owner's cluster, and that the state of
// some cluster has changed. Neither may block. It is called before Run.
func (f *Fleet) Tell(owner func(core.Owner, News), changed func()) {
	f.tell, f.changed = owner, changed
}

// Run watches the home cluster and keeps in touch with the others until ctx
// ends.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.mu.Lock()
	f.running = ctx
	for _, m := range f.members {
		f.start(m)
	}
	f.mu.Unlock()
	f.loops.Go(func() { f.forward(ctx, f.home.Watcher.Changes()) })
	err := f.home.Watcher.Run(ctx)
	cancel()
	f.mu.Lock()
	f.running = nil
	f.mu.Unlock()
	f.loops.Wait()
	return err
}

// start runs the member. The mutex is held.
func (f *Fleet) start(m *member) {
	if f.running == nil {
		return
	}
	ctx, cancel := context.WithCancel(f.running)
	m.end = cancel
	f.loops.Go(func() {
		defer cancel()
		m.run(ctx)
	})
}

// forward announces what a watch of one cluster announces.
func (f *Fleet) forward(ctx context.Context, from <-chan core.Owner) {
	for {
		select {
		case <-ctx.Done():
			return
		case owner, open := <-from:
			if !open {
				return
			}
			select {
			case <-ctx.Done():
				return
			case f.changes <- owner:
			}
		}
	}
}

// Keep says which clusters are wanted besides those that owners are bound to.
func (f *Fleet) Keep(clusters []*Cluster) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = map[string]bool{}
	for _, c := range clusters {
		f.kept[c.digest] = true
		f.member(c)
	}
	for _, m := range f.members {
		f.closeUnused(m)
	}
}

// member is that of the cluster, which is made where it is not there. The
// mutex is held.
func (f *Fleet) member(c *Cluster) *member {
	m := f.members[c.digest]
	if m == nil {
		m = newMember(f, c)
		f.members[c.digest] = m
		f.start(m)
	}
	return m
}

// closeUnused ends a member that nobody needs. The mutex is held.
func (f *Fleet) closeUnused(m *member) {
	if f.kept[m.cluster.digest] {
		return
	}
	for _, b := range f.bound {
		if b.member == m {
			return
		}
	}
	delete(f.members, m.cluster.digest)
	if m.end != nil {
		m.end()
	}
}

// owners are those that are bound to the member.
func (f *Fleet) owners(m *member) []core.Owner {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []core.Owner
	for owner, b := range f.bound {
		if b.member == m {
			list = append(list, owner)
		}
	}
	return list
}

// released tells of a HelmRelease.
func (f *Fleet) released(key types.NamespacedName) {
	f.tell(core.Owner{Dialect: core.Flux, Kind: core.HelmRelease, Namespace: key.Namespace, Name: key.Name}, Released)
}

// Connection is how it stands with a cluster. One that is not in use has none.
func (f *Fleet) Connection(c *Cluster) State {
	f.mu.Lock()
	m := f.members[c.digest]
	f.mu.Unlock()
	if m == nil {
		return State{}
	}
	return m.now()
}

// Of is the cluster that the owner is bound to; nil is the home cluster, or
// none.
func (f *Fleet) Of(owner core.Owner) *Cluster {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.bound[owner]; b != nil {
		return b.cluster
	}
	return nil
}

// Size is how many clusters are in use, the home cluster aside.
func (f *Fleet) Size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.members)
}

// Deliveries is how many owners are bound to a cluster, nil for the home
// cluster.
func (f *Fleet) Deliveries(c *Cluster) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, b := range f.bound {
		if c == nil && b.member == nil || c != nil && b.member != nil && b.member.cluster.digest == c.digest {
			n++
		}
	}
	return n
}
