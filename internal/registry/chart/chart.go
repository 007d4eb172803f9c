// Package chart opens Helm charts that are kept in registries, and in Helm
// repositories over HTTP, and other artifacts of registries.
package chart

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/loopback"
)

// The media types of a chart in a registry (helm.sh/docs/topics/registries).
const (
	configType  types.MediaType = "application/vnd.cncf.helm.config.v1+json"
	contentType types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// Options are how registries are reached.
type Options struct {
	// Own are the hosts ("localhost:8080") that are this instance's registry,
	// and the transport that reads it from within: registry.Registry.Reader.
	Own map[string]http.RoundTripper
	// Keychain has the credentials for other registries. Default: none.
	Keychain authn.Keychain
	// Transport is for other registries. Default: go-containerregistry's.
	Transport http.RoundTripper
	// Insecure allows plain HTTP to other registries.
	Insecure bool
	// Limits bound a chart.
	Limits Limits
	// Cache, where set, keeps what was unpacked.
	Cache *Cache
}

// Limits bound a chart; a zero field is its default.
type Limits struct {
	// Archive is the largest archive in bytes. Default 20 MiB.
	Archive int64
	// Content is the most that it may unpack to. Default 100 MiB.
	Content int64
	// Files is the most files in it. Default 10,000.
	Files int
	// Index is the largest index of a repository in bytes. Default 50 MiB.
	Index int64
}

// Charts opens charts. It is safe for concurrent use.
type Charts struct{ opts Options }

// New fills in the defaults.
func New(opts Options) *Charts {
	if opts.Keychain == nil {
		opts.Keychain = authn.NewMultiKeychain() // nobody's
	}
	if opts.Transport == nil {
		own := remote.DefaultTransport.(*http.Transport).Clone()
		own.DialContext = loopback.Dial(own.DialContext)
		opts.Transport = own
	}
	if opts.Limits.Archive <= 0 {
		opts.Limits.Archive = 20 << 20
	}
	if opts.Limits.Content <= 0 {
		opts.Limits.Content = 100 << 20
	}
	if opts.Limits.Index <= 0 {
		opts.Limits.Index = 50 << 20
	}
	if opts.Limits.Files <= 0 {
		opts.Limits.Files = 10_000
	}
	return &Charts{opts}
}

// OpenChart opens the chart "oci://HOST/NAME" in a version: one version
// ("1.2.3"), a range of them ("^1.2", of which it takes the highest), or ""
// for the highest that is no pre-release; or "oci://HOST/NAME@sha256:…". The
// root of the tree is the chart's directory; the revision is the version as
// its tag, and the digest.
//
// Errors: *NotFoundError, *AuthError, *UnreachableError (which may go away),
// *InvalidError, *core.TooLargeError.
func (c *Charts) OpenChart(ctx context.Context, ref, version string) (core.Snapshot, error) {
	rest, ok := strings.CutPrefix(ref, "oci://")
	if !ok {
		return core.Snapshot{}, &InvalidError{Chart: ref, Err: errors.New("want oci://HOST/NAME")}
	}
	at, tag, err := c.locate(ctx, rest, version, insecure(c.opts.Insecure))
	if err != nil {
		return core.Snapshot{}, classify(ref, version, err)
	}
	image, err := remote.Image(at, c.options(ctx, at.Context())...)
	if err != nil {
		return core.Snapshot{}, classify(ref, version, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return core.Snapshot{}, classify(ref, version, err)
	}
	tree, known := c.opts.Cache.get(digest.String())
	if !known {
		files, err := c.fetch(ref, image)
		if err != nil {
			return core.Snapshot{}, classify(ref, version, err)
		}
		tree = c.opts.Cache.put(digest.String(), files)
	}
	revision := core.Revision{Commit: digest.String()}
	if tag != "" {
		revision.Ref = "refs/tags/" + tag
	}
	return core.Snapshot{Revision: revision, Tree: tree}, nil
}

func (c *Charts) options(ctx context.Context, repo name.Repository) []remote.Option {
	opts := []remote.Option{remote.WithContext(ctx), remote.WithUserAgent("fairway")}
	if own, ok := c.opts.Own[repo.RegistryStr()]; ok {
		return append(opts, remote.WithTransport(own), remote.WithAuth(authn.Anonymous))
	}
	return append(opts, remote.WithTransport(c.opts.Transport), remote.WithAuthFromKeychain(c.opts.Keychain))
}

// locate finds out which manifest is meant.
func (c *Charts) locate(ctx context.Context, s, version string, opts []name.Option) (at name.Reference, tag string, err error) {
	if strings.Contains(s, "@") {
		d, err := name.NewDigest(s, opts...)
		return d, "", invalid(s, err)
	}
	repo, err := name.NewRepository(s, opts...)
	if err != nil {
		return nil, "", invalid(s, err)
	}
	if _, err := semver.StrictNewVersion(strings.TrimPrefix(version, "v")); err == nil {
		tag = strings.ReplaceAll(version, "+", "_") // a tag has no "+": helm writes "_"
		return repo.Tag(tag), tag, nil
	}
	tag, err = c.highest(ctx, repo, version)
	if err != nil {
		return nil, "", err
	}
	return repo.Tag(tag), tag, nil
}

// highest is the tag of the highest version in a range.
func (c *Charts) highest(ctx context.Context, repo name.Repository, version string) (string, error) {
	if version == "" {
		version = "*"
	}
	within, err := semver.NewConstraint(version)
	if err != nil {
		return "", &InvalidError{Chart: repo.Name(), Err: fmt.Errorf("version %q is neither a version nor a range: %w", version, err)}
	}
	tags, err := remote.List(repo, c.options(ctx, repo)...)
	if err != nil {
		return "", err
	}
	var best *semver.Version
	tag := ""
	for _, t := range tags {
		v, err := semver.NewVersion(strings.ReplaceAll(t, "_", "+"))
		if err == nil && within.Check(v) && (best == nil || v.GreaterThan(best)) {
			best, tag = v, t
		}
	}
	if best == nil {
		return "", &NotFoundError{Chart: repo.Name(), Version: version, Err: fmt.Errorf("none of its %d tags is in the range", len(tags))}
	}
	return tag, nil
}

// fetch downloads and unpacks the chart of a manifest.
func (c *Charts) fetch(ref string, image v1.Image) (map[string][]byte, error) {
	m, err := image.Manifest()
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(m.Layers, func(d v1.Descriptor) bool { return d.MediaType == contentType })
	if m.Config.MediaType != configType || at < 0 {
		return nil, &InvalidError{Chart: ref, Err: fmt.Errorf("it is %s and no Helm chart", m.Config.MediaType)}
	}
	content, err := c.read("the chart "+ref, image, &m.Layers[at])
	if err != nil {
		return nil, err
	}
	return unpack(ref, content, c.opts.Limits)
}

func invalid(chart string, err error) error {
	if err == nil {
		return nil
	}
	return &InvalidError{Chart: chart, Err: err}
}

// classify gives an error the type by which it is told apart.
func classify(chart, version string, err error) error {
	var notFound *NotFoundError
	var bad *InvalidError
	var large *core.TooLargeError
	var answer *transport.Error
	switch {
	case errors.As(err, &notFound), errors.As(err, &bad), errors.As(err, &large):
		return err
	case errors.As(err, &answer):
		switch answer.StatusCode {
		case http.StatusNotFound:
			return &NotFoundError{Chart: chart, Version: version, Err: err}
		case http.StatusUnauthorized, http.StatusForbidden:
			return &AuthError{Chart: chart, Err: err}
		}
	}
	return &UnreachableError{Chart: chart, Err: err}
}
