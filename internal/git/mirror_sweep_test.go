package git

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// forges is a remote with repositories of these names, and a world whose
// mirrors of them nobody has used for a while.
func forges(t *testing.T, edit func(*Options), unused map[string]time.Duration) (w *world, url func(name string) string) {
	t.Helper()
	remote, c := newWorld(t), newClient(t)
	c.commit("a.yaml", "v: 1\n")
	if edit == nil {
		edit = func(*Options) {}
	}
	w = newWorld(t, edit)
	url = func(name string) string { return remote.url + "/git/" + name }
	for name, since := range unused {
		c.git("push", "-q", remote.as("alice", name), "main")
		if _, err := w.Fetch(t.Context(), url(name), aliceAuth); err != nil {
			t.Fatal(err)
		}
		w.leave(t, url(name), since)
	}
	return w, url
}

// leave has a mirror not used since.
func (w *world) leave(t *testing.T, url string, since time.Duration) {
	t.Helper()
	dir := w.mirrorOf(t, url)
	r, err := w.mirror(dir)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-since)
	w.mu.Lock()
	r.mirror.used = then
	w.mu.Unlock()
	if err := os.Chtimes(filepath.Join(dir, mirrorFile), then, then); err != nil {
		t.Fatal(err)
	}
}

func (w *world) mirrorOf(t *testing.T, url string) string {
	t.Helper()
	_, u, err := w.locate(url)
	if err != nil {
		t.Fatal(err)
	}
	return w.mirrorDir(u)
}

// sweeps sweeps, and wants these mirrors removed and the others left.
func (w *world) sweeps(t *testing.T, referred []string, want ...string) {
	t.Helper()
	before, err := w.Mirrors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	removed, err := w.Sweep(t.Context(), referred)
	if err != nil {
		t.Fatal(err)
	}
	after, err := w.Mirrors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(removed)
	slices.Sort(want)
	if !slices.Equal(removed, want) || len(after) != len(before)-len(want) {
		t.Errorf("removed %q, want %q; left %q", removed, want, after)
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "trash")); err != nil || len(left) > 0 {
		t.Errorf("left in the trash: %v, %v", left, err)
	}
}

func TestSweep(t *testing.T) {
	const day = 24 * time.Hour
	w, url := forges(t, nil, map[string]time.Duration{"referred": 10 * day, "young": time.Hour, "old": 2 * day, "fetched": 2 * day, "written": 2 * day, "older": 10 * day})
	gate := w.gate(w.mirrorOf(t, url("fetched")))
	turn := <-gate.turn
	lock, err := tryLock(filepath.Join(w.mirrorOf(t, url("written")), lockFile), false)
	if err != nil {
		t.Fatal(err)
	}
	referred := []string{strings.Replace(url("referred"), "://", "://someone:secret@", 1) + ".git", "no URL", "/git/default/web"}
	w.sweeps(t, referred, url("old"), url("older"))
	gate.turn <- turn
	lock.release()
	w.sweeps(t, referred, url("fetched"), url("written"))

	// From when nobody refers to it on, it stays for a while.
	w.sweeps(t, nil)
	w.leave(t, url("referred"), 2*day)
	w.sweeps(t, nil, url("referred"))

	// What is asked for again is there again.
	if s, err := w.Resolve(t.Context(), url("old"), Ref{Branch: "main"}, aliceAuth); err != nil || s.Revision.Commit == "" {
		t.Errorf("%v, %v", s.Revision, err)
	}
	w.sweeps(t, nil)
}

