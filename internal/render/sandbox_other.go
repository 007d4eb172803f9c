//go:build !linux

package render

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Elsewhere than on Linux a worker is a process of its own and no more.
func sandboxes() []sandbox { return []sandbox{{attr: &syscall.SysProcAttr{}}} }

func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}

func usage(int) (int64, time.Duration, error) { return 0, 0, errors.ErrUnsupported }
func limitProcess() error                     { return errors.ErrUnsupported }
func restrictCalls() error                    { return errors.ErrUnsupported }
