package chart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/fairway-cd/fairway/internal/core"
)

// Artifact names an OCI artifact and what of it is wanted.
type Artifact struct {
	// URL is "oci://HOST/NAME".
	URL string
	// The first that is set says which: a digest, a range of versions over the
	// tags that Filter (a regular expression) matches, or a tag; none is
	// "latest".
	Digest, SemVer, Filter, Tag string
	// MediaType is of the layer; "" is the first one. Copy leaves the layer as
	// it is, as one file (CopiedFile); otherwise it is unpacked.
	MediaType string
	Copy      bool
}

// CopiedFile is the name of a layer that was copied.
const CopiedFile = "layer"

// OpenArtifact opens an artifact that need not be a chart, such as `flux push
// artifact` makes. Its errors are those of OpenChart.
func (c *Charts) OpenArtifact(ctx context.Context, a Artifact) (core.Snapshot, error) {
	rest, ok := strings.CutPrefix(a.URL, "oci://")
	if !ok {
		return core.Snapshot{}, &InvalidError{Chart: a.URL, Err: errors.New("want oci://HOST/NAME")}
	}
	repo, err := name.NewRepository(rest, insecure(c.opts.Insecure)...)
	if err != nil {
		return core.Snapshot{}, &InvalidError{Chart: a.URL, Err: err}
	}
	at, tag, err := c.choose(ctx, repo, a)
	if err != nil {
		return core.Snapshot{}, classify(a.URL, a.SemVer+a.Tag, err)
	}
	image, err := remote.Image(at, c.options(ctx, repo)...)
	if err != nil {
		return core.Snapshot{}, classify(a.URL, tag, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return core.Snapshot{}, classify(a.URL, tag, err)
	}
	revision := core.Revision{Commit: digest.String()}
	if tag != "" {
		revision.Ref = "refs/tags/" + tag
	}
	key := fmt.Sprintf("%s %s %v", digest, a.MediaType, a.Copy)
	if tree, ok := c.opts.Cache.get(key); ok {
		return core.Snapshot{Revision: revision, Tree: tree}, nil
	}
	files, err := c.layer(a, image)
	if err != nil {
		return core.Snapshot{}, classify(a.URL, tag, err)
	}
	return core.Snapshot{Revision: revision, Tree: c.opts.Cache.put(key, files)}, nil
}

// choose finds out which manifest is meant.
func (c *Charts) choose(ctx context.Context, repo name.Repository, a Artifact) (at name.Reference, tag string, err error) {
	switch {
	case a.Digest != "":
		d, err := name.NewDigest(repo.Name()+"@"+a.Digest, insecure(c.opts.Insecure)...)
		return d, "", invalid(a.URL, err)
	case a.SemVer != "":
		if tag, err = c.inRange(ctx, repo, a); err != nil {
			return nil, "", err
		}
	case a.Tag != "":
		tag = a.Tag
	default:
		tag = "latest"
	}
	t, err := name.NewTag(repo.Name()+":"+tag, insecure(c.opts.Insecure)...)
	return t, tag, invalid(a.URL, err)
}

func insecure(yes bool) []name.Option {
	if yes {
		return []name.Option{name.Insecure}
	}
	return nil
}

// maxFilter bounds a regular expression; Go's take time linear in the text.
const maxFilter = 1 << 10

func (c *Charts) inRange(ctx context.Context, repo name.Repository, a Artifact) (string, error) {
	within, err := semver.NewConstraint(a.SemVer)
	if err != nil {
		return "", &InvalidError{Chart: a.URL, Err: fmt.Errorf("semver %q is no range of versions: %w", a.SemVer, err)}
	}
	if len(a.Filter) > maxFilter {
		return "", &core.TooLargeError{What: "semverFilter", Size: int64(len(a.Filter)), Limit: maxFilter}
	}
	filter, err := regexp.Compile(a.Filter)
	if err != nil {
		return "", &InvalidError{Chart: a.URL, Err: fmt.Errorf("semverFilter is no regular expression: %w", err)}
	}
	tags, err := remote.List(repo, c.options(ctx, repo)...)
	if err != nil {
		return "", err
	}
	var best *semver.Version
	found := ""
	for _, t := range tags {
		v, err := semver.NewVersion(t)
		if err == nil && filter.MatchString(t) && within.Check(v) && (best == nil || v.GreaterThan(best)) {
			best, found = v, t
		}
	}
	if best == nil {
		return "", &NotFoundError{Chart: a.URL, Version: a.SemVer, Err: fmt.Errorf("none of its %d tags is in the range", len(tags))}
	}
	return found, nil
}

// layer reads the layer that is wanted.
func (c *Charts) layer(a Artifact, image v1.Image) (map[string][]byte, error) {
	m, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	var wanted *v1.Descriptor
	for i := range m.Layers {
		if a.MediaType == "" || string(m.Layers[i].MediaType) == a.MediaType {
			wanted = &m.Layers[i]
			break
		}
	}
	if wanted == nil {
		return nil, &InvalidError{Chart: a.URL, Err: fmt.Errorf("none of its %d layers is of the media type %q", len(m.Layers), a.MediaType)}
	}
	content, err := c.read(a.URL, image, wanted)
	if err != nil {
		return nil, err
	}
	if a.Copy {
		return map[string][]byte{CopiedFile: content}, nil
	}
	return unpackAll(a.URL, content, c.opts.Limits)
}

// read downloads a layer; it has its digest, or reading fails.
func (c *Charts) read(ref string, image v1.Image, d *v1.Descriptor) ([]byte, error) {
	if d.Size > c.opts.Limits.Archive {
		return nil, &core.TooLargeError{What: ref, Size: d.Size, Limit: c.opts.Limits.Archive}
	}
	layer, err := image.LayerByDigest(d.Digest)
	if err != nil {
		return nil, err
	}
	archive, err := layer.Compressed()
	if err != nil {
		return nil, err
	}
	defer func() { _ = archive.Close() }() // opened for reading
	content, err := io.ReadAll(io.LimitReader(archive, c.opts.Limits.Archive+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > c.opts.Limits.Archive {
		return nil, &core.TooLargeError{What: ref, Size: int64(len(content)), Limit: c.opts.Limits.Archive}
	}
	return content, nil
}
