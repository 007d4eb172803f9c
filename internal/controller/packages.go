package controller

import (
	"context"

	"github.com/fairway-cd/fairway/internal/core"
)

// Packages are what is published elsewhere: Helm repositories and OCI
// artifacts. Implementations are safe for concurrent use. Charts themselves
// are opened by Sources.
type Packages interface {
	// Index reads what the Helm repository at req.URL has; with Fetch it asks
	// the repository again.
	Index(ctx context.Context, req SourceRequest) (PackageIndex, error)
	// Artifact opens an OCI artifact.
	Artifact(ctx context.Context, req ArtifactRequest) (core.Snapshot, error)
	// Own returns the repository of our own registry that an URL
	// ("oci://HOST/NAMESPACE/NAME") is of; false for those of others, which have
	// to be polled.
	Own(url string) (core.Name, bool)
}

// PackageIndex is the index of a Helm repository.
type PackageIndex struct {
	// Digest is "sha256:…" of the file, Size its length in bytes.
	Digest string
	Size   int64
	Charts int
}

// ArtifactRequest names an OCI artifact and what of it is wanted.
type ArtifactRequest struct {
	// Namespace is who asks.
	Namespace string
	// URL is "oci://HOST/NAME".
	URL string
	// The first that is set says which: a digest ("sha256:…"), a range of
	// versions over those tags that Filter, a regular expression, matches, or a
	// tag; none is "latest".
	Digest, SemVer, Filter, Tag string
	// MediaType is of the layer; "" is the first one. Copy leaves the layer as
	// it is, as one file; otherwise it is an archive to be unpacked.
	MediaType string
	Copy      bool
	Auth      Auth
}
