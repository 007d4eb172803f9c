package controller

import (
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// firstSight is how long a delivery whose process has just started waits for
// the watch to show what it has delivered before. Then it asks the cluster.
const firstSight = time.Minute

// sight is whether the watch shows what a delivery has in the cluster. Until it
// does, nothing would be known to be as it was applied, and each object of each
// delivery be asked for after a restart.
type sight struct {
	clear bool
	until time.Time
	// why is what has happened meanwhile.
	why reason
}

// sees says whether the watch shows all of the inventory by now, or is not to
// be waited for any longer. While it does not, what comes into view wakes the
// delivery, and the time that is left is in wait; its reasons are kept.
func (e *Engine) sees(m *memory, owner core.Owner, inventory []core.ObjectRef, why *reason, now time.Time) (wait time.Duration, sees bool) {
	s := &m.sight
	if s.clear {
		return 0, true
	}
	if s.until.IsZero() {
		s.until = now.Add(firstSight)
		e.stages.Watcher.Expect(owner, inventory)
	}
	if len(e.stages.Watcher.State(owner)) < len(inventory) && now.Before(s.until) {
		s.why |= *why
		return s.until.Sub(now), false
	}
	*why |= s.why
	*s = sight{clear: true}
	return 0, true
}
