package build

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// Stop ends the engine, with what it builds, and waits until it is gone. That
// none runs is no error.
func (e Engine) Stop(ctx context.Context) error {
	conn, err := net.Dial("unix", filepath.Join(e.Root, socket))
	if err != nil {
		return nil // nobody is there
	}
	pid, err := peer(conn.(*net.UnixConn))
	conn.Close()
	if err != nil {
		return fmt.Errorf("find the build engine's process: %w", err)
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && err != unix.ESRCH {
		return fmt.Errorf("end the build engine: %w", err)
	}
	lock := flock.New(filepath.Join(e.Root, "lock"))
	if ok, err := lock.TryLockContext(ctx, 10*time.Millisecond); !ok {
		return fmt.Errorf("wait for the build engine to end: %w", err)
	}
	return lock.Unlock()
}

// peer is the process that listens on the other side.
func peer(conn *net.UnixConn) (pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}
