package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// sandbox is one way to start a worker.
type sandbox struct {
	attr      *syscall.SysProcAttr
	isolation Isolation
}

// startTimeout is how long a worker may take to greet.
const startTimeout = 30 * time.Second

// watchEvery is how often a running job's memory and time are looked at.
const watchEvery = 20 * time.Millisecond

// process is a worker, as the pool sees it.
type process struct {
	cmd    *exec.Cmd
	pipes  []io.Closer
	conn   *conn
	jobs   int
	idle   time.Time     // since when it has nothing to do
	exited chan struct{} // closed when the process is gone
	once   sync.Once
}

func (w *process) pid() int { return w.cmd.Process.Pid }

func (w *process) alive() bool {
	select {
	case <-w.exited:
		return false
	default:
		return true
	}
}

// kill ends the worker and waits until it is gone.
func (w *process) kill() {
	w.once.Do(func() {
		if w.alive() {
			killGroup(w.pid())
		}
		<-w.exited
		for _, pipe := range w.pipes {
			_ = pipe.Close()
		}
	})
	<-w.exited
}

// ended says how a process that is gone has ended.
func (w *process) ended() string { return w.cmd.ProcessState.String() }

type startRequest struct {
	result chan<- startResult
}

type startResult struct {
	process *process
	err     error
}

// starter starts processes, all of them from one thread that lives as long as
// the pool does: their death signal comes with the end of that thread.
func (p *Pool) starter() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case r := <-p.start:
			w, err := p.startProcess()
			r.result <- startResult{w, err}
		case <-p.done:
			return
		}
	}
}

// spawn starts a worker and waits until it is ready.
func (p *Pool) spawn(ctx context.Context) (*process, error) {
	result := make(chan startResult, 1)
	select {
	case p.start <- startRequest{result}:
	case <-p.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	started := <-result
	if started.err != nil {
		return nil, started.err
	}
	return started.process, p.greet(started.process)
}

// startProcess starts a worker in the strictest sandbox that works here.
func (p *Pool) startProcess() (*process, error) {
	var errs []error
	for _, s := range sandboxes() {
		w, err := p.startIn(s)
		if err == nil {
			p.mu.Lock()
			p.isolation = s.isolation
			p.mu.Unlock()
			return w, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("start a render worker: %w", errors.Join(errs...))
}

func (p *Pool) startIn(s sandbox) (*process, error) {
	cmd := exec.Command(p.opts.Command[0], p.opts.Command[1:]...)
	cmd.SysProcAttr = s.attr
	cmd.Dir = "/"
	cmd.Env = []string{
		"GOMEMLIMIT=" + strconv.FormatInt(p.opts.MemoryBytes/4*3, 10),
		"GOGC=200", "GOMAXPROCS=2", "GOTRACEBACK=none",
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	w := &process{
		cmd: cmd, pipes: []io.Closer{stdin, stdout}, exited: make(chan struct{}),
		conn: newConn(stdout, stdin, p.opts.MaxOutputBytes+p.opts.MaxFileBytes+maxControl),
	}
	go func() {
		// Wait would close stdout under a reader; the process' end is enough.
		state, err := cmd.Process.Wait()
		if err == nil {
			cmd.ProcessState = state
		}
		close(w.exited)
	}()
	return w, nil
}

// greet waits for the worker's hello.
func (p *Pool) greet(w *process) error {
	timer := time.AfterFunc(startTimeout, func() { killGroup(w.pid()) })
	defer timer.Stop()
	var m toPool
	err := w.conn.receive(&m)
	if err == nil && m.Hello == nil {
		err = errors.New("it said something else than hello")
	}
	if err != nil {
		w.kill()
		return fmt.Errorf("start a render worker: it ended before it was ready (%s): %w", w.ended(), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.isolation.Limits, p.isolation.Seccomp = m.Hello.Limits, m.Hello.Seccomp
	return nil
}

// guard watches a job and kills its worker when it goes over a limit.
type guard struct {
	quit   chan struct{}
	reason chan error
}

// watch also ends what the pool itself does for the job, by cancel.
func (p *Pool) watch(ctx context.Context, cancel context.CancelFunc, w *process) *guard {
	g := &guard{quit: make(chan struct{}), reason: make(chan error, 1)}
	_, before, _ := usage(w.pid())
	go func() {
		err := p.watchUntil(ctx, w, before, g.quit)
		if err != nil {
			cancel()
		}
		g.reason <- err
	}()
	return g
}

// stop ends the watch and returns why the worker was killed, or nil.
func (g *guard) stop() error {
	close(g.quit)
	return <-g.reason
}

func (p *Pool) watchUntil(ctx context.Context, w *process, before time.Duration, quit <-chan struct{}) error {
	timeout := time.NewTimer(p.opts.Timeout)
	defer timeout.Stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-quit:
			return nil
		case <-ctx.Done():
			w.kill()
			return ctx.Err()
		case <-p.done:
			w.kill()
			return ErrClosed
		case <-timeout.C:
			w.kill()
			return NewError(LimitExceeded, "", 0, "rendering took longer than %s", p.opts.Timeout)
		case <-tick.C:
		}
		memory, cpu, err := usage(w.pid())
		if err != nil {
			continue // it is ending, which the reader sees
		}
		if memory > p.opts.MemoryBytes {
			w.kill()
			return NewError(LimitExceeded, "", 0, "rendering took more than %d MiB of memory", p.opts.MemoryBytes>>20)
		}
		if cpu-before > p.opts.CPUTime {
			w.kill()
			return NewError(LimitExceeded, "", 0, "rendering took more than %s of processor time", p.opts.CPUTime)
		}
	}
}
