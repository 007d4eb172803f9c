package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// CopyError says that what was to become part of a registry cannot.
type CopyError struct{ What, Reason string }

func (e *CopyError) Error() string {
	return fmt.Sprintf("the copy of %s is not valid: %s", e.What, e.Reason)
}

// Importer makes a registry out of copies, in a directory that nobody serves.
// The index of referrers is made when the registry is opened.
type Importer struct{ store store }

// NewImporter makes the directory where there is none.
func NewImporter(dir string) (*Importer, error) {
	d, err := newDurable(dir)
	if err != nil {
		return nil, err
	}
	return &Importer{store{d}}, nil
}

// Content takes content in. One that has another digest is a *CopyError.
func (i *Importer) Content(d digest.Digest, r io.Reader) error {
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
		return &CopyError{fmt.Sprintf("%.100q", d), "want a sha256 digest"}
	}
	path := i.store.full(blobPath(d) + "/data")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("storing %s: %w", d, err)
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("storing %s: %w", d, err)
	}
	defer os.Remove(f.Name()) // not there once it was renamed
	sum := d.Verifier()
	_, err = io.Copy(io.MultiWriter(f, sum), r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("storing %s: %w", d, err)
	}
	if !sum.Verified() {
		return &CopyError{d.String(), "its content has another digest"}
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("storing %s: %w", d, err)
	}
	return nil
}

// Repository makes a repository whose content was all taken in.
func (i *Importer) Repository(ctx context.Context, n core.Name, c Copy) error {
	if parsed, bad := parseName(n.String()); bad != nil || parsed != n {
		return &core.InvalidNameError{Name: n.String()}
	}
	if err := i.check(n, c); err != nil {
		return err
	}
	links := map[string]digest.Digest{}
	for d, target := range c.Blobs {
		links[layerPath(n, d)] = target
	}
	for d, target := range c.Manifests {
		links[revisionPath(n, d)] = target
	}
	for name, tag := range c.Tags {
		links[tagPath(n, name)+"/current"] = tag.Current
		for _, d := range append(tag.History, tag.Current) {
			links[tagPath(n, name)+"/index/"+digestPath(d)] = d
		}
	}
	for p, target := range links {
		if err := i.store.PutContent(ctx, p+"/link", []byte(target)); err != nil {
			return fmt.Errorf("restoring %s: %w", n, err)
		}
	}
	return nil
}

// check holds a copy against what an exporter writes.
func (i *Importer) check(n core.Name, c Copy) error {
	known := func(d digest.Digest) bool { _, bad := parseDigest(d.String()); return bad == nil }
	for d, target := range c.Manifests {
		if !known(d) || !known(target) {
			return &CopyError{n.String(), fmt.Sprintf("%.100q is no digest", d)}
		}
	}
	for d, target := range c.Blobs {
		if !known(d) || !known(target) {
			return &CopyError{n.String(), fmt.Sprintf("%.100q is no digest", d)}
		}
	}
	for _, d := range c.Content() {
		_, err := os.Stat(i.store.full(blobPath(d) + "/data"))
		if errors.Is(err, fs.ErrNotExist) {
			return &CopyError{n.String(), "the content of " + d.String() + " is missing"}
		} else if err != nil {
			return err
		}
	}
	for name, tag := range c.Tags {
		if !tagPattern.MatchString(name) || c.Manifests[tag.Current] == "" {
			return &CopyError{n.String(), fmt.Sprintf("tag %.100q", name)}
		}
		for _, d := range tag.History {
			if !known(d) {
				return &CopyError{n.String(), fmt.Sprintf("tag %.100q", name)}
			}
		}
	}
	return nil
}
