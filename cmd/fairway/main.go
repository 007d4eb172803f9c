// Command fairway is the safe channel from git push to production: one
// program that serves Git, a registry and a GitOps engine for Kubernetes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/fairway-cd/fairway/internal/core"
)

// The exit codes; docs/spec/cli.md has them for users.
const (
	exitFailed = 1 // it was tried and failed; for diff: there is a difference
	exitUsage  = 2 // the command line is wrong
)

// exitError ends the program with a code and, where Err is set, its message.
type exitError struct {
	Code int
	Err  error
}

func (e *exitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

func (e *exitError) Unwrap() error { return e.Err }

// ExitCode is how packages that cannot name this type are asked for the code.
func (e *exitError) ExitCode() int { return e.Code }

// hintedError adds a line that says what to do.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Hint() string  { return e.hint }
func (e *hintedError) Unwrap() error { return e.error }

func withHint(err error, hint string) error { return &hintedError{err, hint} }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it executes the command line and returns
// the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	// Cobra's own commands, which it would make later and which write to where
	// the output then goes, are to be as strict as ours.
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strictUsage(root)
	strictHelp(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	return report(errOut, err)
}

// report translates an error for people, once, at the edge: what happened,
// and a hint where something knows one.
func report(w io.Writer, err error) int {
	code := exitFailed
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		code = coded.ExitCode()
	}
	var exit *exitError
	if errors.As(err, &exit) && exit.Err == nil {
		return code
	}
	fmt.Fprintln(w, "fairway:", err)
	if hint := hintOf(err); hint != "" {
		fmt.Fprintln(w, "hint:", hint)
	}
	return code
}

// hintOf is what an error says that can be done about it.
func hintOf(err error) string {
	var hinted core.Hinted
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		return hinted.Hint()
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "nothing listens there; 'fairway status' says whether the instance is up, and 'fairway up' starts it"
	}
	return ""
}
