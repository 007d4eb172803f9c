package drift

import (
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
)

// foreignGrace is how long the answer to a write of ours may come after the
// watch has shown it.
const foreignGrace = time.Second

// noteForeign compares what the watch shows with what was there: who writes
// another manifest, with all the evidence of an apply of ours, has drifted from
// nothing that the object tells. It may be another Fairway that delivers to the
// same cluster, or one of ours that was not told of here yet.
func (k *kind) noteForeign(key kube.Key, old, p *projection) {
	if old == nil || old.digest == "" || p.digest == "" {
		return
	}
	p.foreign = old.foreign
	if old.digest == p.digest {
		return
	}
	p.foreign = true
	time.AfterFunc(foreignGrace, func() { k.tellForeign(key) })
}

func (k *kind) tellForeign(key kube.Key) {
	k.cluster.mu.Lock()
	defer k.cluster.mu.Unlock()
	if p := k.objects[key]; p == nil || !p.foreign {
		return
	}
	for _, owner := range k.cluster.watchers[k.key(key)] {
		k.cluster.queue.add(owner)
	}
}

// Foreign implements Watcher.
func (c *Cluster) Foreign(owner core.Owner) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ref := range c.expected[owner] {
		if p := c.find(ref); p != nil && p.foreign {
			return true
		}
	}
	return false
}
