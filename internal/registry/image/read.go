package image

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Listed is a tag of a repository, or a repository.
type Listed struct {
	Name   string `json:"name"`
	Tag    string `json:"tag,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// List lists the tags of a repository with their digests; without one, the
// repositories of the default registry.
func (c *Client) List(ctx context.Context, repository string) ([]Listed, error) {
	if repository == "" {
		return c.catalog(ctx)
	}
	repo, err := c.parseRepository(repository)
	if err != nil {
		return nil, err
	}
	tags, err := remote.List(repo, c.remote(ctx)...)
	if err != nil {
		return nil, explain("listing", repository, repo.RegistryStr(), err)
	}
	out := []Listed{}
	for _, tag := range tags {
		desc, err := remote.Head(repo.Tag(tag), c.remote(ctx)...)
		if err != nil {
			return nil, explain("listing", repository+":"+tag, repo.RegistryStr(), err)
		}
		out = append(out, Listed{Name: repo.Name(), Tag: tag, Digest: desc.Digest.String()})
	}
	return out, nil
}

func (c *Client) catalog(ctx context.Context) ([]Listed, error) {
	registry, err := name.NewRegistry(c.opts.Registry, c.nameOptions()...)
	if err != nil {
		return nil, &Error{Op: "reading the registry", What: c.opts.Registry, Err: err}
	}
	names, err := remote.Catalog(ctx, registry, c.remote(ctx)...)
	if err != nil {
		return nil, explain("listing", registry.Name(), registry.Name(), err)
	}
	out := []Listed{}
	for _, n := range names {
		out = append(out, Listed{Name: registry.Name() + "/" + n})
	}
	return out, nil
}

// Description says what an image is.
type Description struct {
	Image     string `json:"image"`
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	// Size is what a pull transfers, in bytes.
	Size        int64             `json:"size"`
	Platform    string            `json:"platform,omitempty"`
	Created     *time.Time        `json:"created,omitempty"`
	Entrypoint  []string          `json:"entrypoint,omitempty"`
	Cmd         []string          `json:"cmd,omitempty"`
	Env         []string          `json:"env,omitempty"`
	WorkingDir  string            `json:"workingDir,omitempty"`
	User        string            `json:"user,omitempty"`
	Ports       []string          `json:"ports,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Layers      []Layer           `json:"layers,omitempty"`
	// Images are those of an index.
	Images []Listed `json:"images,omitempty"`
	// Evidence are the artifacts that refer to the image.
	Evidence []Evidence `json:"evidence,omitempty"`
}

// Layer is one layer of an image.
type Layer struct {
	Digest    string `json:"digest"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
}

// Evidence is an artifact about an image: a signature, an SBOM, a report.
type Evidence struct {
	Digest string `json:"digest"`
	Type   string `json:"type"`
}

// Inspect describes an image or index, and its evidence.
func (c *Client) Inspect(ctx context.Context, what string) (Description, error) {
	ref, err := c.Parse(what)
	if err != nil {
		return Description{}, err
	}
	source, err := c.get(ctx, ref)
	if err != nil {
		return Description{}, err
	}
	p, err := pushed(ref, source)
	if err != nil {
		return Description{}, explain("inspecting", what, host(ref), err)
	}
	d := Description{Image: p.Image, Digest: p.Digest, MediaType: p.MediaType}
	switch source := source.(type) {
	case v1.ImageIndex:
		err = d.index(ref, source)
	case v1.Image:
		err = d.image(source)
	}
	if err == nil {
		err = c.evidence(ctx, ref, &d)
	}
	return d, explain("inspecting", what, host(ref), err)
}

func (d *Description) index(ref name.Reference, index v1.ImageIndex) error {
	m, err := index.IndexManifest()
	if err != nil {
		return err
	}
	d.Annotations = m.Annotations
	for _, one := range m.Manifests {
		platform := ""
		if one.Platform != nil {
			platform = one.Platform.String()
		}
		d.Images = append(d.Images, Listed{Name: ref.Context().Name(), Tag: platform, Digest: one.Digest.String()})
		d.Size += one.Size
	}
	return nil
}

func (d *Description) image(image v1.Image) error {
	m, err := image.Manifest()
	if err != nil {
		return err
	}
	d.Annotations = m.Annotations
	d.Size = m.Config.Size
	for _, l := range m.Layers {
		d.Layers = append(d.Layers, Layer{l.Digest.String(), string(l.MediaType), l.Size})
		d.Size += l.Size
	}
	if !m.Config.MediaType.IsConfig() {
		return nil // an artifact
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	if platform := config.Platform(); platform != nil {
		d.Platform = platform.String()
	}
	if !config.Created.IsZero() {
		d.Created = &config.Created.Time
	}
	d.Entrypoint, d.Cmd, d.Env = config.Config.Entrypoint, config.Config.Cmd, config.Config.Env
	d.WorkingDir, d.User, d.Labels = config.Config.WorkingDir, config.Config.User, config.Config.Labels
	for port := range config.Config.ExposedPorts {
		d.Ports = append(d.Ports, port)
	}
	slices.Sort(d.Ports)
	return nil
}

func (c *Client) evidence(ctx context.Context, ref name.Reference, d *Description) error {
	index, err := remote.Referrers(ref.Context().Digest(d.Digest), c.remote(ctx)...)
	if err != nil {
		return err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, one := range m.Manifests {
		d.Evidence = append(d.Evidence, Evidence{one.Digest.String(), one.ArtifactType})
	}
	return nil
}

// Step is one step of how an image was made, the newest first.
type Step struct {
	Created   *time.Time `json:"created,omitempty"`
	CreatedBy string     `json:"createdBy"`
	Comment   string     `json:"comment,omitempty"`
	// Layer and Size are empty where the step changed no file.
	Layer string `json:"layer,omitempty"`
	Size  int64  `json:"size"`
}

// History says how an image was made, as far as its configuration knows.
func (c *Client) History(ctx context.Context, what string) ([]Step, error) {
	ref, err := c.Parse(what)
	if err != nil {
		return nil, err
	}
	source, err := c.get(ctx, ref)
	if err != nil {
		return nil, err
	}
	image, ok := source.(v1.Image)
	if !ok {
		return nil, &Error{Op: "reading the history of", What: what, Err: fmt.Errorf("it is an index of several images"),
			Advice: "name one of them by its digest; 'fairway image inspect' lists them"}
	}
	steps, err := history(image)
	return steps, explain("reading the history of", what, host(ref), err)
}

func history(image v1.Image) ([]Step, error) {
	m, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	var steps []Step
	layers := m.Layers
	for _, h := range config.History {
		s := Step{CreatedBy: strings.TrimSpace(h.CreatedBy), Comment: h.Comment}
		if !h.Created.IsZero() {
			s.Created = &h.Created.Time
		}
		if !h.EmptyLayer && len(layers) > 0 {
			s.Layer, s.Size = layers[0].Digest.String(), layers[0].Size
			layers = layers[1:]
		}
		steps = append(steps, s)
	}
	for _, l := range layers { // of which the configuration says nothing
		steps = append(steps, Step{Layer: l.Digest.String(), Size: l.Size})
	}
	slices.Reverse(steps)
	return steps, nil
}
