package render

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
)

// PoolOptions say how a Pool renders. The zero value of a field is its
// default.
type PoolOptions struct {
	// Command runs ServeWorker; this program with the argument WorkerCommand.
	// It gets no environment of ours.
	Command []string
	// Workers is how many jobs run at a time; as many as processors.
	Workers int
	// Timeout is for one job, the time in the queue not counted; 60 s.
	Timeout time.Duration
	// CPUTime is what one job may take of the processors; Timeout.
	CPUTime time.Duration
	// MemoryBytes is the resident memory of a worker; 1 GiB.
	MemoryBytes int64
	// MaxJobs is after how many jobs a worker is replaced; 1000.
	MaxJobs int
	// MaxIdle is after how long without a job a worker ends, but for the one
	// that is kept warm; 10 s.
	MaxIdle time.Duration
	// Limits are the job's own.
	Limits
}

func (o PoolOptions) withDefaults() PoolOptions {
	if len(o.Command) == 0 {
		// It leads to this program's file whoever the worker is and wherever
		// the file lies, even if that was replaced since.
		o.Command = []string{"/proc/self/exe", WorkerCommand}
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.CPUTime <= 0 {
		o.CPUTime = o.Timeout
	}
	if o.MemoryBytes <= 0 {
		o.MemoryBytes = 1 << 30
	}
	if o.MaxJobs <= 0 {
		o.MaxJobs = 1000
	}
	if o.MaxIdle <= 0 {
		o.MaxIdle = 10 * time.Second
	}
	o.Limits = o.Limits.withDefaults()
	return o
}

// Pool renders in worker processes, which are started once and restricted for
// good. What a job does to its worker (endless time, memory, recursion) ends
// the job with an *Error (LimitExceeded) and replaces the worker; other jobs
// do not notice.
type Pool struct {
	opts  PoolOptions
	slots chan struct{} // a token for each running job
	start chan startRequest
	done  chan struct{}
	once  sync.Once

	mu        sync.Mutex
	idle      []*process
	closed    bool
	isolation Isolation
}

var _ Renderer = (*Pool)(nil)

// Isolation says what separates workers from the machine.
type Isolation struct {
	// Network: an own network namespace, which has no interface that is up.
	Network bool
	// User: the user nobody.
	User bool
	// Limits: no core dumps, no growing files, few descriptors.
	Limits bool
	// Seccomp: opening a file, making a socket and running a program fail.
	Seccomp bool
}

// NewPool makes a Pool. It starts workers as they are needed; Run starts one
// ahead. Close ends them.
func NewPool(opts PoolOptions) *Pool {
	opts = opts.withDefaults()
	p := &Pool{
		opts: opts, slots: make(chan struct{}, opts.Workers),
		start: make(chan startRequest), done: make(chan struct{}),
	}
	go p.starter()
	return p
}

// Run starts a worker ahead, ends those that are idle, and closes the pool
// when ctx ends.
func (p *Pool) Run(ctx context.Context) error {
	defer p.Close()
	w, err := p.take(ctx)
	if err != nil {
		return err
	}
	logr.FromContextOrDiscard(ctx).Info("render workers are ready", "most", p.opts.Workers, "isolation", p.Isolation())
	p.give(w)
	tick := time.NewTicker(p.opts.MaxIdle / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			p.reap(time.Now().Add(-p.opts.MaxIdle))
		}
	}
}

// reap ends the workers that are idle since before then, but for the one that
// was used last.
func (p *Pool) reap(then time.Time) {
	p.mu.Lock()
	n := 0 // the longest idle come first
	for n < len(p.idle)-1 && p.idle[n].idle.Before(then) {
		n++
	}
	ended := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.mu.Unlock()
	for _, w := range ended {
		w.kill()
	}
}

// Close ends all workers. Renders that run fail.
func (p *Pool) Close() {
	p.once.Do(func() { close(p.done) })
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, w := range idle {
		w.kill()
	}
}

// Isolation is that of the worker that was started last.
func (p *Pool) Isolation() Isolation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.isolation
}

// ErrClosed says that a Pool is closed.
var ErrClosed = errors.New("the render pool is closed")

// Render implements Renderer. It waits for a free worker.
func (p *Pool) Render(ctx context.Context, req Request) (result *Result, err error) {
	onErr := p.on(ctx, func(w *process) (healthy bool) {
		result, err, healthy = p.render(ctx, w, req)
		return healthy
	})
	if onErr != nil {
		return nil, onErr
	}
	if e := asError(err); e != nil && e.Path == "" && e.Reason == LimitExceeded {
		// A worker that was killed cannot say at which file it was.
		e.Path = req.Path
	}
	return result, err
}

