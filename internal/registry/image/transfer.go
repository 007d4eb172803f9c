package image

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Pushed is an image that is in a registry.
type Pushed struct {
	// Image is its name, by tag; Reference the one that stays.
	Image     string `json:"image"`
	Reference string `json:"reference"`
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
}

// artifact is an image or an index of images.
type artifact interface {
	remote.Taggable
	Digest() (v1.Hash, error)
	MediaType() (types.MediaType, error)
}

// Push sends what is at path (an OCI layout, as a directory or tar, or a
// docker save tar) to a registry.
func (c *Client) Push(ctx context.Context, path, to string) (Pushed, error) {
	ref, err := c.Parse(to)
	if err != nil {
		return Pushed{}, err
	}
	source, closeSource, err := open(path)
	if err != nil {
		return Pushed{}, err
	}
	defer closeSource()
	return c.write(ctx, ref, source)
}

func (c *Client) write(ctx context.Context, ref name.Reference, source artifact) (Pushed, error) {
	what := ref.String()
	watch, wait := c.watch()
	opts := append(c.remote(ctx), watch...)
	var err error
	switch source := source.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, source, opts...)
	case v1.Image:
		err = remote.Write(ref, source, opts...)
	default:
		return Pushed{}, fmt.Errorf("pushing %s: %T is neither an image nor an index", what, source)
	}
	wait(err)
	if err != nil {
		return Pushed{}, explain("pushing", what, host(ref), err)
	}
	return pushed(ref, source)
}

func pushed(ref name.Reference, source artifact) (Pushed, error) {
	digest, err := source.Digest()
	if err != nil {
		return Pushed{}, err
	}
	mediaType, err := source.MediaType()
	if err != nil {
		return Pushed{}, err
	}
	return Pushed{
		Image:     ref.String(),
		Reference: ref.Context().Digest(digest.String()).String(),
		Digest:    digest.String(),
		MediaType: string(mediaType),
	}, nil
}

// Format is how an image stands in files.
type Format string

// The formats: an OCI layout directory, or a tar as of docker save.
const (
	FormatOCI    Format = "oci"
	FormatDocker Format = "docker"
)

// Pull gets an image into files at path. An OCI layout that is there gets one
// more image; a tar is replaced when it is whole.
func (c *Client) Pull(ctx context.Context, from, path string, format Format) (Pushed, error) {
	ref, err := c.Parse(from)
	if err != nil {
		return Pushed{}, err
	}
	source, err := c.get(ctx, ref)
	if err != nil {
		return Pushed{}, err
	}
	switch format {
	case FormatOCI:
		err = writeLayout(path, source)
	case FormatDocker:
		image, ok := source.(v1.Image)
		if !ok {
			return Pushed{}, &Error{Op: "pulling", What: from, Err: errors.New("it is an index of several images, which a docker tar cannot hold"),
				Advice: "pull it as --format oci, or one of its images by its digest ('fairway image inspect' lists them)"}
		}
		err = writeTar(path, ref, image)
	default:
		return Pushed{}, fmt.Errorf("format %q: want oci or docker", format)
	}
	if err != nil {
		return Pushed{}, explain("pulling", from, host(ref), err)
	}
	return pushed(ref, source)
}

// get finds an image or index; its layers are fetched when they are read.
func (c *Client) get(ctx context.Context, ref name.Reference) (artifact, error) {
	desc, err := remote.Get(ref, c.remote(ctx)...)
	if err != nil {
		return nil, explain("finding", ref.String(), host(ref), err)
	}
	var source artifact
	if desc.MediaType.IsIndex() {
		source, err = desc.ImageIndex()
	} else {
		source, err = desc.Image()
	}
	if err != nil {
		return nil, explain("reading", ref.String(), host(ref), err)
	}
	return source, nil
}

func writeLayout(path string, source artifact) error {
	l, err := layout.FromPath(path)
	if errors.Is(err, os.ErrNotExist) {
		l, err = layout.Write(path, empty.Index)
	}
	if err != nil {
		return err
	}
	if index, ok := source.(v1.ImageIndex); ok {
		return l.AppendIndex(index)
	}
	return l.AppendImage(source.(v1.Image))
}

func writeTar(path string, ref name.Reference, image v1.Image) error {
	f, err := os.CreateTemp(dirOf(path), ".fairway-image-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // renamed, where it is whole
	if err := tarball.Write(ref, image, f); err != nil {
		_ = f.Close() // the write's error says more
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Copy copies an image, with all its platforms, between registries.
func (c *Client) Copy(ctx context.Context, from, to string) (Pushed, error) {
	src, err := c.Parse(from)
	if err != nil {
		return Pushed{}, err
	}
	dst, err := c.Parse(to)
	if err != nil {
		return Pushed{}, err
	}
	source, err := c.get(ctx, src)
	if err != nil {
		return Pushed{}, err
	}
	return c.write(ctx, dst, source)
}

// Delete removes a tag, or by its digest an image with all its tags.
func (c *Client) Delete(ctx context.Context, what string) error {
	ref, err := c.Parse(what)
	if err != nil {
		return err
	}
	return explain("deleting", what, host(ref), remote.Delete(ref, c.remote(ctx)...))
}
