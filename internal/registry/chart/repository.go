package chart

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// Repository is a Helm repository over HTTP, and what proves to it who we are.
type Repository struct {
	URL string
	// Username and Password go to the repository's host alone, unless
	// PassCredentials is set.
	Username, Password string
	PassCredentials    bool
	// CA, in PEM, replaces the machine's; Cert and Key are the client's own.
	CA, Cert, Key []byte
	// Insecure does not verify the server's certificate.
	Insecure bool
}

// key names the repository as this user sees it.
func (r Repository) key() string {
	h := sha256.New()
	for _, s := range [][]byte{[]byte(r.URL), []byte(r.Username), []byte(r.Password), r.CA, r.Cert, r.Key, fmt.Append(nil, r.PassCredentials, r.Insecure)} {
		fmt.Fprintf(h, "%d:", len(s))
		h.Write(s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// maxRepositories is how many indexes are remembered.
const maxRepositories = 64

// Repositories reads Helm repositories over HTTP. An index is kept, and asked
// for again only where it is to be fresh, with its ETag. It is safe for
// concurrent use.
type Repositories struct {
	charts *Charts
	// parsing lets one index be read at a time: each takes many times its size.
	parsing chan struct{}

	mu sync.Mutex
	by map[string]*remembered
}

// remembered is an index as it was read last.
type remembered struct {
	mu       sync.Mutex // one fetch at a time
	client   *http.Client
	index    *Index
	etag     string
	modified string
	used     time.Time
}

// NewRepositories reads charts with the limits, the cache, and for index files
// that refer to registries the other options of charts.
func NewRepositories(charts *Charts) *Repositories {
	return &Repositories{charts: charts, parsing: make(chan struct{}, 1), by: map[string]*remembered{}}
}

// Index is what the repository has. fresh asks the repository; otherwise what
// was read before is good enough. Errors: as OpenChart's.
func (r *Repositories) Index(ctx context.Context, repo Repository, fresh bool) (*Index, error) {
	m, err := r.remembered(repo)
	if err != nil {
		return nil, &InvalidError{Chart: repo.URL, Err: err}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.index != nil && !fresh {
		return m.index, nil
	}
	if err := r.read(ctx, repo, m); err != nil {
		return nil, err
	}
	return m.index, nil
}

// remembered is the repository's place. The one that was not used for the
// longest time makes room.
func (r *Repositories) remembered(repo Repository) (*remembered, error) {
	key := repo.key()
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.by[key]
	if m == nil {
		client, err := repo.client()
		if err != nil {
			return nil, err
		}
		m = &remembered{client: client}
		for len(r.by) >= maxRepositories {
			r.forgetOldest()
		}
		r.by[key] = m
	}
	m.used = time.Now()
	return m, nil
}

func (r *Repositories) forgetOldest() {
	oldest := ""
	for key, m := range r.by {
		if oldest == "" || m.used.Before(r.by[oldest].used) {
			oldest = key
		}
	}
	r.by[oldest].client.CloseIdleConnections()
	delete(r.by, oldest)
}

// read asks for the index and keeps it.
func (r *Repositories) read(ctx context.Context, repo Repository, m *remembered) error {
	at := strings.TrimSuffix(repo.URL, "/") + "/index.yaml"
	ask := http.Header{}
	if m.index != nil {
		if m.etag != "" {
			ask.Set("If-None-Match", m.etag)
		} else if m.modified != "" {
			ask.Set("If-Modified-Since", m.modified)
		}
	}
	answer, err := repo.get(ctx, m.client, at, ask, r.charts.opts.Limits.Index)
	if err != nil {
		return err
	}
	if answer.unchanged {
		return nil
	}
	sum := sha256.Sum256(answer.body)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	if m.index == nil || m.index.Digest != digest {
		select {
		case r.parsing <- struct{}{}:
			defer func() { <-r.parsing }()
		case <-ctx.Done():
			return &UnreachableError{Chart: repo.URL, Err: ctx.Err()}
		}
		index, err := parseIndex(answer.body)
		if err != nil {
			return &InvalidError{Chart: repo.URL, Err: err}
		}
		index.Digest, index.Size = digest, int64(len(answer.body))
		m.index = index
	}
	m.etag, m.modified = answer.header.Get("ETag"), strongTime(answer.header)
	return nil
}

// OpenChart opens a chart of the repository in a version, as Index.Find has
// it; see Charts.OpenChart. The revision's digest is of the archive.
func (r *Repositories) OpenChart(ctx context.Context, repo Repository, name, version string, fresh bool) (core.Snapshot, error) {
	index, err := r.Index(ctx, repo, fresh)
	if err != nil {
		return core.Snapshot{}, err
	}
	found, err := index.Find(name, version)
	if err != nil && !fresh && errors.As(err, new(*NotFoundError)) {
		// It may be newer than what was read before.
		if index, err = r.Index(ctx, repo, true); err == nil {
			found, err = index.Find(name, version)
		}
	}
	if err != nil {
		return core.Snapshot{}, err
	}
	at, err := found.at(repo.URL)
	if err != nil {
		return core.Snapshot{}, &InvalidError{Chart: name, Err: err}
	}
	if at.Scheme == "oci" {
		ref := at.String()
		if i := strings.LastIndex(ref, ":"); i > strings.LastIndex(ref, "/") {
			ref = ref[:i]
		}
		return r.charts.OpenChart(ctx, ref, found.Version)
	}
	return r.open(ctx, repo, name, found, at)
}

func (r *Repositories) open(ctx context.Context, repo Repository, name string, found Version, at *url.URL) (core.Snapshot, error) {
	revision := core.Revision{Ref: "refs/tags/" + strings.ReplaceAll(found.Version, "+", "_"), Commit: found.Digest}
	cache := r.charts.opts.Cache
	if found.Digest != "" {
		if tree, ok := cache.get(found.Digest); ok {
			return core.Snapshot{Revision: revision, Tree: tree}, nil
		}
	}
	m, err := r.remembered(repo)
	if err != nil {
		return core.Snapshot{}, &InvalidError{Chart: repo.URL, Err: err}
	}
	answer, err := repo.get(ctx, m.client, at.String(), nil, r.charts.opts.Limits.Archive)
	if err != nil {
		return core.Snapshot{}, err
	}
	sum := sha256.Sum256(answer.body)
	revision.Commit = "sha256:" + hex.EncodeToString(sum[:])
	if found.Digest != "" && found.Digest != revision.Commit {
		return core.Snapshot{}, &InvalidError{Chart: name, Err: fmt.Errorf("the archive of version %s is %s, and the index says %s", found.Version, revision.Commit, found.Digest)}
	}
	files, err := unpack(name, answer.body, r.charts.opts.Limits)
	if err != nil {
		return core.Snapshot{}, err
	}
	return core.Snapshot{Revision: revision, Tree: cache.put(revision.Commit, files)}, nil
}

// strongTime is the time of the last change where it can tell the next one
// from it, and "": it counts in seconds, and what was changed in the second of
// the answer may change in it again (RFC 9110, section 8.8.2.2).
func strongTime(h http.Header) string {
	modified, err1 := http.ParseTime(h.Get("Last-Modified"))
	date, err2 := http.ParseTime(h.Get("Date"))
	if err1 != nil || err2 != nil || date.Sub(modified) < time.Second {
		return ""
	}
	return h.Get("Last-Modified")
}
