package registry

import (
	"context"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// marked is what a repository holds, and what of it may go.
type marked struct {
	manifests map[digest.Digest]manifest
	// kept are manifests; needed are the blobs that these need.
	kept, needed map[digest.Digest]bool
	// unread says that there is a manifest that cannot be read, so that what
	// it needs is not known.
	unread bool

	// doomed are the manifests that go, those that list others first: a crash
	// leaves no index without its children.
	doomed []digest.Digest
	// unneeded are the blobs that go, under each digest that they are known by.
	unneeded []digest.Digest
	// leftovers are the paths of what is about manifests that are no more.
	leftovers []string
}

// mark finds out what of a repository is kept: what is tagged, runs or is
// young; the children of an index that is kept; the evidence about a manifest
// that is kept.
func (c *collection) mark(ctx context.Context, n core.Name) (*marked, error) {
	m := &marked{
		manifests: map[digest.Digest]manifest{},
		kept:      map[digest.Digest]bool{},
		needed:    map[digest.Digest]bool{},
	}
	if err := c.readManifests(ctx, n, m); err != nil {
		return nil, err
	}
	roots, err := c.roots(ctx, n, m)
	if err != nil {
		return nil, err
	}
	m.follow(roots)
	m.doom()
	if err := c.unneeded(ctx, n, m); err != nil {
		return nil, err
	}
	if err := c.leftovers(ctx, n, m); err != nil {
		return nil, err
	}
	return m, nil
}

// follow keeps the roots and all that they bring along.
func (m *marked) follow(roots []digest.Digest) {
	evidence := map[digest.Digest][]digest.Digest{}
	for d, one := range m.manifests {
		if one.Subject != nil {
			evidence[one.Subject.Digest] = append(evidence[one.Subject.Digest], d)
		}
	}
	for len(roots) > 0 {
		d := roots[len(roots)-1]
		roots = roots[:len(roots)-1]
		if m.kept[d] {
			continue
		}
		m.kept[d] = true
		for _, child := range m.manifests[d].Manifests {
			roots = append(roots, child.Digest)
		}
		roots = append(roots, evidence[d]...)
		for _, blob := range m.manifests[d].blobs() {
			m.needed[blob.Digest] = true
		}
	}
}

func (c *collection) readManifests(ctx context.Context, n core.Name, m *marked) error {
	all, err := c.store.digests(ctx, repoPath(n)+"/_manifests/revisions")
	if err != nil {
		return err
	}
	for _, d := range all {
		content, err := c.store.manifest(ctx, n, d)
		if isMissing(err) {
			continue // deleted meanwhile, or by a crash
		} else if err != nil {
			return err
		}
		one, bad := parseManifest(content, "")
		if bad != nil {
			m.unread = true
		}
		m.manifests[d] = one
	}
	return nil
}

// roots are the manifests that are kept for themselves.
func (c *collection) roots(ctx context.Context, n core.Name, m *marked) ([]digest.Digest, error) {
	var out []digest.Digest
	tags, err := c.store.names(ctx, tagsPath(n))
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		d, err := c.store.tagged(ctx, n, tag)
		if err == nil {
			out = append(out, d)
		} else if !isMissing(err) {
			return nil, err
		}
	}
	for d, one := range m.manifests {
		// containerd names what runs by its manifest, docker by its config.
		runs := c.keepAll || c.keep[d] || one.Config != nil && c.keep[one.Config.Digest]
		old, err := c.old(ctx, revisionPath(n, d)+"/link")
		if err != nil {
			return nil, err
		}
		if runs || !old || one.SchemaVersion == 0 {
			out = append(out, d)
		}
		// A digest other than sha256 stands for the same content.
		if d.Algorithm() != digest.SHA256 && (runs || !old) {
			target, err := c.store.link(ctx, revisionPath(n, d)+"/link")
			if err == nil {
				out = append(out, target)
			} else if !isMissing(err) {
				return nil, err
			}
		}
	}
	return out, nil
}

func (m *marked) doom() {
	for d := range m.manifests {
		if !m.kept[d] && d.Algorithm() == digest.SHA256 {
			m.doomed = append(m.doomed, d)
		}
	}
	slices.SortFunc(m.doomed, func(a, b digest.Digest) int {
		switch ia, ib := m.manifests[a].isIndex(), m.manifests[b].isIndex(); {
		case ia == ib:
			return strings.Compare(a.String(), b.String())
		case ia:
			return -1
		default:
			return 1
		}
	})
}

// unneeded finds the blobs that no manifest needs and that are old.
func (c *collection) unneeded(ctx context.Context, n core.Name, m *marked) error {
	if m.unread {
		return nil
	}
	all, err := c.store.digests(ctx, repoPath(n)+"/_layers")
	if err != nil {
		return err
	}
	// A blob may be linked under several digests; what one needs, all have.
	targets := map[digest.Digest]digest.Digest{}
	needed := map[digest.Digest]bool{}
	for _, d := range all {
		target, err := c.store.link(ctx, layerPath(n, d)+"/link")
		if isMissing(err) {
			continue
		} else if err != nil {
			return err
		}
		targets[d] = target
		needed[target] = needed[target] || m.needed[d] || m.needed[target]
	}
	for _, d := range all {
		target, there := targets[d]
		if !there || needed[target] {
			continue
		}
		old, err := c.old(ctx, layerPath(n, d)+"/link")
		if err != nil {
			return err
		}
		if old {
			m.unneeded = append(m.unneeded, d)
		}
	}
	return nil
}

// leftovers finds what a crash or a deletion left in a repository: entries in
// a tag's history and among the referrers of manifests that are no more, and
// the fallback tags of referrers ("sha256-HEX…", which clients write to
// registries without the API) of subjects that go.
func (c *collection) leftovers(ctx context.Context, n core.Name, m *marked) error {
	tags, err := c.store.names(ctx, tagsPath(n))
	if err != nil {
		return err
	}
	goes := map[digest.Digest]bool{}
	for _, d := range m.doomed {
		goes[d] = true
	}
	stays := func(d digest.Digest) bool {
		_, there := m.manifests[d]
		return there && !goes[d]
	}
	for _, tag := range tags {
		if subject, ok := fallbackSubject(tag); ok && goes[subject] {
			m.leftovers = append(m.leftovers, tagPath(n, tag))
			continue
		}
		history, err := c.store.digests(ctx, tagPath(n, tag)+"/index")
		if err != nil {
			return err
		}
		for _, d := range history {
			if !stays(d) {
				m.leftovers = append(m.leftovers, tagPath(n, tag)+"/index/"+digestPath(d))
			}
		}
	}
	subjects, err := c.store.digests(ctx, repoPath(n)+"/_referrers")
	if err != nil {
		return err
	}
	for _, subject := range subjects {
		entries, err := c.store.names(ctx, referrersPath(n, subject))
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if d, ok := referrerOf(entry); ok && !stays(d) {
				m.leftovers = append(m.leftovers, referrersPath(n, subject)+"/"+entry)
			}
		}
	}
	return nil
}

// fallbackSubject reads the subject out of a tag of the referrers tag schema,
// with or without a suffix such as ".sig".
func fallbackSubject(tag string) (digest.Digest, bool) {
	tag, _, _ = strings.Cut(tag, ".")
	return referrerOf(tag)
}
