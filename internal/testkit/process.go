package testkit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	stopTimeout = 20 * time.Second
	// logTail is how much of its log an error of a process shows.
	logTail = 4 << 10
)

// readyLine is what fairway-cluster prints when it is ready; there is more in
// it than a test needs.
type readyLine struct {
	Kubeconfig string `json:"kubeconfig"`
}

// process is a child that logs to a file.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

// startProcess starts a program and waits for the first line it prints.
func startProcess(ctx context.Context, binary string, args []string, logFile string) (*process, readyLine, error) {
	var ready readyLine
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, ready, err
	}
	defer log.Close()
	// Not cmd.StdoutPipe: Wait would close it under the reader.
	out, in, err := os.Pipe()
	if err != nil {
		return nil, ready, err
	}
	p := &process{cmd: exec.Command(binary, args...), log: logFile, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = in, log
	err = p.cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		return nil, ready, err
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	line := make(chan []byte, 1)
	go func() {
		defer out.Close()
		reader := bufio.NewReader(out)
		first, _ := reader.ReadBytes('\n')
		line <- first
		_, _ = io.Copy(io.Discard, reader)
	}()
	select {
	case first := <-line:
		err = json.Unmarshal(first, &ready)
		if err != nil {
			err = fmt.Errorf("reading what it printed when it was ready (%q): %w", first, err)
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return nil, ready, errors.Join(err, p.kill(), errors.New(p.tail()))
	}
	return p, ready, nil
}

func (p *process) stop() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("process %d did not stop in %s", p.cmd.Process.Pid, stopTimeout), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("stopping: %w\n%s", p.err, p.tail())
	}
	return nil
}

func (p *process) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

func (p *process) signal(s syscall.Signal) error {
	err := p.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// tail is the end of the process's log.
func (p *process) tail() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-logTail):])
}
