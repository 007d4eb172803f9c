package app

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/controller"
)

// gate are the shards of an instance that is paused: none is ours until it is
// resumed, and then all are. Meanwhile sources are read, and nothing is
// delivered and no status written.
type gate struct {
	inst *Instance
	// resumed is told once that it goes on.
	resumed func()
	hangups chan os.Signal
	open    atomic.Bool
	moved   func(shard int, ours, settle bool)
}

var _ controller.Shards = (*gate)(nil)

// newGate listens from now on: a signal that nobody listens for ends a process.
func newGate(inst *Instance, resumed func()) *gate {
	g := &gate{inst: inst, resumed: resumed, hangups: make(chan os.Signal, 1)}
	signal.Notify(g.hangups, syscall.SIGHUP)
	return g
}

// Run implements controller.Shards. At each SIGHUP it reads whether the
// instance is still to be paused.
func (g *gate) Run(ctx context.Context) error {
	defer signal.Stop(g.hangups)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.hangups:
		}
		switch now, err := OpenInstance(g.inst.dir); {
		case err != nil:
			slog.Error("reading whether the instance is paused", "error", err)
		case !now.Config.Paused && !g.open.Swap(true):
			slog.Info("resumed: deliveries begin")
			g.resumed()
			g.moved(0, true, false)
		}
	}
}

// Of implements controller.Shards: there is one.
func (g *gate) Of(types.UID) int { return 0 }

// Enter implements controller.Shards. What was resumed is not paused again
// before it ends.
func (g *gate) Enter(ctx context.Context, _ types.UID) (context.Context, func(), bool) {
	return ctx, func() {}, g.open.Load()
}

// Moved implements controller.Shards.
func (g *gate) Moved(moved func(shard int, ours, settle bool)) { g.moved = moved }

// Resume has a paused instance deliver, at once where it runs and else from the
// next start on. That it was not paused is no error.
func (i *Instance) Resume(ctx context.Context) (was bool, err error) {
	up, err := i.settle(ctx)
	if err != nil {
		return false, err
	}
	now, err := OpenInstance(i.dir) // a server that has just started has written it
	if err != nil || !now.Config.Paused {
		return false, err
	}
	now.Config.Paused = false
	if err := now.Save(); err != nil {
		return true, err
	}
	if !up {
		return true, nil
	}
	pid, err := i.serverPID(ctx)
	if err != nil || pid == 0 {
		return true, err
	}
	return true, syscall.Kill(pid, syscall.SIGHUP)
}
