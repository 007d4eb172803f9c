package node

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// snapshotter is the way in which containerd stacks layers below dir: overlayfs,
// but where dir is on an overlay itself, as in a container, which cannot be
// stacked upon: there it copies.
func snapshotter(dir string) string {
	const overlay, native = "overlayfs", "native"
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) == nil && stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return native
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err == nil && !hasLine(filesystems, "nodev\toverlay") {
		return native
	}
	return overlay
}

func hasLine(content []byte, line string) bool {
	for l := range bytes.Lines(content) {
		if string(bytes.TrimSuffix(l, []byte("\n"))) == line {
			return true
		}
	}
	return false
}
