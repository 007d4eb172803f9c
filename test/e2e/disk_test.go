package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
)

// An instance that has no room says so before anything is made.
func TestUpWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	switch err := syscall.Mount("none", dir, "tmpfs", 0, "size=8m"); {
	case errors.Is(err, syscall.EPERM):
		t.Skip("mounting a small disk takes root")
	case err != nil:
		t.Fatal(err)
	}
	i := newInstance(shared.bin, filepath.Join(dir, "data"))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	i.refused(t, "and a new instance needs", "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort()))
}
