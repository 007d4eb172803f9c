package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/cluster/node/inside"
)

const (
	lockFile     = "lock"
	registryFile = "registry.json"
)

// layoutOf is how a node's data directory is divided.
func layoutOf(data, programs string) inside.Layout {
	at := func(name string) string { return filepath.Join(data, name) }
	return inside.Layout{
		Root: at("root"), Etc: at("etc"), Log: at("log"), Programs: programs, Volumes: at("volumes"),
		Images: at("images"), Kubelet: at("kubelet"), PodLogs: at("pods"), Containerd: at("containerd"),
	}
}

func makeLayout(l inside.Layout) error {
	for dir, mode := range map[string]os.FileMode{
		l.Root: 0o755, l.Etc: 0o700, l.Log: 0o750, l.Images: 0o755,
		l.Kubelet: 0o750, l.PodLogs: 0o750, l.Containerd: 0o711,
		// Pods of any user get to their volume through it.
		l.Volumes: 0o711,
	} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return fmt.Errorf("making the node's directories: %w", err)
		}
	}
	return rotateLogs(l.Log)
}

// rotateLogs keeps the logs of this start and of the one before.
func rotateLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return err
	}
	for _, log := range logs {
		if err := os.Rename(log, log+".1"); err != nil {
			return fmt.Errorf("keeping an earlier log: %w", err)
		}
	}
	return nil
}

// InUseError is returned where another process runs the node of a directory.
type InUseError struct{ Data string }

func (e *InUseError) Error() string {
	return "the node of " + e.Data + " is in use by another process"
}

// lockData takes the directory until the file returned is closed. The kernel
// gives it back when the process dies, however.
func lockData(data string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(data, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the node's lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, &InUseError{Data: data}
	}
	return nil, fmt.Errorf("locking the node's directory: %w", err)
}
