// Package image makes small images out of static programs, without Docker and
// without a base image.
package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// File is one file of an image: where it is, and where it goes.
type File struct {
	From string
	// To is absolute. Its directories are made.
	To   string
	Mode int64
}

// Spec is an image of one layer.
type Spec struct {
	Architecture string
	Files        []File
	Entrypoint   []string
	// User is the uid that the program runs as; empty: root.
	User string
}

// Build makes the image. The same files give the same digest.
func Build(s Spec) (v1.Image, error) {
	content, err := layer(s.Files)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
	if err != nil {
		return nil, fmt.Errorf("making a layer: %w", err)
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return nil, fmt.Errorf("appending a layer: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", s.Architecture
	config.Config.Entrypoint, config.Config.User = s.Entrypoint, s.User
	config.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		return nil, fmt.Errorf("configuring the image: %w", err)
	}
	return img, nil
}

// WriteArchive writes an image to a file that containerd and docker load, under
// the name given, which must have a tag.
func WriteArchive(file, tag string, img v1.Image) error {
	ref, err := name.NewTag(tag, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("naming the image: %w", err)
	}
	if err := tarball.WriteToFile(file, ref, img); err != nil {
		return fmt.Errorf("writing the image to %s: %w", file, err)
	}
	return nil
}

func layer(files []File) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	made := map[string]bool{".": true}
	for _, f := range files {
		to := strings.TrimPrefix(path.Clean("/"+f.To), "/")
		if err := makeParents(w, path.Dir(to), made); err != nil {
			return nil, err
		}
		content, err := os.ReadFile(f.From)
		if err != nil {
			return nil, fmt.Errorf("adding a file to the image: %w", err)
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: to, Mode: f.Mode, Size: int64(len(content)), ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("adding %s to the image: %w", to, err)
		}
		if _, err := w.Write(content); err != nil {
			return nil, fmt.Errorf("adding %s to the image: %w", to, err)
		}
	}
	return buffer.Bytes(), w.Close()
}

func makeParents(w *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := makeParents(w, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	header := &tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("adding %s to the image: %w", dir, err)
	}
	return nil
}
