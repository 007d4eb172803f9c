package registry

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// store reads and changes what distribution keeps, by the layout that its
// registry/storage/paths.go documents:
//
//	blobs/ALG/HH/HEX/data                              content, of all repositories
//	repositories/NAME/_layers/ALG/HEX/link             a blob is in a repository
//	repositories/NAME/_manifests/revisions/ALG/HEX/link
//	repositories/NAME/_manifests/tags/TAG/current/link
//	repositories/NAME/_manifests/tags/TAG/index/ALG/HEX/link
//	repositories/NAME/_uploads/ID/{data,startedat}
//
// and, our own, one file a referrer:
//
//	repositories/NAME/_referrers/ALG/HEX/ALG-HEX
//
// A link holds the digest under which the content is stored, always sha256.
type store struct{ *durable }

const (
	layoutRoot   = "/docker/registry/v2"
	repositories = layoutRoot + "/repositories"
	blobs        = layoutRoot + "/blobs"
)

func repoPath(n core.Name) string { return repositories + "/" + n.String() }

func digestPath(d digest.Digest) string { return d.Algorithm().String() + "/" + d.Encoded() }

func layerPath(n core.Name, d digest.Digest) string {
	return repoPath(n) + "/_layers/" + digestPath(d)
}

func revisionPath(n core.Name, d digest.Digest) string {
	return repoPath(n) + "/_manifests/revisions/" + digestPath(d)
}

func tagsPath(n core.Name) string { return repoPath(n) + "/_manifests/tags" }

func tagPath(n core.Name, tag string) string { return tagsPath(n) + "/" + tag }

func uploadsPath(n core.Name) string { return repoPath(n) + "/_uploads" }

func referrersPath(n core.Name, subject digest.Digest) string {
	return repoPath(n) + "/_referrers/" + digestPath(subject)
}

func blobPath(d digest.Digest) string {
	return blobs + "/" + d.Algorithm().String() + "/" + d.Encoded()[:2] + "/" + d.Encoded()
}

// isMissing says that the error is that nothing stands at the path.
func isMissing(err error) bool {
	var missing storagedriver.PathNotFoundError
	return errors.As(err, &missing)
}

// missing is the error for which isMissing holds.
func missing(p string) error { return storagedriver.PathNotFoundError{Path: p, DriverName: driverName} }

// exists says whether there is something at p.
func (s store) exists(ctx context.Context, p string) (bool, error) {
	_, err := s.Stat(ctx, p)
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// names lists the directory at p, sorted; nothing there is an empty list.
// Temporary files of writes under way are left out.
func (s store) names(ctx context.Context, p string) ([]string, error) {
	paths, err := s.List(ctx, p)
	if isMissing(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(paths))
	for _, p := range paths {
		if name := path.Base(p); !isTemporary(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// isTemporary recognises the file that a PutContent has not yet renamed.
func isTemporary(name string) bool {
	parts := strings.Split(name, ".")
	return len(parts) >= 3 && parts[len(parts)-1] == "tmp" && uploadPattern.MatchString(parts[len(parts)-2])
}

// link reads a link: the digest of the content.
func (s store) link(ctx context.Context, p string) (digest.Digest, error) {
	content, err := s.GetContent(ctx, p)
	if err != nil {
		return "", err
	}
	d, err := digest.Parse(string(content))
	if err != nil {
		return "", fmt.Errorf("reading the link %s: %w", p, err)
	}
	return d, nil
}

// manifest returns the content of a manifest that is in the repository; where
// it is not, isMissing(err).
func (s store) manifest(ctx context.Context, n core.Name, d digest.Digest) ([]byte, error) {
	target, err := s.link(ctx, revisionPath(n, d)+"/link")
	if err != nil {
		return nil, err
	}
	return s.GetContent(ctx, blobPath(target)+"/data")
}

// hasManifest says whether there is a manifest in the repository.
func (s store) hasManifest(ctx context.Context, n core.Name) (bool, error) {
	all, err := s.digests(ctx, repoPath(n)+"/_manifests/revisions")
	return len(all) > 0, err
}

// tagged returns what a tag stands for; where there is none, isMissing(err).
func (s store) tagged(ctx context.Context, n core.Name, tag string) (digest.Digest, error) {
	return s.link(ctx, tagPath(n, tag)+"/current/link")
}

// digests lists what stands below base as ALG/HEX, sorted.
func (s store) digests(ctx context.Context, base string) ([]digest.Digest, error) {
	algorithms, err := s.names(ctx, base)
	if err != nil {
		return nil, err
	}
	var out []digest.Digest
	for _, a := range algorithms {
		hexes, err := s.names(ctx, base+"/"+a)
		if err != nil {
			return nil, err
		}
		for _, h := range hexes {
			if d := digest.NewDigestFromEncoded(digest.Algorithm(a), h); d.Validate() == nil {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// each calls do for every repository that has a manifest or a blob, by name.
func (s store) each(ctx context.Context, do func(core.Name) error) error {
	return s.eachBelow(ctx, "", do)
}

func (s store) eachBelow(ctx context.Context, prefix string, do func(core.Name) error) error {
	names, err := s.names(ctx, path.Join(repositories, prefix))
	if err != nil {
		return fmt.Errorf("listing repositories: %w", err)
	}
	here := false
	for _, name := range names {
		here = here || strings.HasPrefix(name, "_")
	}
	if here {
		if parsed, bad := parseName(prefix); bad == nil {
			if err := do(parsed); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		if strings.HasPrefix(name, "_") {
			continue
		}
		if err := s.eachBelow(ctx, path.Join(prefix, name), do); err != nil {
			return err
		}
	}
	return nil
}
