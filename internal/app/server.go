package app

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Server is a running instance: the only place where the stages meet.
type Server struct {
	inst     *Instance
	progress func(Step)

	mu    sync.Mutex
	state State
}

// NewServer makes a server for the instance. progress is told each step of
// the start.
func NewServer(inst *Instance, progress func(Step)) *Server {
	return &Server{inst: inst, progress: progress}
}

// Run starts everything, serves until ctx ends, and stops in order: engine
// and listeners, then the node, then the control plane.
func (s *Server) Run(ctx context.Context) error {
	lock, err := s.inst.lock()
	if err != nil {
		return err
	}
	// The kernel lets go of it at the latest when the process ends.
	defer func() { _ = lock.Unlock() }()
	if err := s.inst.whole(); err != nil {
		return err
	}
	defer os.Remove(s.inst.statePath())
	s.update(func(st *State) { st.PID = os.Getpid() })
	if err := s.inst.choosePorts(ctx); err != nil {
		return err
	}

	// What others stand on outlives them: it ends by its own stop, in the
	// reverse order of the start.
	base := context.WithoutCancel(ctx)
	defer runInBackground(base, func(ctx context.Context) error {
		return s.inst.keepLogs(ctx, maxLog, logCheck)
	})()
	cluster, err := s.startCluster(ctx, base)
	if err != nil {
		return err
	}
	defer cluster.stop()

	st, err := s.prepare(ctx, cluster)
	if err != nil {
		return err
	}
	defer st.close()

	node, err := s.startNode(ctx, base, st)
	if err != nil {
		return err
	}
	defer node.stop()

	err = together(ctx, func(ctx context.Context, group *errgroup.Group) error {
		if err := s.serve(ctx, group, st, node); err != nil {
			return err
		}
		s.update(func(st *State) {
			st.Started = time.Now().UTC().Format(time.RFC3339)
		})
		s.progress(Step{Ready: true})
		slog.Info("fairway is up", "url", s.inst.URL(), "version", Version)
		return nil
	})
	slog.Info("fairway is stopping", "cause", context.Cause(ctx), "error", err)
	return err
}

// together runs what start puts into a group until ctx ends or one of it fails,
// be it start itself. It returns when all of it has ended.
func together(ctx context.Context, start func(context.Context, *errgroup.Group) error) error {
	group, ctx := errgroup.WithContext(ctx)
	if err := start(ctx, group); err != nil {
		group.Go(func() error { return err }) // ends the others
	}
	return group.Wait()
}

// update changes what the server says of itself. That it cannot be written is
// logged: the server goes on, and status says what was true last.
func (s *Server) update(change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
	if err := s.inst.writeState(s.state); err != nil {
		slog.Error("writing the state for 'fairway status'", "error", err)
	}
}
