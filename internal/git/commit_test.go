package git

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

var webName = core.Name{Namespace: "default", Name: "web"}

func TestCommit(t *testing.T) {
	w := newWorld(t)
	c := newClient(t)
	c.write("keep", "kept\n")
	c.write("dir/old", "old\n")
	good := c.commit("app.yaml", "v: good\n")
	blob := c.git("rev-parse", "HEAD:app.yaml")
	bad := c.commit("app.yaml", "v: bad\n")
	c.git("push", "-q", w.as("alice", "web"), "main")
	w.got.wait(t, 1)

	req := CommitRequest{
		Repository: webName, Branch: "main", Expect: bad, Message: "Roll back to " + good,
		Author: Identity{"Alice <x>", "alice@example.com"}, Who: "alice",
		Changes: map[string]Change{
			"app.yaml":               {Hash: blob},
			"dir/old":                {Delete: true},
			"dir":                    {Content: []byte("now a file")},
			`odd "name\ with ü`:      {Content: []byte("x"), Mode: 0o755},
			"link":                   {Content: []byte("app.yaml"), Mode: fs.ModeSymlink},
			"never/was":              {Delete: true},
			"deep/down/in/here.yaml": {Content: []byte("deep: true\n")},
		},
	}
	rev, err := w.Commit(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	e := w.got.wait(t, 2)[1]
	if e.Old != bad || e.New != rev.Commit || e.Who != "alice" || e.Ref != "refs/heads/main" {
		t.Errorf("event %+v", e)
	}
	c.git("pull", "-q", w.as("alice", "web"), "main")
	want := "100644 app.yaml 100644 deep/down/in/here.yaml 100644 dir 100644 keep 120000 link 100755 \"odd \\\"name\\\\ with ü\""
	if got := strings.Join(strings.Split(c.git("-c", "core.quotePath=false", "ls-tree", "-rz", "--format=%(objectmode) %(path)", "HEAD"), "\x00"), " "); strings.TrimSpace(got) != want {
		t.Errorf("tree\n%s, want\n%s", got, want)
	}
	if got := c.git("log", "-1", "--format=%an|%ae|%cn|%s|%P"); got != "Alice x|alice@example.com|Alice x|Roll back to "+good+"|"+bad {
		t.Errorf("commit %s", got)
	}
	if data, err := os.ReadFile(c.dir + "/app.yaml"); err != nil || string(data) != "v: good\n" {
		t.Errorf("%q, %v", data, err)
	}
	c.git("fsck", "--strict")
	if out := c.git("ls-remote", w.as("alice", "web")); strings.Contains(out, "fairway") {
		t.Errorf("scratch reference left: %s", out)
	}

	var conflict *ConflictError
	if _, err := w.Commit(t.Context(), req); !errors.As(err, &conflict) || conflict.Current != rev.Commit {
		t.Errorf("stale commit: %v", err)
	}
	req.Expect = rev.Commit
	if again, err := w.Commit(t.Context(), req); err != nil || again.Commit != rev.Commit {
		t.Errorf("a commit that changes nothing: %v, %v", again, err)
	}
	var invalid *InvalidChangeError
	for path, change := range map[string]Change{
		"../x": {}, ".git/config": {}, "a/.GIT/x": {}, "/x": {}, "a//b": {}, "a\nb": {}, "d": {Mode: fs.ModeDir},
		"blob": {Hash: strings.Repeat("1", 40)}, "tree": {Mode: fs.ModeDir, Hash: blob}, "option": {Hash: "-x"},
	} {
		req.Changes = map[string]Change{path: change}
		if _, err := w.Commit(t.Context(), req); !errors.As(err, &invalid) {
			t.Errorf("%q: %v", path, err)
		}
	}
	w.got.wait(t, 2)
}

func TestCommitRace(t *testing.T) {
	w := newWorld(t)
	if err := w.Create(t.Context(), webName); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	results := make([]error, 8)
	for i := range results {
		wg.Go(func() {
			_, results[i] = w.Commit(t.Context(), CommitRequest{
				Repository: webName, Branch: "trunk", Message: "First", Author: Identity{"A", "a@b"},
				Changes: map[string]Change{"n": {Content: []byte{byte('0' + i)}}},
			})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range results {
		if err == nil {
			won++
		} else if !errors.As(err, new(*ConflictError)) {
			t.Errorf("%T %v", err, err)
		}
	}
	if won != 1 {
		t.Errorf("%d commits won, want 1", won)
	}
	w.got.wait(t, 1)
	if info, err := w.Show(t.Context(), webName); err != nil || info.DefaultBranch != "trunk" || len(info.Refs) != 1 {
		t.Errorf("%+v, %v", info, err)
	}
}
