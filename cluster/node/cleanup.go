package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/cluster/node/network"
)

// Plan returns the addresses of a node's data directory, and chooses them the
// first time. The control plane must be started with them.
func Plan(data string) (network.Plan, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return network.Plan{}, fmt.Errorf("finding the working directory: %w", err)
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return network.Plan{}, fmt.Errorf("making the node's directory: %w", err)
	}
	used, err := network.Used()
	if err != nil {
		return network.Plan{}, err
	}
	return network.LoadPlan(data, used)
}

// Cleanup removes whatever a node left on the host, however it ended: its
// processes, cgroups, link and routes. What it remembers stays. It may be
// called again, and where no node ever was; a node that still runs is an
// InUseError.
func Cleanup(data string) error {
	data, err := filepath.Abs(data)
	if err != nil {
		return fmt.Errorf("finding the working directory: %w", err)
	}
	if _, err := os.Stat(data); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := lockData(data)
	if err != nil {
		return err
	}
	defer lock.Close()
	plan, err := Plan(data)
	if err != nil {
		return err
	}
	return cleanup(data, plan)
}

// cleanup is Cleanup for who has the lock.
func cleanup(data string, plan network.Plan) error {
	return errors.Join(
		removeCgroup(plan.CgroupName()),
		network.Disconnect(plan),
		unmountBelow(data),
	)
}

// unmountBelow detaches what is mounted in the node's directory in this mount
// namespace. A node mounts in its own, so there should be nothing.
func unmountBelow(data string) error {
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, data+"/"), false
	})
	if err != nil {
		return fmt.Errorf("looking for mounts: %w", err)
	}
	var errs []error
	for _, m := range mounts {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmounting %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
