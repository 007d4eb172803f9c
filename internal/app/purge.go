package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// parts are all that an instance has in its directory.
func parts() []string {
	return []string{"build", "cluster", "git", "registry", "render", "node", "tls", "log", "run", "kubeconfig", restoreDir, configName}
}

// NotAnInstanceError says that a directory is not an instance's.
type NotAnInstanceError struct{ Dir string }

func (e *NotAnInstanceError) Error() string {
	return fmt.Sprintf("%s is not an instance of fairway: it has no %s", e.Dir, configName)
}

// Hint implements core.Hinted.
func (*NotAnInstanceError) Hint() string { return "name the instance's directory with --data" }

// Purge removes the data of a stopped instance, and says whether there were
// any. It removes what an instance has, and the directory only where nothing
// else is in it: somebody may have started one in a directory of their own. A
// directory that is not an instance's is a *NotAnInstanceError.
func (i *Instance) Purge() (removed bool, err error) {
	if _, err := os.Stat(i.dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if !i.exists() {
		return false, &NotAnInstanceError{Dir: i.dir}
	}
	lock, err := i.lock()
	if err != nil {
		return false, err
	}
	defer func() { _ = lock.Unlock() }()
	// The configuration goes last, so that what was interrupted can be done
	// again.
	for _, part := range parts() {
		if err := os.RemoveAll(i.path(part)); err != nil {
			return false, fmt.Errorf("removing the instance's data: %w", err)
		}
	}
	err = os.Remove(i.dir)
	switch {
	case errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EBUSY), errors.Is(err, fs.ErrNotExist):
		return true, nil // other people's files, or a mount point
	case err != nil:
		return true, fmt.Errorf("removing the instance's data: %w", err)
	}
	return true, nil
}
