package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// clusterRoom is what a new control plane must have on its disk: etcd takes
// 128 MB before the first object.
const clusterRoom = 256 << 20

// checkRoom refuses to make a control plane where it would die of a full
// disk. One that is there has its room already.
func (i *Instance) checkRoom() error {
	if _, err := os.Stat(i.path("cluster", "etcd")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(i.Dir(), &disk); err != nil {
		return fmt.Errorf("looking how much room there is in %s: %w", i.Dir(), err)
	}
	free := disk.Bavail * uint64(disk.Bsize)
	if free >= clusterRoom {
		return nil
	}
	return &StartError{
		fmt.Sprintf("%s has %s left, and a new instance needs %s", i.Dir(), humanize.IBytes(free), humanize.IBytes(clusterRoom)),
		"make room, or name a directory on another disk with --data",
	}
}
