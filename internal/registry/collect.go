package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// CollectOptions say what garbage collection may take.
type CollectOptions struct {
	// MinAge is how long something must not have been used (pushed, pulled as
	// a manifest, found by a client that asked whether to push it) before it
	// may go. It has to be longer than the longest push. Default 24 hours.
	MinAge time.Duration
	// Keep, where set, lists the images that run or may be rolled back to, as
	// they stand in pods: "HOST/NAME@sha256:…", "…:TAG" or a bare digest. What
	// is tagged is kept anyway. Where it fails nothing is collected, or, where
	// the error satisfies errors.Is(err, ErrKeepManifests), no manifest is.
	Keep func(context.Context) ([]string, error)
	// DryRun only reports.
	DryRun bool
}

// defaultMinAge is longer than any push and any night.
const defaultMinAge = 24 * time.Hour

// minUploadAge is how long an upload may wait for its next request, however
// short the minimum age is.
const minUploadAge = time.Hour

// Report says what was collected, or in a dry run would be.
type Report struct {
	// Manifests are as "NAMESPACE/NAME@DIGEST", Blobs as digests.
	Manifests []string
	Blobs     []string
	// Links counts blobs taken out of one repository, which others may have.
	Links int
	// Uploads counts sessions that were given up.
	Uploads int
	// Bytes is how much storage the blobs held.
	Bytes int64
}

// ErrCollecting says that another collection is under way.
var ErrCollecting = errors.New("garbage collection is under way")

// ErrKeepManifests says that any manifest may be needed.
var ErrKeepManifests = errors.New("any manifest may be needed")

// Collect removes manifests that have no tag, are nobody's child or evidence,
// do not run and are old; then the blobs that no manifest needs and that are
// old; then uploads that were given up. Pushes and pulls go on beside it.
//
// It may be killed at any point and run again. The report holds what was
// done also where there is an error.
func (g *Registry) Collect(ctx context.Context, opts CollectOptions) (Report, error) {
	release, ok := g.collecting.try("collection")
	if !ok {
		return Report{}, ErrCollecting
	}
	defer release()
	if opts.MinAge == 0 {
		opts.MinAge = defaultMinAge
	}
	c := &collection{
		Registry: g,
		dry:      opts.DryRun,
		cutoff:   time.Now().Add(-opts.MinAge),
		idle:     time.Now().Add(-max(opts.MinAge, minUploadAge)),
		keep:     map[digest.Digest]bool{},
		gone:     map[string]bool{},
	}
	if opts.Keep != nil {
		refs, err := opts.Keep(ctx)
		c.keepAll = errors.Is(err, ErrKeepManifests)
		if err != nil && !c.keepAll {
			return Report{}, fmt.Errorf("finding out which images run: %w", err)
		}
		for _, ref := range refs {
			if d, ok := keptDigest(ref); ok {
				c.keep[d] = true
			}
		}
	}
	err := g.store.each(ctx, func(n core.Name) error {
		if err := c.repository(ctx, n); err != nil {
			return fmt.Errorf("collecting %s: %w", n, err)
		}
		return nil
	})
	if err == nil {
		err = c.content(ctx)
	}
	if err == nil {
		err = c.temporaries(ctx)
	}
	if err == nil && !opts.DryRun {
		err = g.setCollected()
	}
	slices.Sort(c.report.Manifests)
	slices.Sort(c.report.Blobs)
	return c.report, err
}

// collectedFile is modified at the end of each collection.
const collectedFile = "/collected"

// Collected is when garbage was last collected, or when the registry was
// opened for the first time.
func (g *Registry) Collected() time.Time {
	info, err := os.Stat(g.store.full(collectedFile))
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

func (g *Registry) setCollected() error {
	f, err := os.OpenFile(g.store.full(collectedFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("noting that garbage was collected: %w", err)
	}
	_ = f.Close() // nothing was written
	return g.store.touch(collectedFile)
}

// keptDigest reads the digest out of an image reference. One without is kept
// by its tag, or runs no more than it can be pulled.
func keptDigest(ref string) (digest.Digest, bool) {
	if _, after, ok := strings.Cut(ref, "@"); ok {
		ref = after
	}
	d, err := digest.Parse(ref)
	return d, err == nil
}

// collection is one run.
type collection struct {
	*Registry
	dry    bool
	cutoff time.Time
	// idle is the cutoff for uploads.
	idle time.Time
	keep map[digest.Digest]bool
	// keepAll keeps all manifests.
	keepAll bool
	// gone has the directories of links that were removed, or would have been.
	gone   map[string]bool
	report Report
}

// old says whether the file at p was last used before the cutoff.
func (c *collection) old(ctx context.Context, p string) (bool, error) {
	return c.before(ctx, p, c.cutoff)
}

// before says whether the file at p was last used before then. A file that is
// not there was not: somebody else removed it.
func (c *collection) before(ctx context.Context, p string, then time.Time) (bool, error) {
	info, err := c.store.Stat(ctx, p)
	if isMissing(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return info.ModTime().Before(then), nil
}

// remove deletes what stands at p, except in a dry run.
func (c *collection) remove(ctx context.Context, p string) error {
	c.gone[p] = true
	if c.dry {
		return nil
	}
	if err := c.store.Delete(ctx, p); err != nil && !isMissing(err) {
		return err
	}
	return nil
}
