package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// A log that a process keeps open is set aside over the limit, and what the
// process writes after that is in the new one.
func TestLogsOfRunningProcesses(t *testing.T) {
	inst, err := OpenInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := inst.logName("child.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("cat")
	cmd.Stdout = log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	ctx, stop := context.WithCancel(t.Context())
	kept := make(chan error)
	go func() { kept <- inst.keepLogs(ctx, 1000, time.Millisecond) }()
	contains := func(path, text string) error {
		data, err := os.ReadFile(path)
		if err == nil && !strings.Contains(string(data), text) {
			err = fmt.Errorf("%s holds %d bytes without %q", path, len(data), text)
		}
		return err
	}
	fmt.Fprintln(in, "short")
	testkit.Eventually(t, "the log", func() error { return contains(path, "short\n") })
	fmt.Fprintln(in, strings.Repeat("x", 2000))
	testkit.Eventually(t, "the old log", func() error { return contains(path+".1", "short\nxxx") })
	testkit.Eventually(t, "an empty log", func() error {
		if info, err := os.Stat(path); err != nil || info.Size() > 0 {
			return errors.Join(err, errors.New("it is not cut off"))
		}
		return nil
	})
	fmt.Fprintln(in, "after")
	testkit.Eventually(t, "the new log", func() error { return contains(path, "after\n") })
	if data, err := os.ReadFile(path); err != nil || string(data) != "after\n" {
		t.Errorf("the new log holds %q, %v", data, err)
	}
	stop()
	if err := <-kept; err != nil {
		t.Error(err)
	}
}
