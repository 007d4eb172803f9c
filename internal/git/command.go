package git

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// program starts git. Each process gets an environment made here and nothing
// of the machine's configuration: no system or user files, no hooks, no
// prompts, messages in English.
type program struct {
	path string
	// home is an empty directory, so that nothing is found in it.
	home string
}

func newProgram(home string) (*program, error) {
	path, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("finding the git program: %w", err)
	}
	return &program{path: path, home: home}, nil
}

// command is git with args in the repository at dir. When ctx ends, the
// process and its children are asked to stop, so that they take their lock
// and temporary files with them, and killed five seconds later.
func (p *program) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	fixed := []string{"-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*"}
	cmd := exec.CommandContext(ctx, p.path, append(fixed, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + p.home,
		"XDG_CONFIG_HOME=" + p.home,
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_PROTOCOL_FROM_USER=0",
		"GIT_ALLOW_PROTOCOL=",
		"GIT_DIR=.",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// maxOutput bounds what run returns.
const maxOutput = 64 << 20

// run runs git to its end and returns what it printed.
func (p *program) run(ctx context.Context, dir string, stdin io.Reader, env []string, args ...string) ([]byte, error) {
	cmd := p.command(ctx, dir, args...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdin = stdin
	out := &boundedBuffer{limit: maxOutput}
	tail := &tailWriter{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, tail
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("git %s: %w", args[0], ctx.Err())
		}
		return nil, &commandError{verb: args[0], err: err, stderr: tail.String()}
	}
	return out.buf.Bytes(), nil
}

// commandError is a git process that failed, with the end of what it said.
// stderr may hold what a remote server sent.
type commandError struct {
	verb   string
	err    error
	stderr string
}

func (e *commandError) Error() string {
	return fmt.Sprintf("git %s: %v: %s", e.verb, e.err, oneLine(e.stderr))
}

func (e *commandError) Unwrap() error { return e.err }

// boundedBuffer refuses what does not fit.
type boundedBuffer struct {
	buf   bytes.Buffer
	limit int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > b.limit {
		return 0, &core.TooLargeError{What: "git's output", Size: int64(b.buf.Len() + len(p)), Limit: int64(b.limit)}
	}
	return b.buf.Write(p)
}

// tailWriter keeps the last bytes written to it.
type tailWriter struct {
	limit int
	buf   []byte
}

func (w *tailWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	if over := len(w.buf) - w.limit; over > 0 {
		w.buf = append(w.buf[:0], w.buf[over:]...)
	}
	return len(p), nil
}

func (w *tailWriter) String() string { return string(w.buf) }

// oneLine is text from another program as part of an error: its lines joined,
// control characters gone, bounded.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if len(s) > 500 {
		s = s[:500] + "…"
	}
	return s
}
