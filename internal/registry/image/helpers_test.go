package image_test

import (
	"archive/tar"
	"os"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/fairway-cd/fairway/internal/registry/image"
)

func mustParse(t *testing.T, c *image.Client, s string) name.Reference {
	t.Helper()
	ref, err := c.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// onlyIndex is the top of a layout that has one index.
func onlyIndex(t *testing.T, index v1.ImageIndex) v1.ImageIndex {
	t.Helper()
	return mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})
}

func writeTarOf(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
