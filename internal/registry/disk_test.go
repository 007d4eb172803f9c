package registry_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/internal/registry"
)

// A disk that is full or read-only refuses pushes by that name, keeps nothing
// of them and goes on with pulls, until it takes something again.
func TestDiskThatTakesNothing(t *testing.T) {
	dir := t.TempDir()
	switch err := unix.Mount("none", dir, "tmpfs", 0, "size=8m"); {
	case errors.Is(err, unix.EPERM):
		t.Skip("mounting a small disk takes root")
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	h := openHouse(t, dir)
	mode := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT|flags, "size=8m"); err != nil {
			t.Fatal(err)
		}
	}
	push := func(size int64, tag string) error {
		t.Helper()
		return crane.Push(sizedImage(t, size), h.host()+"/web-app:"+tag, as("alice-token"))
	}
	if err := push(1000, "v1"); err != nil {
		t.Fatal(err)
	}
	still := func(why string) {
		t.Helper()
		if _, err := crane.Pull(h.host()+"/web-app:v1", as("reader-token")); err != nil {
			t.Errorf("pulling from a disk that is %s: %v", why, err)
		}
		left, err := filepath.Glob(filepath.Join(dir, "docker/registry/v2/repositories/*/*/_uploads/*"))
		if err != nil || len(left) > 0 {
			t.Errorf("a push left %q, %v", left, err)
		}
	}

	// It does not fit, and later not even its beginning does.
	if err := push(16<<20, "v2"); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("pushing to a full disk: %v", err)
	}
	still("full")
	filler := fill(t, dir)
	if err := push(1000, "v2"); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("pushing to a full disk: %v", err)
	}
	still("full")
	if err := crane.Delete(h.host()+"/web-app:v1", as("alice-token")); err != nil {
		t.Errorf("deleting from a full disk, which makes room: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := push(1000, "v1"); err != nil {
		t.Errorf("pushing when there is room again: %v", err)
	}

	mode(unix.MS_RDONLY)
	if err := push(1000, "v3"); err == nil || !strings.Contains(err.Error(), "disk is read-only") {
		t.Errorf("pushing to a read-only disk: %v", err)
	}
	if err := crane.Delete(h.host()+"/web-app:v1", as("alice-token")); err == nil || !strings.Contains(err.Error(), "disk is read-only") {
		t.Errorf("deleting from a read-only disk: %v", err)
	}
	still("read-only")
	mode(0)
	if err := push(1000, "v3"); err != nil {
		t.Errorf("pushing when the disk is writable again: %v", err)
	}
}

func sizedImage(t *testing.T, size int64) v1.Image {
	t.Helper()
	image, err := random.Image(size, 1)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// fill leaves no byte free, and returns the file that takes them.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<12)
	for {
		if _, err := f.Write(block); err != nil {
			return path
		}
	}
}

// When garbage was collected is known after a restart too, so that an
// instance that is started every day collects.
func TestCollectedIsRemembered(t *testing.T) {
	dir := t.TempDir()
	h := openHouse(t, dir)
	first := h.Collected()
	if first.IsZero() || time.Since(first) < 0 {
		t.Fatalf("a new registry was collected at %s", first)
	}
	then := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(filepath.Join(dir, "collected"), then, then); err != nil {
		t.Fatal(err)
	}
	again := openHouse(t, dir)
	if got := again.Collected(); !got.Equal(then) {
		t.Errorf("after a restart it was collected at %s, want %s", got, then)
	}
	if _, err := again.Collect(t.Context(), registry.CollectOptions{DryRun: true}); err != nil || !again.Collected().Equal(then) {
		t.Errorf("a dry run counts: %v", err)
	}
	if _, err := again.Collect(t.Context(), registry.CollectOptions{}); err != nil || !again.Collected().After(then) {
		t.Errorf("a collection does not count: %v", err)
	}
}
