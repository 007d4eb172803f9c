package git

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// outbox delivers what happened in repositories: at once when woken, again
// with back-off where a delivery failed, in order within a repository.
type outbox struct {
	deliver func(context.Context, core.RefUpdate) error
	log     *slog.Logger
	// slots bounds how many repositories are read at the same time.
	slots chan struct{}

	mu sync.Mutex
	// jobs holds the repositories that have something to do.
	jobs map[*repository]*job
	// ctx is Run's while it runs.
	ctx     context.Context
	workers sync.WaitGroup
}

// job is what is to be looked at in a repository: the named references, or
// all of them. A worker takes it and goes on until it is empty.
type job struct {
	all     bool
	refs    []string
	running bool
}

const (
	outboxSlots = 16
	minBackoff  = 50 * time.Millisecond
	maxBackoff  = 30 * time.Second
)

func newOutbox(deliver func(context.Context, core.RefUpdate) error, log *slog.Logger) *outbox {
	return &outbox{deliver: deliver, log: log, slots: make(chan struct{}, outboxSlots), jobs: map[*repository]*job{}}
}

// wake has the references looked at; all of them where none are named. Before
// Run it is remembered.
func (o *outbox) wake(r *repository, refs ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	j := o.jobs[r]
	if j == nil {
		j = &job{}
		o.jobs[r] = j
	}
	if len(refs) == 0 {
		j.all = true
	} else {
		j.refs = append(j.refs, refs...)
	}
	o.start(r, j)
}

// start gives the job a worker. The caller holds o.mu.
func (o *outbox) start(r *repository, j *job) {
	if j.running || o.ctx == nil || o.deliver == nil {
		return
	}
	j.running = true
	ctx := o.ctx
	o.workers.Go(func() { o.work(ctx, r, j) })
}

// run lets workers work until ctx ends, and returns when the last has stopped.
func (o *outbox) run(ctx context.Context) {
	o.mu.Lock()
	o.ctx = ctx
	for r, j := range o.jobs {
		o.start(r, j)
	}
	o.mu.Unlock()
	<-ctx.Done()
	o.mu.Lock()
	o.ctx = nil
	o.mu.Unlock()
	o.workers.Wait()
}

// work does a repository's job until nothing is left of it.
func (o *outbox) work(ctx context.Context, r *repository, j *job) {
	backoff := minBackoff
	for {
		o.mu.Lock()
		all, refs := j.all, j.refs
		if ctx.Err() != nil || r.gone.Load() || !all && len(refs) == 0 {
			j.running = false
			if r.gone.Load() || !all && len(refs) == 0 {
				delete(o.jobs, r)
			}
			o.mu.Unlock()
			return
		}
		j.all, j.refs = false, nil
		o.mu.Unlock()

		if all {
			refs = nil
		} else {
			slices.Sort(refs)
			refs = slices.Compact(refs)
		}
		err := o.drain(ctx, r, refs)
		if err == nil {
			backoff = minBackoff
			continue
		}
		o.mu.Lock()
		j.all = j.all || all
		j.refs = append(j.refs, refs...)
		o.mu.Unlock()
		if ctx.Err() == nil && !r.gone.Load() {
			o.log.Warn("Delivering reference updates failed, trying again", "repository", r.String(), "after", backoff, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// drain delivers what happened to the references, and ticks each event off.
func (o *outbox) drain(ctx context.Context, r *repository, refs []string) (err error) {
	r.mu.Lock()
	events, err := r.scan(refs)
	r.mu.Unlock()
	if err != nil || len(events) == 0 {
		return err
	}
	select {
	case o.slots <- struct{}{}:
		defer func() { <-o.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	unsaved := 0
	defer func() {
		if unsaved > 0 {
			r.mu.Lock()
			serr := r.cursor.save()
			r.mu.Unlock()
			if err == nil {
				err = serr
			}
		}
	}()
	for _, e := range events {
		if err := r.followHead(e.RefUpdate); err != nil {
			o.log.Warn("Letting HEAD follow the first branch failed", "repository", r.String(), "error", err)
		}
		if err := o.deliver(ctx, e.RefUpdate); err != nil {
			return err
		}
		r.mu.Lock()
		r.cursor.Refs[e.Ref] = &e.next
		delete(r.cursor.Deleting, e.Ref)
		unsaved++
		// Saving costs as much as there are references; with many of them, a
		// few deliveries share it.
		if unsaved > len(r.cursor.Refs)/256 {
			unsaved, err = 0, r.cursor.save()
		}
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}
