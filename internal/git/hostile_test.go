package git

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

// object writes an object that git itself would not, and returns its name.
func (c client) object(kind string, data []byte) string {
	c.t.Helper()
	cmd := exec.Command("git", "hash-object", "-t", kind, "-w", "--literally", "--stdin")
	cmd.Dir, cmd.Stdin = c.dir, bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// tree makes a commit whose root directory has one entry.
func (c client) treeWith(mode, name, hash string) string {
	c.t.Helper()
	raw, err := hex.DecodeString(hash)
	if err != nil {
		c.t.Fatal(err)
	}
	tree := c.object("tree", append([]byte(mode+" "+name+"\x00"), raw...))
	return c.object("commit", []byte("tree "+tree+"\nauthor A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nHostile\n"))
}

func TestHostilePush(t *testing.T) {
	w := newWorld(t)
	c := newClient(t)
	c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "web"), "main")
	blob := c.git("rev-parse", "HEAD:a")
	for _, name := range []string{"..", ".", ".git", ".GIT", "a/b"} {
		commit := c.treeWith("100644", name, blob)
		c.mustFail([]string{"remote unpack failed"}, "push", w.as("alice", "web"), commit+":refs/heads/hostile")
	}
	w.got.wait(t, 1)
}

// TestHostileTree reads what got in without the checks of a push.
func TestHostileTree(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.FileBytes = 1000 })
	c := newClient(t)
	c.write("dir/plain", "x")
	c.write("big", strings.Repeat("y", 1001))
	c.write("fits", strings.Repeat("y", 1000))
	for link, target := range map[string]string{"out": "../../../etc/passwd", "abs": "/etc/passwd", "down": "dir"} {
		if err := os.Symlink(target, filepath.Join(c.dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	c.commit("run", "z")
	c.git("update-index", "--chmod=+x", "run")
	c.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("3", 40)+",sub")
	c.git("commit", "-q", "-m", "More")
	c.git("push", "-q", w.as("alice", "web"), "main")
	s, err := w.Resolve(t.Context(), "/git/web", Ref{}, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	tree, ctx := s.Tree, t.Context()
	entries, err := tree.List(ctx, ".")
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, e := range entries {
		got += fmt.Sprintf("%s %v; ", e.Name, e.Mode)
	}
	if want := "abs L---------; big -rw-r--r--; dir d---------; down L---------; fits -rw-r--r--; out L---------; run -rwxr-xr-x; sub ?---------; "; got != want {
		t.Errorf("list\n%s, want\n%s", got, want)
	}
	for path, want := range map[string]string{"out": "../../../etc/passwd", "abs": "/etc/passwd", "dir/plain": "x", "run": "z", "fits": strings.Repeat("y", 1000)} {
		if data, err := tree.Read(ctx, path); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", path, data, err)
		}
	}
	var tooLarge *core.TooLargeError
	if _, err := tree.Read(ctx, "big"); !errors.As(err, &tooLarge) || tooLarge.Size != 1001 || tooLarge.What != "file big" {
		t.Errorf("big: %v", err)
	}
	for _, path := range []string{"none", "dir/none", "down/plain", "out/x", "run/x"} {
		if _, err := tree.Read(ctx, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{"", "/etc/passwd", "../a", "dir/../run", "./run", "dir/"} {
		if _, err := tree.Read(ctx, path); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := tree.Read(ctx, "dir"); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("dir: %v", err)
	}
	if _, err := tree.List(ctx, "run"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("run: %v", err)
	}
	if _, err := tree.Read(ctx, "sub"); err == nil {
		t.Error("a submodule was read")
	}

	repo := client{t: t, dir: w.repositoryDir(webName)}
	blob := c.git("rev-parse", "HEAD:run")
	for _, name := range []string{"..", ".", ".git", ".GiT", "a/b"} {
		repo.git("update-ref", "refs/heads/hostile", repo.treeWith("100644", name, blob))
		s, err := w.Resolve(ctx, "/git/web", Ref{Branch: "hostile"}, Auth{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Tree.List(ctx, "."); !errors.As(err, new(*HostileError)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	// A tree whose object is missing is not one that is known to be empty.
	repo.git("update-ref", "refs/heads/hostile", repo.treeWith("40000", "gone", strings.Repeat("4", 40)))
	if s, err = w.Resolve(ctx, "/git/web", Ref{Branch: "hostile"}, Auth{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tree.Read(ctx, "gone/x"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing object: %v", err)
	}
	for _, ref := range []Ref{{Commit: "HEAD"}, {Commit: "-x"}, {Revision: "main~1"}, {Revision: "a\ninfo HEAD"}, {Branch: "../../config"}, {Name: "refs/heads/../../config"}, {Name: "config"}, {Revision: "@{-1}"}, {Tag: "none"}, {SemVer: "nonsense"}} {
		if _, err := w.Resolve(ctx, "/git/web", ref, Auth{}); !errors.As(err, new(*RevisionError)) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
}

func TestLimits(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Limits.PushBytes, o.Limits.Refs, o.Limits.PushRefs = 1<<20, 5, 4
	})
	c := newClient(t)
	first := c.commit("a", "1")
	c.git("push", "-q", w.as("alice", "web"), "main")

	// Over git's http.postBuffer of 1 MB, so in chunks, and far over the limit.
	big := make([]byte, 6<<20)
	noise, err := os.Open("/dev/urandom")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(noise, big); err != nil {
		t.Fatal(err)
	}
	noise.Close()
	c.commit("big", string(big))
	c.mustFail([]string{"[remote rejected] main -> main (the push is larger than this repository's limit of 1.0 MiB)"}, "push", w.as("alice", "web"), "main")
	c.git("reset", "-q", "--hard", first)
	c.mustFail([]string{"5 references in one push, the limit is 4"}, "push", w.as("alice", "web"), "main:r1", "main:r2", "main:r3", "main:r4", "main:r5")
	c.git("push", "-q", w.as("alice", "web"), "main:r1", "main:r2", "main:r3", "main:r4")
	c.mustFail([]string{"the repository would have 6 references, the limit is 5"}, "push", w.as("alice", "web"), "main:r5")
	c.mustFail([]string{"not a valid reference name, or too long"}, "push", w.as("alice", "web"), ":r1", "main:refs/heads/"+strings.Repeat("long/", 60)+"x")
	if info, err := w.Show(t.Context(), webName); err != nil || len(info.Refs) != 5 || info.LastPushBy != "alice" || info.Size == 0 {
		t.Errorf("%+v, %v", info, err)
	}
	w.got.wait(t, 5)

	post := func(body []byte, header ...string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/git/web/git-upload-pack", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("x", "alice-token")
		req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range maxFetchRequest>>20 + 2 {
		fmt.Fprint(z, strings.Repeat("0032have 0000000000000000000000000000000000000000\n", 1<<20/50))
	}
	z.Close()
	if code := post(bomb.Bytes(), "Content-Encoding", "gzip"); code < 400 {
		t.Errorf("a zip bomb: %d", code)
	}
	if code := post([]byte("0000"), "Content-Encoding", "br"); code != http.StatusUnsupportedMediaType {
		t.Errorf("another encoding: %d", code)
	}
	if code := post([]byte("0000"), "Content-Encoding", "gzip"); code != http.StatusBadRequest {
		t.Errorf("no gzip: %d", code)
	}
	if code := post([]byte("0000"), "Content-Type", "text/plain"); code != http.StatusUnsupportedMediaType {
		t.Errorf("another type: %d", code)
	}
}
