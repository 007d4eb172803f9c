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

// binding is where an owner's objects are. All is nil for the home cluster.
type binding struct {
	cluster *Cluster
	member  *member
	// seen is the session of which the owner knows that it began.
	seen *session
}

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
		case owner := <-from:
			select {
			case <-ctx.Done():
				return
			case f.changes <- owner:
			}
		}
	}
}

// Bind says in which cluster the owner's objects are; nil is the home cluster.
// Fresh says that nothing is known there of the owner: it is another cluster
// or another connection than when it was bound last, so that what was known has
// to be found out again.
//
// Errors: *AwayError, *ConnectingError while it is not known yet whether the
// cluster answers. The owner is bound all the same, and is told when that
// changes.
func (f *Fleet) Bind(owner core.Owner, to *Cluster) (fresh bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, b := f.rebind(owner, to)
	if b.member == nil {
		return before != b, nil
	}
	s, err := b.current()
	fresh = before != b || s != b.seen
	b.seen = s
	return fresh, err
}

// Reach is Bind for somebody else who asks for the owner's cluster: whether it
// is fresh is still to be told to the owner, and an owner that is bound stays
// where it is, since it may be at work there.
func (f *Fleet) Reach(owner core.Owner, to *Cluster) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.bound[owner]
	if b == nil {
		_, b = f.rebind(owner, to)
	}
	if b.digest() != to.key() {
		return &ConnectingError{"the cluster to which " + owner.String() + " is moving"}
	}
	_, err := b.current()
	return err
}

// digest identifies the cluster that is bound; "" is the home cluster.
func (b *binding) digest() string {
	if b.member == nil {
		return ""
	}
	return b.member.cluster.digest
}

// key is the digest, and "" for the home cluster.
func (c *Cluster) key() string {
	if c == nil {
		return ""
	}
	return c.digest
}

// rebind returns the owner's binding as it was and as it is to be. The mutex is
// held.
func (f *Fleet) rebind(owner core.Owner, to *Cluster) (before, now *binding) {
	before = f.bound[owner]
	var m *member
	if to != nil {
		m = f.member(to)
	}
	if before != nil && before.member == m {
		before.cluster = to
		return before, before
	}
	now = &binding{cluster: to, member: m}
	f.bound[owner] = now
	if before != nil {
		f.leave(owner, before)
	}
	return before, now
}

// Unbind forgets the owner.
func (f *Fleet) Unbind(owner core.Owner) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.bound[owner]; b != nil {
		delete(f.bound, owner)
		f.leave(owner, b)
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

// leave ends what was for the owner where it was bound. The mutex is held.
func (f *Fleet) leave(owner core.Owner, b *binding) {
	if b.member == nil {
		f.home.Watcher.Forget(owner)
		return
	}
	if s := b.member.current(); s != nil {
		s.Watcher.Forget(owner)
		if owner.Kind == helmRelease && s.Releases != nil {
			// Nothing is expected any more, so that nothing has to be begun.
			s.Releases.Expect(s.ctx, types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name}, nil)
		}
	}
	f.closeUnused(b.member)
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

// helmRelease is the kind of owners that Releases know.
const helmRelease = "HelmRelease"

// released tells of a HelmRelease.
func (f *Fleet) released(key types.NamespacedName) {
	f.tell(core.Owner{Dialect: core.Flux, Kind: helmRelease, Namespace: key.Namespace, Name: key.Name}, Released)
}

// at returns what is bound to the owner, and the session there; it is nil for
// the home cluster.
func (f *Fleet) at(owner core.Owner) (binding, *session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.bound[owner]
	if b == nil {
		return binding{}, nil, &unboundError{owner}
	}
	s, err := b.current()
	return *b, s, err
}

// current is the session of the cluster, or why there is none.
func (b *binding) current() (*session, error) {
	if b.member == nil {
		return nil, nil
	}
	if s := b.member.current(); s != nil {
		return s, nil
	}
	return nil, b.member.unreachable(b.cluster)
}

// Enter takes a turn in the owner's cluster, of which there are only so many,
// so that one that hangs does not hold everybody. It returns nil where there is
// none now.
func (f *Fleet) Enter(owner core.Owner) (leave func()) {
	b, _, err := f.at(owner)
	if err != nil || b.member == nil {
		return func() {}
	}
	select {
	case b.member.turns <- struct{}{}:
		return func() { <-b.member.turns }
	default:
		return nil
	}
}

// Parts are those of the cluster that the owner is bound to. Errors: those of
// Bind.
func (f *Fleet) Parts(owner core.Owner) (*Parts, error) {
	_, s, err := f.at(owner)
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return f.home, nil
	}
	return s.Parts, nil
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

// Size is how many clusters are connected, the home cluster aside.
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
