package controller

import (
	"context"

	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/fleet"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/release"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/secrets/sealed"
)

// Stages are what the reconcilers call. All are required but Commits and
// Access, without which a rollback can only pin, and Templates.
type Stages struct {
	Sources  Sources
	Renderer render.Renderer
	Deployer deploy.Deployer
	Watcher  drift.Watcher
	Commits  Commits
	Access   core.Access
	// Fleet is both the Deployer and the Watcher, and has the clusters.
	Fleet *fleet.Fleet
	// Health are the rules that the Deployer and the Watcher go by; without it
	// a delivery cannot have its own.
	Health *health.Owners
	// Packages and Releases are for Helm's kinds, and for OCIRepositories.
	// Without them those are not reconciled.
	Packages Packages
	Releases *release.Cluster
	// Templates run those of ApplicationSets; in this process where it is nil.
	Templates appset.Templates
	// Fill fills in those of SealedSecrets, which are refused where it is nil.
	Fill sealed.Fill
}

// Sources are the repositories that deliveries are read from. Implementations
// are safe for concurrent use.
type Sources interface {
	// Resolve returns the tree that the request names. The error says what is
	// wrong for people, without secrets.
	Resolve(ctx context.Context, req SourceRequest) (core.Snapshot, error)
	// Embedded returns the embedded repository that serves url, directly or by
	// a mirror rule. False is for external ones, which have to be polled.
	Embedded(url string) (core.Name, bool)
	// Names are the URLs that all stand for the repository which url names, as
	// normalURL has them. None is for what cannot be read.
	Names(url string) []string
	// Same says whether the update is of the repository that url names.
	Same(url string, update core.RefUpdate) bool
}

// SourceRequest names a tree.
type SourceRequest struct {
	// Namespace is who asks: that of the Application or GitRepository.
	Namespace string
	URL       string
	// Chart, where set, makes URL a Helm repository, and Ref.Revision the
	// chart's version or a range.
	Chart string
	Ref   SourceRef
	Auth  Auth
	// Layer says what is wanted of an OCI artifact: of an URL oci://HOST/NAME
	// without a chart, whose Ref.Revision is a tag or a digest.
	Layer Layer
	// Fetch asks an external repository again; otherwise what is already here
	// is good enough. Kept asks none, whatever is here.
	Fetch, Kept bool
}

// Layer is one layer of an OCI artifact: the first one of the media type, or
// of all. Copy leaves it as it is, as one file; otherwise it is unpacked.
type Layer struct {
	MediaType string
	Copy      bool
}

// SourceRef says at which revision. The first that is set wins, in the order
// of the fields; none is the repository's HEAD.
type SourceRef struct {
	Commit string
	// Name is a full reference name.
	Name string
	// SemVer is a range over the repository's tags.
	SemVer string
	Tag    string
	Branch string
	// Revision is Argo CD's: a branch, a tag, a commit (or its beginning), a
	// range of semantic versions, or HEAD.
	Revision string
}

// Auth is what proves to a repository who we are. It is never logged.
type Auth struct {
	Username, Password, BearerToken string
	SSHIdentity, SSHKnownHosts      []byte
	CA                              []byte
	// ClientCert and ClientKey are for TLS, in PEM.
	ClientCert, ClientKey []byte
	// PassCredentials lets a Helm repository's go to other hosts, too.
	PassCredentials bool
	Insecure        bool
}

// Empty says that there is nothing to prove with.
func (a Auth) Empty() bool {
	return a.Username == "" && a.Password == "" && a.BearerToken == "" &&
		len(a.SSHIdentity) == 0 && len(a.CA) == 0 && !a.Insecure
}

// Commits writes to embedded repositories.
type Commits interface {
	// Commit makes a commit on a branch whose head is still Parent, as the
	// user. Where the branch has moved on, the error is a *MovedError.
	Commit(ctx context.Context, req CommitRequest) (core.Revision, error)
}

// CommitRequest is one commit.
type CommitRequest struct {
	Repository core.Name
	// Ref is the full name of the branch, Parent the commit that it must be at.
	Ref, Parent string
	Changes     []FileChange
	Message     string
	Author      core.User
}

// FileChange sets a path to a blob or tree that the repository already has,
// or removes it.
type FileChange struct {
	Path string
	// Hash and Mode are a TreeEntry's; an empty Hash removes the path.
	Entry  core.TreeEntry
	Remove bool
}

// MovedError says that a branch was moved by somebody else meanwhile.
type MovedError struct{ Ref string }

func (e *MovedError) Error() string { return e.Ref + " was moved meanwhile" }
