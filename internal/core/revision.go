package core

import (
	"strings"
	"time"
)

// Revision is one state of a source: a Git commit, or the digest of an OCI
// artifact, and the name by which it was found.
type Revision struct {
	// Ref is the full reference name ("refs/heads/main", "refs/tags/v1"), or
	// empty where the source was asked for by commit or digest.
	Ref string
	// Commit is the full hexadecimal object name of the commit, or
	// "sha256:…" for an OCI artifact.
	Commit string
}

// String is Flux's form: "main@sha1:COMMIT", "v1.0@sha1:COMMIT",
// "sha1:COMMIT", or "TAG@sha256:…" for an artifact.
func (r Revision) String() string {
	commit := r.Commit
	if commit != "" && !strings.Contains(commit, ":") {
		commit = "sha1:" + commit
	}
	ref := strings.TrimPrefix(strings.TrimPrefix(r.Ref, "refs/heads/"), "refs/tags/")
	if ref == "" {
		return commit
	}
	return ref + "@" + commit
}

// Short is the first seven characters of the commit, for people.
func (r Revision) Short() string {
	c := strings.TrimPrefix(r.Commit, "sha256:")
	if len(c) > 7 {
		return c[:7]
	}
	return c
}

// RefUpdate is the event of a reference that moved in a repository.
type RefUpdate struct {
	// ID names the event for ever: the same update delivered twice has the
	// same ID, so what it causes can be named after it and made once.
	ID string
	// Repository is set for embedded repositories, URL for mirrors of
	// external ones.
	Repository Name
	URL        string
	// Ref is the full reference name. Old is empty where it was created, New
	// where it was deleted.
	Ref, Old, New string
	// Who is the Kubernetes user name behind a push; empty for a mirror.
	Who string
	// When is the time of the update, with a precision of seconds.
	When time.Time
}
