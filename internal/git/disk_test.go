package git

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/internal/core"
)

// A disk that is full or read-only refuses pushes by that name, keeps nothing
// of them and goes on with fetches, until it takes something again.
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
	w := &world{dir: dir, got: newRecorder()}
	var made []string
	start(t, w, func(o *Options) {
		o.Create = func(_ context.Context, _ core.User, name core.Name) error {
			made = append(made, name.String())
			return nil
		}
	})
	c := newClient(t)
	first := c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "web"), "main")
	still := func() {
		t.Helper()
		if refs := c.git("ls-remote", w.as("alice", "web"), "refs/heads/main"); !strings.HasPrefix(refs, first) {
			t.Errorf("main is %s, want %s", refs, first)
		}
		left, err := filepath.Glob(filepath.Join(dir, "repos/default/web.git/objects/tmp_objdir*"))
		if err != nil || len(left) > 0 {
			t.Errorf("a push left %q, %v", left, err)
		}
	}

	big := make([]byte, 16<<20)
	if _, err := rand.Read(big); err != nil {
		t.Fatal(err)
	}
	c.commit("big", string(bytes.ToValidUTF8(big, nil)))
	c.mustFail([]string{"No space left on device", "rejected"}, "push", w.as("alice", "web"), "main")
	still()

	c.git("reset", "-q", "--hard", first)
	repos := filepath.Join(dir, "repos")
	if err := unix.Mount(repos, repos, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(repos, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	mount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", repos, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	mount(unix.MS_RDONLY)
	second := c.commit("b", "2")
	c.mustFail([]string{"507", "the server's disk is read-only"}, "push", w.as("alice", "web"), "main")
	still()
	c.mustFail([]string{"507", "the server's disk is read-only"}, "push", w.as("alice", "fresh"), "main")
	if want := []string{"default/web"}; !slices.Equal(made, want) {
		t.Errorf("objects were made for %v, want %v", made, want)
	}
	mount(0)
	c.git("push", "-q", w.as("alice", "web"), "main")
	w.got.wait(t, 2)
	first = second
	still()
}
