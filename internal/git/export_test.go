package git

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// moved copies all repositories of one Git directory into another, through
// JSON, as an archive does.
func moved(t *testing.T, e *Exporter, to string) {
	t.Helper()
	in, err := NewImporter(to)
	if err != nil {
		t.Fatal(err)
	}
	names, err := e.Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		c, bundle := exported(t, e, name)
		if bundle.Len() == 0 {
			err = in.Repository(t.Context(), name, c, nil)
		} else {
			err = in.Repository(t.Context(), name, c, bundle)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func exported(t *testing.T, e *Exporter, name core.Name) (Copy, *bytes.Buffer) {
	t.Helper()
	bundle := &bytes.Buffer{}
	c, err := e.Repository(t.Context(), name, bundle)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var out Copy
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out, bundle
}

// What was delivered before the copy is not delivered again, what was not is
// delivered once, and what was while it was copied has the ID that it had.
func TestCopiesDeliverEachEventUnderOneID(t *testing.T) {
	w := newWorld(t)
	c := newClient(t)
	name := core.Name{Namespace: "team", Name: "app"}
	if err := w.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := w.Create(t.Context(), core.Name{Namespace: "team", Name: "empty"}); err != nil {
		t.Fatal(err)
	}
	c.commit("a", "1")
	c.git("branch", "-M", "trunk")
	c.git("push", "-q", w.as("alice", "team/app.git"), "trunk")
	first := w.got.wait(t, 1)
	ticked(t, w, name, "refs/heads/trunk")
	e, err := NewExporter(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	c.commit("a", "2")
	old := strings.TrimSpace(c.git("rev-parse", "HEAD"))
	c.git("push", "-q", w.as("alice", "team/app.git"), "trunk")
	second := w.got.wait(t, 2)[1]
	c.git("reset", "-q", "--hard", "HEAD~1")
	c.git("tag", "-a", "-m", "tag", "v1")
	w.got.mu.Lock()
	w.got.fail = func(core.RefUpdate) error { return errors.New("not now") }
	w.got.mu.Unlock()
	c.git("push", "-q", "-f", w.as("alice", "team/app.git"), "trunk", "v1")

	to := t.TempDir()
	moved(t, e, to)
	again := &world{dir: to, got: newRecorder()}
	start(t, again)
	events := again.got.wait(t, 3)
	ids := map[string]string{}
	for _, u := range events {
		ids[u.ID] = u.Ref
		if u.Who != "alice" {
			t.Errorf("%s moved by %q", u.Ref, u.Who)
		}
	}
	if len(ids) != 3 || ids[first[0].ID] != "" || ids[second.ID] == "" {
		t.Errorf("events %v; delivered before the copy %s, meanwhile %s", events, first[0].ID, second.ID)
	}
	before, err := w.Show(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	after, err := again.Show(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(before.Refs, after.Refs) || after.DefaultBranch != "trunk" || !after.LastPush.Equal(before.LastPush) {
		t.Errorf("was %+v, is %+v", before, after)
	}
	// What only the log knows is there, too.
	c.git("fetch", "-q", again.as("alice", "team/app.git"), "v1")
	r, err := again.embedded(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.git.run(t.Context(), r.dir, nil, nil, "cat-file", "-e", old); err != nil {
		t.Error(err)
	}
	// The copies are repositories like others.
	c.commit("a", "3")
	c.git("push", "-q", again.as("alice", "team/app.git"), "trunk")
	c.git("push", "-q", again.as("alice", "team/empty.git"), "trunk")
	again.got.wait(t, 5)
}

// ticked waits until the disk knows that the reference's event was delivered.
func ticked(t *testing.T, w *world, name core.Name, ref string) {
	t.Helper()
	for t.Context().Err() == nil {
		c, err := readCursor(w.repositoryDir(name))
		if err != nil {
			t.Fatal(err)
		}
		if c.ref(ref).Hash != "" {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Git itself can read the objects, and a repository deleted meanwhile is
// nobody's mistake.
func TestCopyIsABundle(t *testing.T) {
	w := newWorld(t)
	c := newClient(t)
	name := core.Name{Namespace: "team", Name: "app"}
	if err := w.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	head := c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "team/app.git"), "HEAD:main")
	e, err := NewExporter(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	_, bundle := exported(t, e, name)
	file := filepath.Join(t.TempDir(), "b")
	if err := os.WriteFile(file, bundle.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := c.git("ls-remote", file, "refs/heads/main"); !strings.HasPrefix(out, strings.TrimSpace(head)) {
		t.Errorf("the bundle has %s, want %s", out, head)
	}
	c.git("bundle", "verify", "-q", file)
	clone := filepath.Join(t.TempDir(), "clone")
	c.git("clone", "-q", file, clone)
	if _, err := os.Stat(filepath.Join(clone, "a")); err != nil {
		t.Error(err)
	}
	if err := w.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	var gone *NotFoundError
	if _, err := e.Repository(t.Context(), name, &bytes.Buffer{}); !errors.As(err, &gone) {
		t.Errorf("a repository that is gone: %v", err)
	}
}

func TestBadCopiesAreRefused(t *testing.T) {
	w := newWorld(t)
	c := newClient(t)
	name := core.Name{Namespace: "team", Name: "app"}
	if err := w.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "team/app.git"), "HEAD:main")
	w.got.wait(t, 1)
	e, err := NewExporter(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	good, bundle := exported(t, e, name)
	absent := strings.Repeat("1", 40)
	// A tree with a name that leads out of it.
	blob := strings.TrimSpace(c.git("hash-object", "-w", "a"))
	tree := c.tree(t, "100644 ..\x00", blob)
	evil := strings.TrimSpace(c.git("commit-tree", "-m", "evil", tree))
	c.git("update-ref", "refs/heads/evil", evil)
	file := filepath.Join(t.TempDir(), "evil")
	c.git("bundle", "create", "-q", file, "refs/heads/evil")
	evilBundle, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string]func(*Copy, *[]byte){
		"reference outside":     func(c *Copy, _ *[]byte) { c.Refs["refs/heads/../../../x"] = absent },
		"no reference name":     func(c *Copy, _ *[]byte) { c.Refs["../x"] = absent },
		"reference to nothing":  func(c *Copy, _ *[]byte) { c.Refs["refs/heads/x"] = absent },
		"reference below one":   func(c *Copy, _ *[]byte) { c.Refs["refs/heads/main/x"] = c.Refs["refs/heads/main"] },
		"log outside":           func(c *Copy, _ *[]byte) { c.Logs["refs/../../x"] = []byte("x") },
		"HEAD outside":          func(c *Copy, _ *[]byte) { c.Head = "refs/heads/../x" },
		"cursor without ID":     func(c *Copy, _ *[]byte) { c.Cursor = json.RawMessage(`{"id":"../x"}`) },
		"no cursor":             func(c *Copy, _ *[]byte) { c.Cursor = nil },
		"no bundle":             func(_ *Copy, b *[]byte) { *b = []byte("hello") },
		"truncated bundle":      func(_ *Copy, b *[]byte) { *b = (*b)[:len(*b)-30] },
		"changed bundle":        func(_ *Copy, b *[]byte) { *b = slices.Clone(*b); (*b)[len(*b)-40] ^= 1 },
		"endless line":          func(_ *Copy, b *[]byte) { *b = append([]byte(bundleSignature), bytes.Repeat([]byte("x"), 1<<20)...) },
		"tree that leads out":   func(c *Copy, b *[]byte) { c.Refs["refs/heads/main"], *b = evil, evilBundle },
		"settings of something": func(c *Copy, _ *[]byte) { c.Settings = json.RawMessage(`[]`) },
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			in, err := NewImporter(filepath.Join(dir, "git"))
			if err != nil {
				t.Fatal(err)
			}
			bad, data := good, bundle.Bytes()
			bad.Refs, bad.Logs = maps.Clone(good.Refs), maps.Clone(good.Logs)
			edit(&bad, &data)
			var refused *CopyError
			if err := in.Repository(context.Background(), name, bad, bytes.NewReader(data)); !errors.As(err, &refused) {
				t.Errorf("got %v", err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "git", "*", "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left %v %v", left, err)
			}
		})
	}
}

// tree writes a tree object of one entry as it is told.
func (c client) tree(t *testing.T, entry, hash string) string {
	t.Helper()
	raw := []byte(entry)
	for i := 0; i < len(hash); i += 2 {
		raw = append(raw, unhex(hash[i])<<4|unhex(hash[i+1]))
	}
	file := filepath.Join(t.TempDir(), "tree")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(c.git("hash-object", "-t", "tree", "--literally", "-w", file))
}

func unhex(b byte) byte { return byte(strings.IndexByte("0123456789abcdef", b)) }