// A mirror is removed beside those that use it, which never notice.
func TestSweepBesideUse(t *testing.T) {
	w, url := forges(t, func(o *Options) { o.Limits.MirrorIdle = time.Nanosecond }, map[string]time.Duration{"web": 0})
	var sweeps, users sync.WaitGroup
	done := make(chan struct{})
	count := 0
	sweeps.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			removed, err := w.Sweep(t.Context(), nil)
			if err != nil {
				t.Error(err)
			}
			count += len(removed)
		}
	})
	for range 3 {
		users.Go(func() {
			for range 10 {
				if _, err := w.Fetch(t.Context(), url("web"), aliceAuth); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Wait()
	close(done)
	sweeps.Wait()
	if count == 0 {
		t.Error("nothing was removed beside the fetches")
	}
	if s, err := w.Resolve(t.Context(), url("web"), Ref{}, aliceAuth); err != nil {
		t.Errorf("%v, %v", s.Revision, err)
	}
}

// What is read within the time that a mirror is kept stays readable.
func TestSweepLeavesWhatIsRead(t *testing.T) {
	w, url := forges(t, nil, map[string]time.Duration{"web": 48 * time.Hour})
	s, err := w.Resolve(t.Context(), url("web"), Ref{}, aliceAuth)
	if err != nil {
		t.Fatal(err)
	}
	w.sweeps(t, nil)
	if data, err := s.Tree.Read(t.Context(), "a.yaml"); err != nil || string(data) != "v: 1\n" {
		t.Errorf("%q, %v", data, err)
	}
	// The next server knows it too.
	info, err := os.Stat(filepath.Join(w.mirrorOf(t, url("web")), mirrorFile))
	if err != nil || time.Since(info.ModTime()) > time.Hour {
		t.Errorf("its use is not noted: %v, %v", info.ModTime(), err)
	}
}

// What is here is found without the remote, and what is not is said.
func TestResolveKept(t *testing.T) {
	remote, c, first := forge(t)
	url := remote.url + "/git/web"
	w := newWorld(t)
	var unknown *RevisionError
	if _, err := w.ResolveKept(t.Context(), url, Ref{}); !errors.As(err, &unknown) {
		t.Errorf("of a repository that was never fetched: %v", err)
	}
	if _, err := w.Fetch(t.Context(), url, aliceAuth); err != nil {
		t.Fatal(err)
	}
	second := c.commit("a.yaml", "v: 2\n")
	c.git("push", "-q", remote.as("alice", "web"), "main")
	remote.server.Close()
	for _, ref := range []Ref{{}, {Branch: "main"}, {Commit: first}, {Revision: first}} {
		if s, err := w.ResolveKept(t.Context(), url, ref); err != nil || s.Revision.Commit != first {
			t.Errorf("%+v: %v, %v", ref, s.Revision, err)
		}
	}
	if _, err := w.ResolveKept(t.Context(), url, Ref{Commit: second}); !errors.As(err, &unknown) {
		t.Errorf("a commit that is not here: %v", err)
	}
}

// A server that was killed while it removed a mirror begins without it.
func TestSweepKilled(t *testing.T) {
	remote, _, _ := forge(t)
	url, dir := remote.url+"/git/web", t.TempDir()
	open := func() *Store {
		t.Helper()
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	if _, err := s.Fetch(t.Context(), url, aliceAuth); err != nil {
		t.Fatal(err)
	}
	s.Close()
	mirrors, err := filepath.Glob(filepath.Join(dir, "mirrors", "*"))
	if err != nil || len(mirrors) != 1 {
		t.Fatalf("%v, %v", mirrors, err)
	}
	half := filepath.Join(dir, "trash", "deleted-1")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(mirrors[0], filepath.Join(half, "repository.git")); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half of it is still there: %v", err)
	}
	if _, err := s.Resolve(t.Context(), url, Ref{}, aliceAuth); err != nil {
		t.Error(err)
	}
}

// Where there is little room, what nobody refers to goes earlier, the longest
// unused first, and no more of it than is needed.
func TestSweepMakesRoom(t *testing.T) {
	w, url := forges(t, nil, map[string]time.Duration{"first": 5 * time.Hour, "second": 4 * time.Hour, "third": 3 * time.Hour, "used": time.Minute, "referred": 6 * time.Hour})
	all, err := w.measureMirrors()
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, m := range all {
		total += m.size
	}
	w.sweeps(t, []string{url("referred")})
	w.leave(t, url("referred"), 6*time.Hour)
	w.limits.MirrorsBytes = total // of five equal ones, two have to go
	w.sweeps(t, []string{url("referred")}, url("first"), url("second"))
	w.limits.MirrorsBytes = 4 // what is used stays however little there is
	w.sweeps(t, []string{url("referred")}, url("third"))
}

// One large mirror does not keep the others from their news, and does not grow
// beyond what all may have.
func TestMirrorsTogether(t *testing.T) {
	remote, c := newWorld(t), newClient(t)
	push := func(name string, size int) {
		t.Helper()
		noise := make([]byte, size/2)
		if _, err := rand.Read(noise); err != nil {
			t.Fatal(err)
		}
		c.commit(name, hex.EncodeToString(noise))
		c.git("push", "-q", "-f", remote.as("alice", name), "main")
	}
	w := newWorld(t, func(o *Options) { o.Limits.MirrorsBytes = 200 << 10 })
	fetch := func(name string) error {
		_, err := w.Fetch(t.Context(), remote.url+"/git/"+name, aliceAuth)
		return err
	}
	push("large", 500<<10) // a fetch that ends before its size is looked at is whole
	var large *core.TooLargeError
	if err := fetch("large"); err != nil && !errors.As(err, &large) {
		t.Fatal(err)
	}
	c.git("checkout", "-q", "--orphan", "small")
	c.git("branch", "-q", "-D", "main")
	c.git("branch", "-q", "-m", "main")
	c.git("rm", "-q", "-r", "-f", ".")
	for range 3 {
		push("small", 10<<10)
		if err := fetch("small"); err != nil {
			t.Fatal(err)
		}
	}
	push("large", 10<<10)
	if err := fetch("large"); !errors.As(err, &large) || !strings.Contains(fmt.Sprint(err), "beside all other mirrors") {
		t.Errorf("got %v", err)
	}
}
