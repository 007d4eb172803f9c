package registry

import (
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// repository collects one repository, if there is anything to collect: the
// first look takes no lock.
func (c *collection) repository(ctx context.Context, n core.Name) error {
	m, err := c.mark(ctx, n)
	if err != nil {
		return err
	}
	if len(m.doomed)+len(m.unneeded)+len(m.leftovers) > 0 {
		if err := c.sweep(ctx, n); err != nil {
			return err
		}
	}
	return c.abandoned(ctx, n)
}

// sweep looks again and removes, while no push goes on in the repository.
func (c *collection) sweep(ctx context.Context, n core.Name) error {
	defer c.locks.change(n)()
	m, err := c.mark(ctx, n)
	if err != nil {
		return err
	}
	for _, d := range m.doomed {
		c.report.Manifests = append(c.report.Manifests, n.String()+"@"+d.String())
		c.gone[revisionPath(n, d)] = true
		if c.dry {
			continue
		}
		if err := c.dropManifest(ctx, n, d); err != nil && !isMissing(err) {
			return err
		}
	}
	for _, d := range m.unneeded {
		c.report.Links++
		if err := c.remove(ctx, layerPath(n, d)); err != nil {
			return err
		}
	}
	for _, p := range m.leftovers {
		if err := c.remove(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// abandoned removes uploads to which nothing was added for long.
func (c *collection) abandoned(ctx context.Context, n core.Name) error {
	ids, err := c.store.names(ctx, uploadsPath(n))
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := c.upload(ctx, uploadsPath(n)+"/"+id, id); err != nil {
			return err
		}
	}
	return nil
}

func (c *collection) upload(ctx context.Context, dir, id string) error {
	// Nobody is turned away from an upload that is in use: look, hold, look.
	if idle, err := c.isIdle(ctx, dir); err != nil || !idle {
		return err
	}
	release, ok := c.uploads.try(id)
	if !ok {
		return nil
	}
	defer release()
	if idle, err := c.isIdle(ctx, dir); err != nil || !idle {
		return err
	}
	c.report.Uploads++
	return c.remove(ctx, dir)
}

func (c *collection) isIdle(ctx context.Context, dir string) (bool, error) {
	files, err := c.store.List(ctx, dir)
	if isMissing(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	for _, f := range append(files, dir) {
		if old, err := c.before(ctx, f, c.idle); err != nil || !old {
			return false, err
		}
	}
	return true, nil
}

// content removes the blobs that no repository links any more.
func (c *collection) content(ctx context.Context) error {
	linked, err := c.linked(ctx)
	if err != nil {
		return err
	}
	prefixes, err := c.store.names(ctx, blobs+"/sha256")
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		hexes, err := c.store.names(ctx, blobs+"/sha256/"+prefix)
		if err != nil {
			return err
		}
		for _, h := range hexes {
			d := digest.NewDigestFromEncoded(digest.SHA256, h)
			if d.Validate() != nil || linked[d] {
				continue
			}
			if err := c.blob(ctx, d); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// blob removes content. Whoever linked it since has touched it, under the
// same lock, so that it is not old.
func (c *collection) blob(ctx context.Context, d digest.Digest) error {
	defer c.locks.content(d)()
	data := blobPath(d) + "/data"
	old, err := c.old(ctx, data)
	if err != nil || !old {
		return err
	}
	info, err := c.store.Stat(ctx, data)
	if err != nil {
		return err
	}
	c.report.Bytes += info.Size()
	c.report.Blobs = append(c.report.Blobs, d.String())
	return c.remove(ctx, blobPath(d))
}

// linked is all content that a repository has, as manifest or as blob.
func (c *collection) linked(ctx context.Context) (map[digest.Digest]bool, error) {
	out := map[digest.Digest]bool{}
	err := c.store.each(ctx, func(n core.Name) error {
		for _, base := range []string{"/_layers", "/_manifests/revisions"} {
			all, err := c.store.digests(ctx, repoPath(n)+base)
			if err != nil {
				return err
			}
			for _, d := range all {
				dir := repoPath(n) + base + "/" + digestPath(d)
				if c.gone[dir] {
					continue // in a dry run it is still there
				}
				target, err := c.store.link(ctx, dir+"/link")
				if err == nil {
					out[target] = true
				} else if !isMissing(err) {
					return err
				}
			}
		}
		return nil
	})
	return out, err
}

// temporaries removes the files of writes that a crash cut off.
func (c *collection) temporaries(ctx context.Context) error {
	if c.dry {
		return nil
	}
	return filepath.WalkDir(c.store.full(layoutRoot), func(p string, entry fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if os.IsNotExist(err) {
			return nil // removed meanwhile
		} else if err != nil {
			return err
		}
		if entry.IsDir() || !isTemporary(path.Base(filepath.ToSlash(p))) {
			return nil
		}
		info, err := entry.Info()
		if err != nil || !info.ModTime().Before(c.idle) {
			return nil // gone, or young
		}
		return os.Remove(p)
	})
}
