package inside

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// stopTimeout is how long a daemon may take to end before it is killed.
	stopTimeout = 5 * time.Second
)

// daemon is a program that is to run all the time.
type daemon struct {
	name string
	args []string
	env  []string
}

// run keeps the daemon running until ctx ends: it starts it again when it has
// ended, sooner the longer it had lived, and stops it at the end.
func (d daemon) run(ctx context.Context, r *reaper) error {
	out, err := os.OpenFile(filepath.Join(LogDir, d.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("opening the log of %s: %w", d.name, err)
	}
	defer out.Close()
	backoff := firstBackoff
	for {
		started := time.Now()
		pid, ended, err := r.start(d.args, d.env, out)
		if err != nil {
			return err
		}
		select {
		case status := <-ended:
			slog.WarnContext(ctx, "daemon ended", "daemon", d.name, "exitCode", status.ExitStatus(), "signal", status.Signal(), "after", time.Since(started))
		case <-ctx.Done():
			stop(pid, ended)
			return nil
		}
		if time.Since(started) > lastBackoff {
			backoff = firstBackoff
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

func stop(pid int, ended <-chan unix.WaitStatus) {
	_ = unix.Kill(pid, unix.SIGTERM)
	select {
	case <-ended:
	case <-time.After(stopTimeout):
		_ = unix.Kill(pid, unix.SIGKILL)
		<-ended
	}
}
