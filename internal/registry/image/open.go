package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func dirOf(path string) string { return filepath.Dir(filepath.Clean(path)) }

// open reads an image from files. What it returns last removes what had to be
// unpacked.
func open(path string) (artifact, func(), error) {
	nothing := func() {}
	fail := func(err error) (artifact, func(), error) {
		return nil, nothing, &Error{Op: "reading the image in", What: path, Err: err,
			Advice: "it has to be an OCI layout (a directory or a tar) or a tar of 'docker save'"}
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nothing, &Error{Op: "reading the image in", What: path, Err: errors.Unwrap(err)}
	}
	if info.IsDir() {
		source, err := openLayout(path)
		if err != nil {
			return fail(err)
		}
		return source, nothing, nil
	}
	isLayout, err := isLayoutTar(path)
	if err != nil {
		return fail(err)
	}
	if !isLayout {
		image, err := tarball.ImageFromPath(path, nil)
		if err != nil {
			return fail(err)
		}
		return image, nothing, nil
	}
	dir, err := os.MkdirTemp("", "fairway-image-")
	if err != nil {
		return nil, nothing, err
	}
	remove := func() { _ = os.RemoveAll(dir) }
	var source artifact
	if err = untar(path, dir); err == nil {
		source, err = openLayout(dir)
	}
	if err != nil {
		remove()
		return fail(err)
	}
	return source, remove, nil
}

// openLayout takes the one image of a layout, or all of them as an index.
func openLayout(dir string) (artifact, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	switch len(manifest.Manifests) {
	case 0:
		return nil, errors.New("the OCI layout has no image")
	case 1:
		one := manifest.Manifests[0]
		if one.MediaType.IsIndex() {
			return index.ImageIndex(one.Digest)
		}
		return index.Image(one.Digest)
	default:
		return nil, fmt.Errorf("the OCI layout has %d images, and it is not said which", len(manifest.Manifests))
	}
}

func isLayoutTar(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		switch filepath.ToSlash(filepath.Clean(h.Name)) {
		case layoutFile:
			return true, nil
		case "manifest.json":
			return false, nil
		}
	}
}

const layoutFile = "oci-layout"

// untar unpacks the tar of a layout: nothing but files and directories, and
// nothing outside of dir.
func untar(path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // its files are closed
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		name := filepath.Clean(filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeReg:
			if err := unpackFile(root, name, r); err != nil {
				return fmt.Errorf("unpacking %s: %w", h.Name, err)
			}
		case tar.TypeDir:
		default:
			return fmt.Errorf("%s is neither a file nor a directory", h.Name)
		}
	}
}

func unpackFile(root *os.Root, name string, content io.Reader) error {
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		_ = f.Close() // the copy's error says more
		return err
	}
	return f.Close()
}

var (
	_ artifact = (v1.Image)(nil)
	_ artifact = (v1.ImageIndex)(nil)
)
