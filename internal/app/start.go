package app

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/fairway-cd/fairway/internal/build"
)

// Step is one line of a start's progress.
type Step struct {
	// Name is what was begun; Note says why it may take long.
	Name string `json:"name,omitempty"`
	Note string `json:"note,omitempty"`
	// Ready ends the progress: everything runs.
	Ready bool `json:"ready,omitempty"`
	// Error and Hint end it too.
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// StartError says that the server did not come up.
type StartError struct {
	Msg, hint string
}

func (e *StartError) Error() string { return e.Msg }

// Hint says what to do about it.
func (e *StartError) Hint() string { return e.hint }

// Start runs `fairway serve` for the instance in the background and returns
// when it is ready. It calls progress for each step. A server that runs
// already is left alone, and started is false.
func (i *Instance) Start(ctx context.Context, self string, progress func(Step)) (started bool, err error) {
	if up, err := i.settle(ctx); up || err != nil {
		return false, err
	}
	if err := i.whole(); err != nil {
		return false, err
	}
	if err := i.Save(); err != nil {
		return false, err
	}
	log, err := openLog(i.LogPath())
	if err != nil {
		return false, err
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return false, fmt.Errorf("starting the server: %w", err)
	}
	defer read.Close()
	cmd := exec.Command(self, "serve", "--data", i.dir, "--progress-fd", "3")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{write}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return false, fmt.Errorf("starting the server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		// Interrupted half way: take it all back.
		_ = cmd.Process.Signal(syscall.SIGTERM)
	})
	defer stop()
	if err := i.follow(read, progress); err != nil {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		// Somebody else may have been faster.
		if up, uperr := i.settle(ctx); up && uperr == nil {
			return false, nil
		}
		// Options with which it does not start are not for the next start.
		i.Config = i.kept
		if ctx.Err() != nil {
			err = &StartError{"interrupted; what was started is stopped again", ""}
		}
		return false, errors.Join(err, i.Save())
	}
	return true, cmd.Process.Release()
}

// settleTimeout is how long a server that has the instance may take to start
// or to end before it is taken to be stuck.
const settleTimeout = 2 * time.Minute

// settle waits until the instance is certainly up or certainly not: a server
// that was just killed or stopped still has the lock for a moment, and one
// that was just started by somebody else does not answer yet.
func (i *Instance) settle(ctx context.Context) (up bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		held, err := i.held()
		if err != nil || !held {
			return false, err
		}
		if i.healthy(ctx) {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, &StartError{"a server has " + i.dir + ", but does not answer", "'fairway down' stops it; its log is " + i.LogPath()}
		case <-tick.C:
		}
	}
}

// healthy asks the running server itself.
func (i *Instance) healthy(ctx context.Context) bool {
	if state, err := i.readState(); err != nil || state.Started == "" {
		return false // not ready yet
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.URL()+"/healthz", nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// follow reads steps until the server is ready, or gone.
func (i *Instance) follow(f *os.File, progress func(Step)) error {
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var step Step
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			return fmt.Errorf("reading the server's progress: %w", err)
		}
		switch {
		case step.Error != "":
			return &StartError{step.Error, step.Hint}
		case step.Ready:
			return nil
		default:
			progress(step)
		}
	}
	return &StartError{"the server ended before it was ready:\n" + tail(i.LogPath(), 2000), "its log is " + i.LogPath()}
}

// lock takes the instance for this process.
func (i *Instance) lock() (*flock.Flock, error) {
	if err := os.MkdirAll(i.path("run"), 0o700); err != nil {
		return nil, fmt.Errorf("making the instance's directory: %w", err)
	}
	l := flock.New(i.path("run", "lock"), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", i.dir, err)
	}
	if !ok {
		return nil, &StartError{"another fairway runs on " + i.dir, "'fairway status' says more; 'fairway down' stops it"}
	}
	return l, nil
}

