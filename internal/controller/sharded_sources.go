package controller

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Each replica asks the sources for itself, at times of its own, and so the one
// that takes a shard may know less than the one that had it: what it would
// bring out is older than what is there. So the sources are asked once more
// before the shard's deliveries are looked at.

// askTime bounds that: a source that does not answer is one that nobody could
// ask, and the last known artifact is what there is.
const askTime = 4 * time.Second

// openShards are the shards that are ours and whose sources were asked since.
type openShards struct {
	mu sync.Mutex
	// moves counts how often a shard has moved.
	moves map[int]int
	open  map[int]bool
}

// moved closes a shard, and returns which time it is.
func (o *openShards) moved(shard int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.moves, o.open = map[int]int{}, map[int]bool{}
	}
	o.moves[shard]++
	o.open[shard] = false
	return o.moves[shard]
}

// asked opens a shard, unless it has moved since.
func (o *openShards) asked(shard, move int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.moves[shard] == move {
		o.open[shard] = true
	}
}

func (o *openShards) has(shard int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[shard]
}

// looks are when the objects of a kind were last looked at: the time at which
// that began.
type looks struct {
	mu sync.Mutex
	at map[types.NamespacedName]time.Time
}

func (l *looks) note(key types.NamespacedName, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = map[types.NamespacedName]time.Time{}
	}
	l.at[key] = began
}

func (l *looks) forget(key types.NamespacedName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.at, key)
}

func (l *looks) since(key types.NamespacedName, t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.at[key].Before(t)
}

// askSources has all sources asked, and then the charts that are read from
// them. It returns when that is done, or took too long.
func (e *Engine) askSources(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	for _, charts := range []bool{false, true} {
		began := time.Now()
		asked := map[*sharded][]types.NamespacedName{}
		for _, s := range e.sharded {
			if _, chart := s.Reconciler.(*helmCharts); s.visits && chart == charts {
				asked[s] = s.wakeAll(ctx, timerFired)
			}
		}
		if !lookedAt(ctx, asked, began) {
			return
		}
	}
}

// wakeAll wakes all objects of the kind, and returns which they are.
func (s *sharded) wakeAll(ctx context.Context, why reason) []types.NamespacedName {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(s.kind)
	if err := s.engine.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		log.FromContext(ctx).Error(err, "listing the sources of a shard", "kind", s.kind.Kind)
		return nil
	}
	keys := make([]types.NamespacedName, len(list.Items))
	for i := range list.Items {
		keys[i] = client.ObjectKeyFromObject(&list.Items[i])
		s.wake.wake(keys[i], why)
	}
	return keys
}

// lookedAt waits until the objects were looked at by what began after the time.
func lookedAt(ctx context.Context, asked map[*sharded][]types.NamespacedName, began time.Time) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s, keys := range asked {
		for _, key := range keys {
			for !s.looks.since(key, began) {
				select {
				case <-ctx.Done():
					return false
				case <-tick.C:
				}
			}
		}
	}
	return true
}