// on waits for a free worker and has run use it, which says whether it can be
// used again.
func (p *Pool) on(ctx context.Context, run func(*process) (healthy bool)) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	case <-p.done:
		return ErrClosed
	}
	w, err := p.take(ctx)
	if err != nil {
		return err
	}
	if run(w) {
		p.give(w)
	} else {
		w.kill()
	}
	return nil
}

// take returns an idle worker that lives, or starts one.
func (p *Pool) take(ctx context.Context) (*process, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, ErrClosed
		}
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return p.spawn(ctx)
		}
		w := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if w.alive() {
			return w, nil
		}
		w.kill()
	}
}

// give keeps a worker for the next job, if it is still good for one.
func (p *Pool) give(w *process) {
	memory, _, err := usage(w.pid())
	w.idle = time.Now()
	tired := w.jobs >= p.opts.MaxJobs || err == nil && memory > p.opts.MemoryBytes/2
	p.mu.Lock()
	if !p.closed && !tired {
		p.idle = append(p.idle, w)
		w = nil
	}
	p.mu.Unlock()
	if w != nil {
		w.kill()
	}
}

// render runs one job on w. Where healthy is false, w cannot be used again.
func (p *Pool) render(ctx context.Context, w *process, req Request) (result *Result, err error, healthy bool) {
	jobCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSession(jobCtx, req, p.opts.Limits)
	guard := p.watch(jobCtx, cancel, w)
	done, err := p.talk(w, s, req)
	reason := guard.stop()
	w.jobs++
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err(), false
	case s.failure != nil && jobCtx.Err() == nil:
		return nil, fmt.Errorf("read the source: %w", s.failure), err == nil
	case reason != nil: // which also ends what is being read
		return nil, reason, false
	case err != nil:
		return nil, p.died(w, err), false
	case done.Error != nil:
		return nil, done.Error.err(), true
	case done.Failed != "":
		return nil, fmt.Errorf("render in a worker: %s", done.Failed), true
	}
	if err := s.verify(done.Inputs); err != nil {
		return nil, err, false
	}
	result, err = p.result(req, done)
	if err == nil {
		result.Decrypted = s.decrypted
	}
	return result, err, true
}

// talk sends the job and answers questions until the job is done.
func (p *Pool) talk(w *process, s *session, req Request) (*doneMessage, error) {
	job := &jobMessage{
		Path: req.Path, Refs: sortedKeys(req.Refs), Tool: req.Tool, Plain: req.Plain,
		Kustomize: req.Kustomize, Helm: req.Helm, Limits: p.opts.Limits,
		Decrypt: req.Decrypt != nil,
	}
	if req.Release != nil {
		job.Release = &releaseMessage{req.Release.Revision, req.Release.Upgrade, req.looksUp()}
	}
	if err := w.conn.send(&toWorker{Job: job}); err != nil {
		return nil, err
	}
	for {
		var m toPool
		if err := w.conn.receive(&m); err != nil {
			return nil, err
		}
		switch {
		case m.Done != nil:
			return m.Done, nil
		case m.Query != nil:
			answer, err := s.answer(m.Query)
			if err != nil {
				return nil, err
			}
			if err := w.conn.send(&toWorker{Answer: answer}); err != nil {
				return nil, err
			}
		default:
			return nil, errors.New("the worker sent an empty message")
		}
	}
}

// died explains why there is no answer. A worker that ends by itself has
// overflowed its stack or got no more memory, which trying again repeats.
func (p *Pool) died(w *process, err error) error {
	select {
	case <-p.done:
		return ErrClosed
	default:
	}
	var frame *frameError
	if errors.As(err, &frame) {
		return NewError(LimitExceeded, "", 0, "the result is larger than %d bytes", frame.limit)
	}
	w.kill()
	return NewError(LimitExceeded, "", 0, "rendering ended its process (%s): a recursion without end, or too much memory", w.ended()).
		WithHint("look for a template that includes itself, or for values that grow in a loop")
}

func (p *Pool) result(req Request, done *doneMessage) (*Result, error) {
	objects, err := decodeObjects(done.Objects)
	if err != nil {
		return nil, err
	}
	result := &Result{
		Objects: objects, Release: done.Release, Tool: done.Tool, Uncacheable: done.Uncacheable,
		Inputs: done.Inputs, Warnings: done.Warnings, Took: done.Took, ClearSecrets: done.ClearSecrets,
	}
	if result.Uncacheable == "" {
		result.Key = key(req, result.Inputs)
	}
	return result, nil
}

func decodeObjects(encoded [][]byte) ([]*unstructured.Unstructured, error) {
	objects := make([]*unstructured.Unstructured, len(encoded))
	for i, data := range encoded {
		o := &unstructured.Unstructured{}
		if err := json.Unmarshal(data, &o.Object); err != nil {
			return nil, fmt.Errorf("decode an object: %w", err)
		}
		objects[i] = o
	}
	return objects, nil
}
