// Package shard divides objects among the replicas of a controller, by the
// hash of their UID. Who has a shard stands in the shard's Lease; that a
// replica lives, in its own, which is all that it has to renew.
//
// A replica may write for a shard until its time is over, which it reckons
// from before it last asked for more; another one may take the shard only when
// that much time has passed since it last saw a sign of life. No clocks are
// compared. docs/design/shards.md has the argument whole.
package shard

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/fairway-cd/fairway/internal/core/fence"
)

// Options say how the shards are divided. All but the durations are required.
type Options struct {
	// Name is that of the controller, Namespace where its Leases are.
	Name, Namespace string
	// Identity names this replica among those that there are, and were: a pod's
	// name and UID. No two processes have the same one.
	Identity string
	// Count is how many shards there are, and so how many replicas can share
	// the work. It must be the same for all of them.
	Count int
	// Duration is how long a replica is trusted to live without a sign; 8 s.
	Duration time.Duration
	// Renew is how often it gives one; 1.5 s.
	Renew time.Duration
}

// margin is how much earlier a replica takes itself for dead than others do:
// for what it takes to find out.
const margin = time.Second

// Shards are those of one replica. It is safe for concurrent use.
type Shards struct {
	opts   Options
	leases coordination.LeaseInterface
	log    *slog.Logger
	moved  func(shard int, ours, settle bool)

	// until is when this replica is dead by its own reckoning, if it gives no
	// sign before. It is read without the mutex.
	until atomic.Pointer[deadline]

	// seen is what was last seen of the other replicas, by their identity. It
	// is Run's alone.
	seen map[string]sight

	mu   sync.Mutex
	held map[int]*term
}

// sight is a sign of life: the version of a replica's Lease, and when it was
// first seen here.
type sight struct {
	version string
	at      time.Time
}

// term is the time in which a shard is ours, without a gap.
type term struct {
	shards *Shards
	ctx    context.Context
	end    context.CancelFunc
	lost   atomic.Bool
	work   sync.WaitGroup
}

var _ fence.Fence = (*term)(nil)

// Holds implements fence.Fence.
func (t *term) Holds() bool {
	// In this order: a new deadline is set after the terms of an old one that
	// has passed are lost.
	return t.shards.alive(time.Now()) && !t.lost.Load()
}

// deadline is a time by both of a machine's clocks: one stands still while the
// machine does, the other can be set.
type deadline struct {
	steady time.Time // with the monotonic reading
	wall   time.Time // without
}

func deadlineAt(t time.Time) *deadline { return &deadline{t, t.Round(0)} }

func (d *deadline) passed(now time.Time) bool {
	return d == nil || !now.Before(d.steady) || !now.Round(0).Before(d.wall)
}

// New returns the shards of a replica, which has none before Run.
func New(client coordination.LeasesGetter, opts Options) (*Shards, error) {
	if opts.Name == "" || opts.Namespace == "" || opts.Identity == "" || opts.Count < 1 {
		return nil, errors.New("shard: name, namespace, identity and count are required")
	}
	if opts.Duration == 0 {
		opts.Duration = 8 * time.Second
	}
	if opts.Renew == 0 {
		opts.Renew = 1500 * time.Millisecond
	}
	if opts.Duration < opts.Renew+2*margin {
		return nil, fmt.Errorf("shard: a duration of %s is too short to renew every %s", opts.Duration, opts.Renew)
	}
	return &Shards{
		opts: opts, leases: client.Leases(opts.Namespace), log: slog.With("replica", opts.Identity),
		held: map[int]*term{}, seen: map[string]sight{}, moved: func(int, bool, bool) {},
	}, nil
}

// Moved sets, before Run, what is told that a shard has become ours or
// another's. settle says that it was taken from a replica that may still have
// requests on their way. It must not block.
func (s *Shards) Moved(moved func(shard int, ours, settle bool)) { s.moved = moved }

// Of is the shard of an object.
func (s *Shards) Of(uid types.UID) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uid))
	return int(h.Sum32() % uint32(s.opts.Count))
}

// Enter begins work on an object, where its shard is ours. The context that it
// returns ends when the shard is not ours any more, and fences what is
// written; leave says that the work is done.
func (s *Shards) Enter(ctx context.Context, uid types.UID) (_ context.Context, leave func(), ours bool) {
	s.mu.Lock()
	t := s.held[s.Of(uid)]
	if t == nil || !t.Holds() {
		s.mu.Unlock()
		return ctx, nil, false
	}
	t.work.Add(1)
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(fence.With(ctx, t))
	stop := context.AfterFunc(t.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		t.work.Done()
	}, true
}

// Held are the shards that are ours.
func (s *Shards) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held)
}

func (s *Shards) alive(now time.Time) bool { return !s.until.Load().passed(now) }

// Run takes and keeps shards until ctx ends, and then leaves them to others.
// That the API server does not answer is no error: the shards are lost
// meanwhile.
func (s *Shards) Run(ctx context.Context) error {
	tick := time.NewTicker(s.opts.Renew)
	defer tick.Stop()
	for {
		err := s.round(ctx)
		if ctx.Err() != nil {
			return s.resign()
		}
		if err != nil {
			s.log.Warn("the shards cannot be kept", "error", err)
		}
		if !s.wait(ctx, tick.C) {
			return s.resign()
		}
	}
}

// wait is for the next round. Where the time is over before, all is lost.
func (s *Shards) wait(ctx context.Context, tick <-chan time.Time) bool {
	var over <-chan time.Time
	if d := s.until.Load(); d != nil && s.Held() > 0 {
		timer := time.NewTimer(time.Until(d.steady))
		defer timer.Stop()
		over = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			return true
		case <-over:
			s.loseAll()
			over = nil
		}
	}
}

// take begins a term of a shard.
func (s *Shards) take(shard int, settle bool) {
	ctx, end := context.WithCancel(context.Background())
	s.mu.Lock()
	s.held[shard] = &term{shards: s, ctx: ctx, end: end}
	s.mu.Unlock()
	s.log.Info("took a shard", "shard", shard, "settle", settle)
	s.moved(shard, true, settle)
}

// lose ends the term of a shard; what is worked on in it ends soon.
func (s *Shards) lose(shard int) *term {
	s.mu.Lock()
	t := s.held[shard]
	delete(s.held, shard)
	s.mu.Unlock()
	if t == nil {
		return nil
	}
	t.lost.Store(true)
	t.end()
	s.log.Info("lost a shard", "shard", shard)
	s.moved(shard, false, false)
	return t
}

func (s *Shards) loseAll() {
	for shard := range s.opts.Count {
		s.lose(shard)
	}
}
