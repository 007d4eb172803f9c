package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// child is a process of ours that is kept running: started again, with
// growing pauses, whenever it ends.
type child struct {
	name    string
	args    []string // args[0] is the program
	logPath string
	// stopTimeout is how long it has after SIGTERM before SIGKILL.
	stopTimeout time.Duration
	// began is told of each start, with the process, and exited of each end;
	// both may be nil.
	began  func(pid int)
	exited func(error)
}

const (
	childBackoffMin = 200 * time.Millisecond
	childBackoffMax = 10 * time.Second
	// A child that ran this long is taken to have been well.
	childWell = 30 * time.Second
)

// Run keeps the child running until ctx ends, and then stops it.
func (c *child) Run(ctx context.Context) error {
	backoff := childBackoffMin
	for {
		began := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if c.exited != nil {
			c.exited(err)
		}
		if time.Since(began) > childWell {
			backoff = childBackoffMin
		}
		slog.Error("child process ended; starting it again", "child", c.name, "error", err, "in", backoff, "log", c.logPath)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, childBackoffMax)
	}
}

// once runs the child until it ends or ctx does.
func (c *child) once(ctx context.Context) error {
	log, err := openLog(c.logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own, so that a Ctrl-C at the terminal reaches the server,
	// which then stops its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = c.stopTimeout
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", c.name, err)
	}
	if c.began != nil {
		c.began(cmd.Process.Pid)
	}
	return cmd.Wait()
}

// ClusterProgram finds the embedded cluster's binary: FAIRWAY_CLUSTER, else
// fairway-cluster beside our own binary, else on PATH.
func ClusterProgram() (string, error) {
	if path := os.Getenv("FAIRWAY_CLUSTER"); path != "" {
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		path := filepath.Join(filepath.Dir(self), "fairway-cluster")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath("fairway-cluster")
	if errors.Is(err, exec.ErrNotFound) {
		return "", &MissingClusterError{}
	}
	return path, err
}

// MissingClusterError says that the embedded cluster's binary is not there.
type MissingClusterError struct{}

func (*MissingClusterError) Error() string {
	return "the embedded cluster's binary, fairway-cluster, is not there"
}

// Hint says what to do about it.
func (*MissingClusterError) Hint() string {
	return "build it with 'make build', or use a cluster of yours with --kubeconfig FILE"
}
