package render_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// counting counts what reaches the renderer behind a cache.
type counting struct {
	render.Renderer
	renders int
}

func (c *counting) Render(ctx context.Context, req render.Request) (*render.Result, error) {
	c.renders++
	return c.Renderer.Render(ctx, req)
}

// unreadable is a tree whose files may be looked up and not read.
type unreadable struct {
	core.Tree
	t *testing.T
}

func (u unreadable) Read(_ context.Context, p string) ([]byte, error) {
	u.t.Errorf("%s was read, a hash would do", p)
	return nil, os.ErrPermission
}

func newCached(t testing.TB, dir string, limits render.CacheLimits) (*render.Cached, *counting) {
	t.Helper()
	behind := &counting{Renderer: render.NewEngine(render.Limits{})}
	cached, err := render.NewCached(behind, dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	return cached, behind
}

func mustRender(t testing.TB, r render.Renderer, req render.Request) *render.Result {
	t.Helper()
	result, err := r.Render(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestCachedRendersOnlyWhatChanged(t *testing.T) {
	dir := t.TempDir()
	cached, behind := newCached(t, dir, render.CacheLimits{})
	request := func(change func(map[string]string)) render.Request {
		files := overlayFiles()
		change(files)
		return render.Request{Tree: memtree.New(files), Path: "over", Source: "repo"}
	}
	first := mustRender(t, cached, request(func(map[string]string) {}))

	unrelated := request(func(f map[string]string) { f["README.md"] = "x"; f["base/new.yaml"] = "a: b" })
	unrelated.Tree = unreadable{unrelated.Tree, t}
	second := mustRender(t, cached, unrelated)
	if behind.renders != 1 || !second.Cached || second.Key != first.Key {
		t.Fatalf("%d renders, cached %v: an unrelated commit must render nothing", behind.renders, second.Cached)
	}
	compare(t, encodeAll(t, second), encodeAll(t, first))

	changed := func(f map[string]string) { f["base/cm.yaml"] += "# c\n" }
	mustRender(t, cached, request(changed))
	if behind.renders != 2 {
		t.Fatalf("%d renders, want 2: a file that was read has changed", behind.renders)
	}
	appeared := func(f map[string]string) { f["over/kustomization.yml"] = f["over/kustomization.yaml"] }
	if _, err := cached.Render(context.Background(), request(appeared)); err == nil {
		t.Fatal("a second kustomization appeared where one was looked for in vain, and the old result was taken")
	}

	// Back to the first revision, in a new process.
	cached, behind = newCached(t, dir, render.CacheLimits{})
	if again := mustRender(t, cached, request(func(map[string]string) {})); behind.renders != 0 || !again.Cached {
		t.Fatal("going back to a remembered revision rendered")
	}
}

func TestCachedDoesNotTrustADamagedFile(t *testing.T) {
	dir := t.TempDir()
	req := render.Request{Tree: memtree.New(overlayFiles()), Path: "over"}
	cached, behind := newCached(t, dir, render.CacheLimits{})
	want := mustRender(t, cached, req)
	for _, sub := range []string{"object", "index"} {
		files, err := filepath.Glob(filepath.Join(dir, sub, "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v, %v", sub, files, err)
		}
		data, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(files[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		before := behind.renders
		got := mustRender(t, cached, req)
		if behind.renders != before+1 {
			t.Errorf("%s is damaged, and nothing was rendered", sub)
		}
		compare(t, encodeAll(t, got), encodeAll(t, want))
	}
}

func TestCachedNeverKeepsWhatIsRandom(t *testing.T) {
	for name, expr := range map[string]string{
		"randAlphaNum": `{{ randAlphaNum 8 }}`,
		"uuidv4":       `{{ tpl "{{ uuidv4 }}" . }}`,
		"genCA":        `{{ (genCA "x" 1).Cert | sha256sum }}`,
		"lookup":       `{{ lookup "v1" "Secret" "a" "b" | len }}`,
		"now":          `{{ now | date "2006" }}`,
		"shuffle":      `{{ include "s" . }}{{ define "s" }}{{ shuffle "abc" }}{{ end }}`,
	} {
		cached, behind := newCached(t, t.TempDir(), render.CacheLimits{})
		req := render.Request{Path: ".", Tree: memtree.New(map[string]string{
			"Chart.yaml":       "apiVersion: v2\nname: c\nversion: 1.0.0\n",
			"templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: \"" + expr + "\"\n",
		})}
		for range 2 {
			if r := mustRender(t, cached, req); r.Key != "" || r.Uncacheable != name || r.Cached {
				t.Errorf("%s: key %q, uncacheable %q, cached %v", name, r.Key, r.Uncacheable, r.Cached)
			}
		}
		if behind.renders != 2 {
			t.Errorf("%s: rendered %d times of 2", name, behind.renders)
		}
	}
	// A function that is not called makes no difference.
	r, err := renderFiles(t, map[string]string{
		"Chart.yaml":       "apiVersion: v2\nname: c\nversion: 1.0.0\n",
		"templates/a.yaml": "{{ if .Values.x }}{{ uuidv4 }}{{ end }}apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {y: '{{ date \"2006\" 0 }}'}\n",
	}, render.Request{})
	if err != nil || r.Key == "" {
		t.Errorf("key %q, %v: nothing random was called", r.Key, err)
	}
}

func TestCachedStaysSmall(t *testing.T) {
	dir := t.TempDir()
	const limit = 20 << 10
	cached, _ := newCached(t, dir, render.CacheLimits{MaxBytes: limit})
	for i := range 100 {
		files := overlayFiles()
		files["base/cm.yaml"] += fmt.Sprintf("# %d\n", i)
		mustRender(t, cached, render.Request{Tree: memtree.New(files), Path: "over", Source: fmt.Sprint(i)})
	}
	var size int64
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if size > limit || size < limit/4 {
		t.Errorf("the cache has %d bytes, the limit is %d", size, limit)
	}
}
