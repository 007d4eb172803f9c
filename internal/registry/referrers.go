package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairway-cd/fairway/internal/core"
)

// The index of referrers is one file for each manifest that has a subject,
// which holds its descriptor: adding is one rename, removing is another, and
// nothing is read to be written again. All of it follows from the manifests.

// referrerPath is the entry of one referrer.
func referrerPath(n core.Name, subject, referrer digest.Digest) string {
	return referrersPath(n, subject) + "/" + referrer.Algorithm().String() + "-" + referrer.Encoded()
}

// referrerOf reads the digest out of "ALG-HEX".
func referrerOf(entry string) (digest.Digest, bool) {
	algorithm, encoded, ok := strings.Cut(entry, "-")
	d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), encoded)
	return d, ok && d.Validate() == nil
}

func (g *Registry) addReferrer(ctx context.Context, n core.Name, m manifest, d digest.Digest, size int64) error {
	entry, err := json.Marshal(ocispec.Descriptor{
		MediaType:    m.MediaType,
		Digest:       d,
		Size:         size,
		ArtifactType: m.artifactType(),
		Annotations:  m.Annotations,
	})
	if err != nil {
		return err
	}
	return g.store.PutContent(ctx, referrerPath(n, m.Subject.Digest, d), entry)
}

// referrers lists the manifests whose subject is d, from the entry after
// last on, until more returns false.
func (g *Registry) referrers(ctx context.Context, n core.Name, subject digest.Digest, last string, more func(name string, d ocispec.Descriptor) bool) error {
	names, err := g.store.names(ctx, referrersPath(n, subject))
	if err != nil {
		return err
	}
	for _, name := range names {
		if name <= last {
			continue
		}
		d, ok := referrerOf(name)
		if !ok {
			continue
		}
		// Only what is there counts: see storeManifest.
		if there, err := g.store.exists(ctx, revisionPath(n, d)+"/link"); err != nil {
			return err
		} else if !there {
			continue
		}
		content, err := g.store.GetContent(ctx, referrersPath(n, subject)+"/"+name)
		if isMissing(err) {
			continue
		} else if err != nil {
			return err
		}
		var entry ocispec.Descriptor
		if err := json.Unmarshal(content, &entry); err != nil {
			return fmt.Errorf("reading a referrer of %s in %s: %w", subject, n, err)
		}
		if !more(name, entry) {
			return nil
		}
	}
	return nil
}

// listReferrers serves /v2/NAME/referrers/DIGEST. Nothing there is an empty
// index, as the specification wants; a page holds at most as many entries as
// a list, and as many bytes as a manifest.
func (g *Registry) listReferrers(r *http.Request, rt route) (*answer, *apiError) {
	subject, bad := parseDigest(rt.ref)
	if bad != nil {
		return nil, bad
	}
	query := r.URL.Query()
	wanted := query.Get("artifactType")
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{},
	}
	size, last, cut := 0, "", false
	err := g.referrers(r.Context(), rt.name, subject, query.Get("last"), func(name string, d ocispec.Descriptor) bool {
		if wanted != "" && d.ArtifactType != wanted {
			return true
		}
		if encoded, err := json.Marshal(d); err == nil {
			size += len(encoded) + 1
		}
		if n := len(index.Manifests); n > 0 && (n >= g.limits.Page || size > mostManifest-1024) {
			cut = true
			return false
		}
		index.Manifests = append(index.Manifests, d)
		last = name
		return true
	})
	if err != nil {
		return nil, internalError(err)
	}
	a, bad := jsonAnswer(ocispec.MediaTypeImageIndex, index)
	if bad != nil {
		return nil, bad
	}
	next := url.Values{"last": {last}}
	if wanted != "" {
		a.header.Set("OCI-Filters-Applied", "artifactType")
		next.Set("artifactType", wanted)
	}
	if cut {
		a.next(r, next)
	}
	return a, nil
}

// referrersVersion names the form of the index. Another one, or none, on
// disk has the index made anew.
const (
	referrersVersion = "1"
	referrersMarker  = layoutRoot + "/referrers-version"
)

// openReferrers makes the index where it is not there: a directory that
// distribution itself filled, or a restored copy.
func (g *Registry) openReferrers(ctx context.Context) error {
	version, err := g.store.GetContent(ctx, referrersMarker)
	if err == nil && string(version) == referrersVersion {
		return nil
	} else if err != nil && !isMissing(err) {
		return fmt.Errorf("reading the version of the referrers: %w", err)
	}
	err = g.store.each(ctx, func(n core.Name) error { return g.indexReferrers(ctx, n) })
	if err != nil {
		return fmt.Errorf("indexing referrers: %w", err)
	}
	return g.store.PutContent(ctx, referrersMarker, []byte(referrersVersion))
}

func (g *Registry) indexReferrers(ctx context.Context, n core.Name) error {
	all, err := g.store.digests(ctx, repoPath(n)+"/_manifests/revisions")
	if err != nil {
		return err
	}
	for _, d := range all {
		if d.Algorithm() != digest.SHA256 {
			continue
		}
		content, err := g.store.manifest(ctx, n, d)
		if isMissing(err) {
			continue
		} else if err != nil {
			return err
		}
		m, bad := parseManifest(content, "")
		if bad != nil || m.Subject == nil {
			continue
		}
		if err := g.addReferrer(ctx, n, m, d, int64(len(content))); err != nil {
			return err
		}
	}
	return nil
}
