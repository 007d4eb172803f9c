package controlplane

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// dieWithParent asks the kernel for SIGTERM when the parent ends, see prctl(2)
// PR_SET_PDEATHSIG.
func dieWithParent() error {
	parent := os.Getppid()
	// The request is the thread's. The runtime keeps its threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("asking to be told of the parent's end: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("the parent process has ended")
	}
	return nil
}
