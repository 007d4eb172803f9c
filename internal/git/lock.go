package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// fileLock is a flock(2) on a file. The lock belongs to the open file, so a
// child process that inherits it keeps it held after the parent's death:
// that is how a restarted server knows of pushes that are still running.
type fileLock struct{ file *os.File }

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("locked")

// tryLock takes the lock at path, shared or exclusive, or returns errLocked.
func tryLock(path string, exclusive bool) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return &fileLock{file: f}, nil
}

// waitLock takes the lock at path, waiting for it until ctx ends.
func waitLock(ctx context.Context, path string, exclusive bool) (*fileLock, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := tryLock(path, exclusive)
		if !errors.Is(err, errLocked) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the lock: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func (l *fileLock) release() { l.file.Close() }
