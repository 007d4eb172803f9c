package drift

import (
	"context"

	"github.com/fairway-cd/fairway/internal/core"
)

// queue holds the owners that are to be announced, each once, in the order of
// their first change. It is guarded by the Cluster's mutex.
type queue struct {
	order   []core.Owner
	waiting map[core.Owner]bool
	filled  chan struct{}
}

func (q *queue) add(owner core.Owner) {
	if !q.waiting[owner] {
		q.waiting[owner] = true
		q.order = append(q.order, owner)
		wake(q.filled)
	}
}

func (q *queue) take() (core.Owner, bool) {
	if len(q.order) == 0 {
		return core.Owner{}, false
	}
	owner := q.order[0]
	q.order = q.order[1:]
	delete(q.waiting, owner)
	return owner, true
}

// announce hands the queue to whoever receives.
func (c *Cluster) announce(ctx context.Context) error {
	for {
		c.mu.Lock()
		owner, ok := c.queue.take()
		c.mu.Unlock()
		if !ok {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.queue.filled:
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c.changes <- owner:
		}
	}
}
