package drift

import (
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
)

// Forgetful makes the watcher as if its watch had missed all that happened to
// an object after its first version.
func (c *Cluster) Forgetful(ref core.ObjectRef) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := *c.find(ref)
	old.version, old.drift = 1, None
	c.kinds[groupKindOf(ref)].objects[kube.Key{Namespace: ref.Namespace, Name: ref.Name}] = &old
}

// WithResync sets how often everything is listed.
func WithResync(every time.Duration) Option { return func(c *Cluster) { c.resync = every } }

// WithGrace sets how long a watch may lag.
func WithGrace(d time.Duration) Option { return func(c *Cluster) { c.grace = d } }
