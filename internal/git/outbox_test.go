package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// The test binary is its own server process in the crash test.
const (
	crashDir   = "FAIRWAY_TEST_CRASH_DIR"
	crashDeath = "FAIRWAY_TEST_CRASH_DEATH"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		serveUntilKilled(dir, os.Getenv(crashDeath))
	}
	os.Exit(m.Run())
}

// serveUntilKilled serves the store at dir and writes each delivered event to
// a file. With death "deliver" it dies as kill -9 does when the first event is
// to be delivered; with "save", after it was written, before the cursor knows.
func serveUntilKilled(dir, death string) {
	die := func() {
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		select {}
	}
	log, err := os.OpenFile(filepath.Join(dir, "delivered"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	store, err := Open(filepath.Join(dir, "git"), Options{Deliver: func(_ context.Context, u core.RefUpdate) error {
		if death == "deliver" {
			die()
		}
		fmt.Fprintf(log, "%s %s %s %s %s\n", u.ID, u.Ref, u.Old, u.New, u.Who)
		fmt.Println("delivered", u.Ref, u.New)
		if death == "save" {
			die()
		}
		return nil
	}})
	if err != nil {
		panic(err)
	}
	server := httptest.NewServer(store.Handler(team))
	fmt.Println("url", server.URL)
	ctx, stop := context.WithCancel(context.Background())
	go func() { // the end of the input is the order to stop
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := store.Run(ctx); err != nil {
		panic(err)
	}
	os.Exit(0)
}

// crashServer is such a process.
type crashServer struct {
	cmd   *exec.Cmd
	stdin io.Closer
	url   string
	lines *bufio.Scanner
}

func startCrashServer(t *testing.T, dir, death string) *crashServer {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashDeath+"="+death)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &crashServer{cmd: cmd, stdin: in, lines: bufio.NewScanner(out)}
	t.Cleanup(s.kill)
	s.url = s.next(t, "url ")
	return s
}

// next waits for a line with the prefix, "" at the process' end.
func (s *crashServer) next(t *testing.T, prefix string) string {
	t.Helper()
	for s.lines.Scan() {
		if rest, ok := strings.CutPrefix(s.lines.Text(), prefix); ok {
			return rest
		}
	}
	return ""
}

func (s *crashServer) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// stop lets the server end as on a shutdown.
func (s *crashServer) stop(t *testing.T) {
	t.Helper()
	s.stdin.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func (s *crashServer) as(user string) string {
	return (&world{url: s.url}).as(user, "web")
}

// TestCrash kills the server between a push's update of the reference and its
// delivery, again and again. After the restart each push is delivered, once;
// where the server died after the delivery and before it could note it, twice
// with the same ID.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	c := newClient(t)
	rounds := 20
	if testing.Short() {
		rounds = 4
	}
	want := map[string]bool{}
	old := ""
	for i := range rounds {
		death := []string{"deliver", "save"}[i%2]
		s := startCrashServer(t, dir, death)
		hash := c.commit("n", fmt.Sprint(i))
		_, _ = c.try("push", "-q", s.as("alice"), "main") // the server may die before it answers
		s.next(t, "nothing")                              // until it is dead
		s.kill()
		want["refs/heads/main "+old+" "+hash+" alice"] = true
		s = startCrashServer(t, dir, "")
		if s.next(t, "delivered ") == "" {
			t.Fatalf("round %d: nothing was delivered after the restart", i)
		}
		s.stop(t)
		old = hash
	}
	data, err := os.ReadFile(filepath.Join(dir, "delivered"))
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]string{}
	for line := range strings.Lines(string(data)) {
		id, update, _ := strings.Cut(strings.TrimSpace(line), " ")
		if before, ok := byID[id]; ok && before != update {
			t.Errorf("ID %s is of %q and of %q", id, before, update)
		}
		byID[id] = update
	}
	if len(byID) != rounds {
		t.Errorf("%d different events of %d pushes", len(byID), rounds)
	}
	for _, update := range byID {
		if !want[update] {
			t.Errorf("delivered %q, which nobody pushed", update)
		}
	}
	if lines := strings.Count(string(data), "\n"); lines != rounds+rounds/2 {
		t.Errorf("%d deliveries, want %d: one a push, and one more where the server died right after it", lines, rounds+rounds/2)
	}
}

// TestKilledPushes kills the server at any moment of a push, so that git goes
// on without it, or does not. Whatever became of the push: after restarts, what
// was delivered is the history of the reference, each step under one ID.
func TestKilledPushes(t *testing.T) {
	dir := t.TempDir()
	c := newClient(t)
	c.commit("n", "first")
	rounds := 15
	if testing.Short() {
		rounds = 5
	}
	for i := range rounds {
		s := startCrashServer(t, dir, "")
		c.commit("n", fmt.Sprint(i))
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = c.try("push", "-q", s.as("alice"), "main")
		}()
		time.Sleep(time.Duration(i) * 7 * time.Millisecond) // when, does not matter to what is wanted
		s.kill()
		<-done
	}
	s := startCrashServer(t, dir, "")
	c.commit("n", "last")
	// A push whose server was killed may still be moving the reference; git then
	// refuses this one, and a person pushes again.
	for tries := 0; ; tries++ {
		out, err := c.try("push", "-q", s.as("alice"), "main")
		if err == nil {
			break
		}
		if tries == 20 {
			t.Fatalf("the last push: %v: %s", err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
	for last := "refs/heads/main " + c.git("rev-parse", "HEAD"); ; {
		if got := s.next(t, "delivered "); got == last {
			break
		} else if got == "" {
			t.Fatal("the last push was not delivered")
		}
	}
	s.stop(t)
	data, err := os.ReadFile(filepath.Join(dir, "delivered"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	at := ""
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
		if len(f) != 5 || f[1] != "refs/heads/main" {
			continue
		}
		if before, again := seen[f[0]]; again {
			if before != line {
				t.Errorf("%q and %q have the same ID", before, line)
			}
			continue
		}
		seen[f[0]] = line
		if f[2] != at || f[4] != "alice" {
			t.Errorf("%q does not follow %q", line, at)
		}
		at = f[3]
	}
	if want := c.git("rev-parse", "HEAD"); at != want {
		t.Errorf("the last event is %s, want %s", at, want)
	}
	t.Logf("%d of %d killed pushes took effect", len(seen)-1, rounds)
}

// TestLeftovers starts on what a power cut leaves: locks, half a repository,
// and a line of the log whose reference did not move.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	store, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); !errors.As(err, new(*LockedError)) {
		t.Errorf("a second process: %v", err)
	}
	if err := store.Create(t.Context(), webName); err != nil {
		t.Fatal(err)
	}
	store.Close()
	repo := store.repositoryDir(webName)
	c := newClient(t)
	first := c.commit("a", "1")
	c.git("push", "-q", repo, "main")
	lock := filepath.Join(repo, "refs/heads/main.lock")
	dead := strings.Repeat("2", 40)
	log := filepath.Join(repo, "logs/refs/heads/main")
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "%s %s X <x@y> 1700000000 +0000\tpush\n%s", first, dead, first[:20])
	f.Close()
	for _, path := range []string{lock, filepath.Join(dir, "tmp/new-1/HEAD"), filepath.Join(dir, "trash/deleted-1/x"), filepath.Join(repo, "objects/pack/tmp_pack_x"), filepath.Join(repo, "objects/tmp_objdir-incoming-x/y")} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{dir: dir, got: newRecorder()}
	start(t, w)
	if e := w.got.wait(t, 1)[0]; e.New != first || e.Who != "" {
		t.Errorf("%+v", e)
	}
	// The push waits for the lock, which recovery removes.
	second := c.commit("a", "2")
	c.git("push", "-q", w.as("alice", "web"), "main")
	if e := w.got.wait(t, 2)[1]; e.New != second || e.Old != first || e.Who != "alice" {
		t.Errorf("%+v", e)
	}
	for _, pattern := range []string{"tmp/*", "trash/*"} {
		if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestOutbox walks through what can happen to references.
func TestOutbox(t *testing.T) {
	w := newWorld(t)
	failures := 3
	w.got.fail = func(core.RefUpdate) error {
		if failures--; failures >= 0 {
			return errors.New("not now")
		}
		return nil
	}
	c := newClient(t)
	a := c.commit("n", "1")
	c.git("push", "-q", w.as("system:serviceaccount:default:robot", "web"), "main", "main:refs/heads/b", "main:refs/tags/v1")
	for _, e := range w.got.wait(t, 3) {
		if e.Who != "system:serviceaccount:default:robot" || e.Old != "" || e.New != a {
			t.Errorf("%+v", e)
		}
	}
	// Delete and create the same again: other events.
	c.git("push", "-q", w.as("alice", "web"), ":b")
	e := w.got.wait(t, 4)[3]
	if e.Ref != "refs/heads/b" || e.Old != a || e.New != "" || e.Who != "alice" {
		t.Errorf("%+v", e)
	}
	c.git("push", "-q", w.as("alice", "web"), "main:b")
	w.got.wait(t, 5)
	c.git("push", "-q", w.as("alice", "web"), ":b")
	w.got.wait(t, 6)
	// Packed references, a forced update, and git by hand.
	repo := w.repositoryDir(webName)
	c.git("--git-dir", repo, "pack-refs", "--all")
	c.git("commit", "-q", "--amend", "-m", "Again")
	b := c.git("rev-parse", "HEAD")
	c.git("push", "-q", "-f", w.as("alice", "web"), "main")
	if e := w.got.wait(t, 7)[6]; e.Old != a || e.New != b {
		t.Errorf("%+v", e)
	}
	c.git("--git-dir", repo, "update-ref", "refs/heads/by-hand", b)
	c.git("--git-dir", repo, "tag", "-d", "v1")
	w.resync(t.Context(), false)
	hand := map[string]core.RefUpdate{}
	for _, e := range w.got.wait(t, 9)[7:] {
		hand[e.Ref] = e
	}
	if e := hand["refs/heads/by-hand"]; e.New != b || e.Who != "" {
		t.Errorf("%+v", e)
	}
	if e := hand["refs/tags/v1"]; e.Old != a || e.New != "" {
		t.Errorf("%+v", e)
	}
	ids := map[string]bool{}
	for _, e := range w.got.wait(t, 9) {
		ids[e.ID] = true
	}
	if len(ids) != 9 {
		t.Errorf("%d IDs of 9 events", len(ids))
	}
	w.resync(t.Context(), true)
	c.git("push", "-q", w.as("alice", "web"), "main:last")
	w.got.wait(t, 10) // and nothing twice
}

func TestConcurrentPushes(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	const n = 12
	for i := range n {
		c := newClient(t)
		c.commit("n", fmt.Sprint(i))
		wg.Go(func() {
			// All create the repository; one branch each, and main for one.
			c.git("push", "-q", w.as("alice", "web"), fmt.Sprintf("main:refs/heads/b%d", i))
			_, _ = c.try("push", "-q", w.as("alice", "web"), "main")
		})
	}
	wg.Wait()
	events := w.got.wait(t, n+1)
	info, err := w.Show(t.Context(), webName)
	if err != nil || len(info.Refs) != n+1 {
		t.Fatalf("%+v, %v", info, err)
	}
	for _, e := range events {
		if info.Refs[e.Ref] != e.New {
			t.Errorf("%+v, but the reference stands at %s", e, info.Refs[e.Ref])
		}
	}
}

// start opens w.dir and serves it until the test's end.
func start(t testing.TB, w *world, edit ...func(*Options)) {
	t.Helper()
	opts := Options{Deliver: w.got.deliver, Logger: slog.New(slog.DiscardHandler)}
	for _, e := range edit {
		e(&opts)
	}
	store, err := Open(w.dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	w.Store = store
	mux := http.NewServeMux()
	mux.Handle("/git/", store.Handler(team))
	server := httptest.NewServer(mux)
	w.url, w.server = server.URL, server
	store.SetBases(server.URL + "/git/")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := store.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		cancel()
		<-done
		store.Close()
	})
}
