package image

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Recipe says what an image is made of. The same recipe and files make the
// same image, to the byte.
type Recipe struct {
	// From is the image below, in a registry; "" or "scratch" is none.
	From string
	// Add are files and directories, each of which becomes a layer.
	Add []Addition
	// Platform is "OS/ARCH[/VARIANT]". Default linux and this machine's.
	Platform string
	// Entrypoint and Cmd replace those of the image below where they are set.
	Entrypoint, Cmd []string
	// Env are "NAME=VALUE"; Labels are set beside those of the image below.
	Env    []string
	Labels map[string]string
	// Ports are "8080" or "8080/udp".
	Ports            []string
	User, WorkingDir string
	// Created is what the image says. Default: the beginning of time (1970),
	// so that it says nothing of when it was made.
	Created time.Time
}

// Create makes an image and pushes it to a registry, or writes it to an OCI
// layout where to is empty and dir is not.
func (c *Client) Create(ctx context.Context, recipe Recipe, to, dir string) (Pushed, error) {
	if to == "" {
		to = "scratch:latest" // a name for messages only
	}
	ref, err := c.Parse(to)
	if err != nil {
		return Pushed{}, err
	}
	image, err := c.build(ctx, recipe)
	if err != nil {
		return Pushed{}, err
	}
	if dir == "" {
		return c.write(ctx, ref, image)
	}
	if err := writeLayout(dir, image); err != nil {
		return Pushed{}, &Error{Op: "writing the image to", What: dir, Err: err}
	}
	return pushed(ref, image)
}

func (c *Client) build(ctx context.Context, recipe Recipe) (v1.Image, error) {
	platform, err := parsePlatform(recipe.Platform)
	if err != nil {
		return nil, err
	}
	image, err := c.base(ctx, recipe.From, platform)
	if err != nil {
		return nil, err
	}
	// An image is of one kind all through, that of the image below.
	layerType := types.OCILayer
	if kind, err := image.MediaType(); err != nil {
		return nil, explain("reading", recipe.From, recipe.From, err)
	} else if kind == types.DockerManifestSchema2 {
		layerType = types.DockerLayer
	}
	created := recipe.Created
	if created.IsZero() {
		created = time.Unix(0, 0)
	}
	for _, add := range recipe.Add {
		layer, err := layerOf(add, layerType)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:     layer,
			MediaType: layerType,
			History:   v1.History{CreatedBy: "fairway image create --add " + add.String(), Created: v1.Time{Time: created.UTC()}},
		})
		if err != nil {
			return nil, fmt.Errorf("adding %s: %w", add, err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of %s: %w", recipe.From, err)
	}
	config = config.DeepCopy()
	config.Created = v1.Time{Time: created.UTC()}
	config.Architecture, config.OS, config.Variant = platform.Architecture, platform.OS, platform.Variant
	if err := recipe.configure(&config.Config); err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, config)
}

func (c *Client) base(ctx context.Context, from string, platform *v1.Platform) (v1.Image, error) {
	if from == "" || from == "scratch" {
		return mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), nil
	}
	ref, err := c.Parse(from)
	if err != nil {
		return nil, err
	}
	image, err := remote.Image(ref, append(c.remote(ctx), remote.WithPlatform(*platform))...)
	if err != nil {
		return nil, explain("finding the image below,", from, host(ref), err)
	}
	return image, nil
}

func parsePlatform(s string) (*v1.Platform, error) {
	if s == "" {
		return &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
	}
	p, err := v1.ParsePlatform(s)
	if err != nil || p.OS == "" || p.Architecture == "" {
		return nil, &Error{Op: "reading the platform", What: s, Err: fmt.Errorf("want OS/ARCH or OS/ARCH/VARIANT")}
	}
	return p, nil
}

func (r Recipe) configure(c *v1.Config) error {
	if r.Entrypoint != nil {
		c.Entrypoint, c.Cmd = r.Entrypoint, nil // as a Dockerfile's ENTRYPOINT does
	}
	if r.Cmd != nil {
		c.Cmd = r.Cmd
	}
	for _, env := range r.Env {
		key, _, ok := strings.Cut(env, "=")
		if !ok || key == "" {
			return &Error{Op: "reading the variable", What: env, Err: fmt.Errorf("want NAME=VALUE")}
		}
		c.Env = slices.DeleteFunc(c.Env, func(old string) bool { return strings.HasPrefix(old, key+"=") })
		c.Env = append(c.Env, env)
	}
	for key, value := range r.Labels {
		if c.Labels == nil {
			c.Labels = map[string]string{}
		}
		c.Labels[key] = value
	}
	for _, port := range r.Ports {
		exposed, err := parsePort(port)
		if err != nil {
			return err
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = map[string]struct{}{}
		}
		c.ExposedPorts[exposed] = struct{}{}
	}
	if r.User != "" {
		c.User = r.User
	}
	if r.WorkingDir != "" {
		c.WorkingDir = r.WorkingDir
	}
	return nil
}

func layerOf(add Addition, mediaType types.MediaType) (v1.Layer, error) {
	files, err := add.files()
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { _ = w.CloseWithError(writeFiles(w, files)) }() // never fails
		return r, nil
	}
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(mediaType))
	if err != nil {
		return nil, fmt.Errorf("adding %s: %w", add, err)
	}
	return layer, nil
}
