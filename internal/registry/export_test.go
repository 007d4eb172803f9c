package registry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/registry"
)

// moveTo copies all of a registry's directory into another, through JSON.
func moveTo(t *testing.T, from, to string) {
	t.Helper()
	out := registry.NewExporter(from)
	in, err := registry.NewImporter(to)
	if err != nil {
		t.Fatal(err)
	}
	names, err := out.Names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		c, err := out.Repository(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range c.Content() {
			f, _, err := out.Open(d)
			if err != nil {
				t.Fatal(err)
			}
			err = in.Content(d, f)
			_ = f.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var read registry.Copy
		if err := json.Unmarshal(data, &read); err != nil {
			t.Fatal(err)
		}
		if err := in.Repository(t.Context(), n, read); err != nil {
			t.Fatal(err)
		}
	}
}

// Images, what is attached to them, and what a tag stood for before are the
// same in a copy, which then is a registry like others.
func TestCopyIsTheSameRegistry(t *testing.T) {
	h := newHouse(t)
	first := h.image(t, "team-a/app", "v1", "one")
	second := h.image(t, "team-a/app", "v1", "two")
	evidence := h.image(t, "team-a/app", "", "evidence", about(second))
	deep := h.image(t, "team-a/x/y", "v2", "two")
	to := t.TempDir()
	moveTo(t, h.dir, to)
	again := openHouse(t, to)
	for repo, ds := range map[string][]digest.Digest{"team-a/app": {first, second, evidence}, "team-a/x/y": {deep}} {
		for _, d := range ds {
			if !again.has(t, repo, "manifests", d) {
				t.Errorf("%s@%s is not there", repo, d)
			}
		}
	}
	res, _ := again.must(t, 200, "admin-token", "HEAD", "/v2/team-a/app/manifests/v1", nil)
	if got := res.Header.Get("Docker-Content-Digest"); got != second.String() {
		t.Errorf("v1 is %s, want %s", got, second)
	}
	_, body := again.must(t, 200, "admin-token", "GET", "/v2/team-a/app/referrers/"+second.String(), nil)
	if !bytes.Contains(body, []byte(evidence)) {
		t.Errorf("referrers of %s: %s", second, body)
	}
	history := filepath.Join(to, "docker/registry/v2/repositories/team-a/app/_manifests/tags/v1/index/sha256", first.Encoded(), "link")
	if _, err := os.Stat(history); err != nil {
		t.Error(err)
	}
	again.image(t, "team-a/app", "v3", "three")
}

func TestBadCopiesOfImagesAreRefused(t *testing.T) {
	h := newHouse(t)
	image := h.image(t, "team-a/app", "v1", "one")
	n := core.Name{Namespace: "team-a", Name: "app"}
	good, err := registry.NewExporter(h.dir).Repository(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := digest.Digest("sha256:../../../../x")
	for what, edit := range map[string]func(*registry.Copy){
		"manifest outside":  func(c *registry.Copy) { c.Manifests[elsewhere] = image },
		"blob outside":      func(c *registry.Copy) { c.Blobs[elsewhere] = image },
		"content outside":   func(c *registry.Copy) { c.Blobs[image] = elsewhere },
		"content not there": func(c *registry.Copy) { c.Blobs[digest.FromString("x")] = digest.FromString("x") },
		"tag outside":       func(c *registry.Copy) { c.Tags["../x"] = registry.TagCopy{Current: image} },
		"tag of nothing":    func(c *registry.Copy) { c.Tags["x"] = registry.TagCopy{Current: digest.FromString("x")} },
		"history outside": func(c *registry.Copy) {
			c.Tags["x"] = registry.TagCopy{Current: image, History: []digest.Digest{elsewhere}}
		},
	} {
		t.Run(what, func(t *testing.T) {
			bad := registry.Copy{Tags: maps.Clone(good.Tags), Manifests: maps.Clone(good.Manifests), Blobs: maps.Clone(good.Blobs)}
			edit(&bad)
			dir := t.TempDir()
			moveTo(t, h.dir, dir)
			in, err := registry.NewImporter(dir)
			if err != nil {
				t.Fatal(err)
			}
			var refused *registry.CopyError
			if err := in.Repository(t.Context(), n, bad); !errors.As(err, &refused) {
				t.Errorf("got %v", err)
			}
		})
	}
	dir := t.TempDir()
	in, err := registry.NewImporter(dir)
	if err != nil {
		t.Fatal(err)
	}
	var refused *registry.CopyError
	if err := in.Content(image, bytes.NewReader([]byte("other"))); !errors.As(err, &refused) {
		t.Errorf("other content: %v", err)
	}
	if err := in.Content(elsewhere, bytes.NewReader(nil)); !errors.As(err, &refused) {
		t.Errorf("content outside: %v", err)
	}
	if _, _, err := registry.NewExporter(dir).Open(image); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was refused is there: %v", err)
	}
	// Content that was collected is left out with what needs it.
	if c := good.Without(map[digest.Digest]bool{image: true}); len(c.Tags) != 0 || len(c.Manifests) != 0 || len(c.Blobs) == 0 {
		t.Errorf("without its manifest the image is %+v", c)
	}
}