// held says whether a server has the instance.
func (i *Instance) held() (bool, error) {
	_, err := os.Stat(i.path("run", "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for a running server: %w", err)
	}
	l, err := i.lock()
	var taken *StartError
	if errors.As(err, &taken) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, l.Unlock()
}

// Running says whether a server has the instance. Where that cannot be found
// out, as in somebody else's directory, it may.
func (i *Instance) Running() bool {
	held, err := i.held()
	return held || err != nil
}

const (
	// stopTimeout is how long a server has to stop before it is killed.
	stopTimeout = 60 * time.Second
	// introduceTimeout is how long a server may take from taking the instance
	// to saying its process.
	introduceTimeout = 5 * time.Second
)

// Stop ends the server, and cleans up after one that was killed. It returns
// when nothing is left, and says whether one was running.
func (i *Instance) Stop(ctx context.Context) (wasRunning bool, err error) {
	if !i.exists() {
		return false, nil // whatever is in that directory is not ours to clean up
	}
	pid, err := i.serverPID(ctx)
	if err != nil {
		return true, fmt.Errorf("finding the server's process: %w", err)
	}
	if pid != 0 {
		if err := i.end(ctx, pid); err != nil {
			return true, err
		}
	}
	if err := i.cleanNode(ctx); err != nil {
		return pid != 0, err
	}
	if err := (build.Engine{Root: i.path("build")}).Stop(ctx); err != nil {
		return pid != 0, err
	}
	return pid != 0, os.RemoveAll(i.path("run"))
}

// exists says whether the directory is an instance's: it has a configuration,
// or what a server says of itself.
func (i *Instance) exists() bool {
	for _, path := range []string{i.path(configName), i.statePath()} {
		// Lstat: what a link leads to is not ours.
		if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// serverPID is the process that has the instance, 0 if none has. One that just
// began has not said yet who it is.
func (i *Instance) serverPID(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, introduceTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		held, err := i.held()
		if err != nil || !held {
			return 0, err
		}
		state, err := i.readState()
		if err == nil && state.PID > 0 {
			return state.PID, nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(fmt.Errorf("a process has %s, but does not say which", i.path("run", "lock")), err)
		case <-tick.C:
		}
	}
}

// end asks the process to stop and waits until the instance's lock is free.
func (i *Instance) end(ctx context.Context, pid int) error {
	process, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("finding the server's process: %w", err)
	}
	if err := process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the server: %w", err)
	}
	stopping, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if i.free(stopping) {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing the server, which did not stop: %w", err)
	}
	killed, cancel := context.WithTimeout(ctx, introduceTimeout)
	defer cancel()
	if !i.free(killed) {
		return fmt.Errorf("process %d was killed, but does not end", pid)
	}
	return nil
}

// free waits until nobody has the instance, and says whether that came true.
func (i *Instance) free(ctx context.Context) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i.Running() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// cleanNode removes what a real node may have left: namespaces, links, mounts.
func (i *Instance) cleanNode(ctx context.Context) error {
	dir := i.path("node")
	if _, err := os.Stat(dir); err != nil {
		return nil
	}
	program, err := ClusterProgram()
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, program, "node", "cleanup", "--data", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cleaning up the node: %w: %s", err, out)
	}
	return nil
}

// ProgressWriter writes steps for Start to read on the file descriptor fd; 0
// is nowhere.
func ProgressWriter(fd int) (func(Step), error) {
	if fd == 0 {
		return func(Step) {}, nil
	}
	f := os.NewFile(uintptr(fd), "progress "+strconv.Itoa(fd))
	if f == nil {
		return nil, fmt.Errorf("no file descriptor %d to write the progress to", fd)
	}
	enc := json.NewEncoder(f)
	return func(s Step) {
		// Whoever started us may be gone; that is no reason to stop.
		_ = enc.Encode(s)
		if s.Ready || s.Error != "" {
			_ = f.Close()
		}
	}, nil
}

// Self is the path of the running binary.
func Self() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding our own binary: %w", err)
	}
	return filepath.EvalSymlinks(self)
}
