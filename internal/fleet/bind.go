package fleet

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
)

// binding is where an owner's objects are. All is nil for the home cluster.
type binding struct {
	cluster *Cluster
	member  *member
	// seen is the session of which the owner knows that it began.
	seen *session
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

// leave ends what was for the owner where it was bound. The mutex is held.
func (f *Fleet) leave(owner core.Owner, b *binding) {
	if b.member == nil {
		f.home.Watcher.Forget(owner)
		return
	}
	if s := b.member.current(); s != nil {
		s.Watcher.Forget(owner)
		if owner.Kind == core.HelmRelease && s.Releases != nil {
			// Nothing is expected any more, so that nothing has to be begun.
			s.Releases.Expect(s.ctx, types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name}, nil)
		}
	}
	f.closeUnused(b.member)
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
