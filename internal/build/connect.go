package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/buildkit/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// EngineCommand is what our own program is started with to be an engine.
const EngineCommand = "build-engine"

// Engine is where the engine of a directory is, and how it is started.
type Engine struct {
	// Root is the engine's directory.
	Root string
	// Program is our own, which is started as the engine.
	Program string
	// Args follow EngineCommand and the root.
	Args []string
}

// socket is the name of the engine's socket below its root.
const socket = "engine.sock"

// startTimeout is what an engine has to answer after it was started.
const startTimeout = 20 * time.Second

// Connect returns a client of the engine, which is started where none answers.
// It outlives us, and ends by itself when nobody needs it any more.
func (e Engine) Connect(ctx context.Context) (*client.Client, error) {
	const tries = 3
	for try := 1; ; try++ {
		c, err := e.connect(ctx)
		// The socket of one that is just ending takes connections still.
		if err == nil || status.Code(err) != codes.Unavailable || try == tries {
			return c, err
		}
	}
}

func (e Engine) connect(ctx context.Context) (*client.Client, error) {
	path := filepath.Join(e.Root, socket)
	if !answers(path) {
		if err := e.start(ctx, path); err != nil {
			return nil, err
		}
	}
	c, err := client.New(ctx, "unix://"+path)
	if err != nil {
		return nil, fmt.Errorf("connect to the build engine: %w", err)
	}
	if _, err := c.Info(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to the build engine: %w", err)
	}
	return c, nil
}

func answers(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// start starts the engine and waits until it answers. A client that dialed
// before would wait for a second before it tried again.
func (e Engine) start(ctx context.Context, path string) error {
	if err := os.MkdirAll(e.Root, 0o700); err != nil {
		return fmt.Errorf("make the directory of the build engine: %w", err)
	}
	logPath := filepath.Join(e.Root, "engine.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of the build engine: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(e.Program, append([]string{EngineCommand, "--root", e.Root}, e.Args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no Ctrl-C of a build's
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the build engine: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("it did not answer in time"))
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			_ = cmd.Process.Kill()
			return &EngineError{Log: logPath, Err: context.Cause(ctx)}
		case err := <-ended:
			// Another one may have been faster, and is about to answer.
			if lock := flock.New(filepath.Join(e.Root, "lock")); free(lock) {
				return &EngineError{Log: logPath, Err: err}
			}
		case <-time.After(5 * time.Millisecond):
			if answers(path) {
				return nil
			}
		}
	}
}

// free says whether nobody has the lock.
func free(lock *flock.Flock) bool {
	ok, err := lock.TryLock()
	if ok {
		_ = lock.Unlock()
	}
	return ok || err != nil
}

// EngineError says that the build engine cannot be had.
type EngineError struct {
	// Log is the file with its last words.
	Log string
	Err error
}

func (e *EngineError) Error() string {
	last := lastLine(e.Log)
	if last == "" {
		return fmt.Sprintf("the build engine does not start: %v", e.Err)
	}
	return "the build engine does not start: " + last
}

func (e *EngineError) Unwrap() error { return e.Err }

// Hint is for the command line.
func (e *EngineError) Hint() string { return "its log is " + e.Log }

func lastLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	text := strings.TrimSpace(string(data))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
