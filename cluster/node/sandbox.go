package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/cluster/node/inside"
)

// stopTimeout is how long process 1 may take to stop what it runs: containers,
// then containerd.
const stopTimeout = 20 * time.Second

// sandbox is the node's namespaces and their process 1, which waits for its
// configuration. While it has none it does nothing.
type sandbox struct {
	cmd    *exec.Cmd
	config *os.File
	done   chan error
}

func namespaces() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		// With process 1 all others of its PID namespace die, and with them
		// mounts, links and routes: also when this process is killed.
		Pdeathsig: unix.SIGKILL,
	}
}

func startSandbox(log *os.File) (*sandbox, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe to the node: %w", err)
	}
	defer read.Close()
	s := &sandbox{config: write, done: make(chan error, 1)}
	s.cmd = exec.Command("/proc/self/exe", "node", "init")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.ExtraFiles = []*os.File{read}
	s.cmd.SysProcAttr = namespaces()
	started := make(chan error, 1)
	go func() {
		// The signal comes when the thread that started the child ends, not the
		// process: this thread has to last.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			s.done <- s.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		write.Close()
		return nil, fmt.Errorf("making the node's namespaces: %w", err)
	}
	return s, nil
}

func (s *sandbox) pid() int { return s.cmd.Process.Pid }

// configure tells process 1 to go on.
func (s *sandbox) configure(c inside.Config) error {
	if err := errors.Join(json.NewEncoder(s.config).Encode(c), s.config.Close()); err != nil {
		return fmt.Errorf("configuring the node: %w", err)
	}
	return nil
}

// SandboxError is returned when the node's process 1 ended by itself.
type SandboxError struct{ Err error }

func (e *SandboxError) Error() string {
	return fmt.Sprintf("the node's first process ended: %v", e.Err)
}

func (e *SandboxError) Unwrap() error { return e.Err }

// run waits for process 1; when ctx ends it stops it.
func (s *sandbox) run(ctx context.Context) error {
	select {
	case err := <-s.done:
		if err == nil {
			err = errors.New("exit status 0")
		}
		return &SandboxError{Err: err}
	case <-ctx.Done():
	}
	_ = s.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(stopTimeout):
		s.kill()
	}
	return nil
}

// kill ends the node at once.
func (s *sandbox) kill() {
	s.config.Close()
	_ = s.cmd.Process.Kill()
	<-s.done
}
