package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// initPIDFile says which process has the node's file system as its root.
const initPIDFile = "init.pid"

// LoadImage gives the running node of a data directory the images of an
// archive, as WriteArchive, docker save and OCI layouts have them.
func LoadImage(ctx context.Context, data, programDir, archive string) error {
	content, err := os.ReadFile(filepath.Join(data, initPIDFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no node runs in %s", data)
	}
	if err != nil {
		return fmt.Errorf("looking for the node: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return fmt.Errorf("looking for the node: %w", err)
	}
	// containerd's socket is in the node's file system only, which the kernel
	// shows here (see proc(5)).
	socket := filepath.Join("/proc", strconv.Itoa(pid), "root/run/containerd/containerd.sock")
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	ctr := exec.CommandContext(ctx, filepath.Join(programDir, "ctr"),
		"--address", socket, "--namespace", "k8s.io", "images", "import", "--local", archive)
	if out, err := ctr.CombinedOutput(); err != nil {
		return fmt.Errorf("loading %s: %w: %s", archive, err, strings.TrimSpace(string(out)))
	}
	return nil
}
