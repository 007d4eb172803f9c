package registry

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// Copy is what a repository holds, but for the content of its blobs. A digest
// that is not the sha256 under which the content is stored stands for that.
type Copy struct {
	Tags map[string]TagCopy `json:"tags,omitempty"`
	// Manifests and Blobs are by the digest that clients know, and lead to the
	// one of the content.
	Manifests map[digest.Digest]digest.Digest `json:"manifests,omitempty"`
	Blobs     map[digest.Digest]digest.Digest `json:"blobs,omitempty"`
}

// TagCopy is a tag: what it stands for, and what it stood for.
type TagCopy struct {
	Current digest.Digest   `json:"current"`
	History []digest.Digest `json:"history,omitempty"`
}

// Content is the digests of all content that the repository needs, sorted.
func (c Copy) Content() []digest.Digest {
	var all []digest.Digest
	for _, d := range c.Manifests {
		all = append(all, d)
	}
	for _, d := range c.Blobs {
		all = append(all, d)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Without is the copy without some content, and without the tags that stand
// for it.
func (c Copy) Without(gone map[digest.Digest]bool) Copy {
	out := Copy{Tags: map[string]TagCopy{}, Manifests: map[digest.Digest]digest.Digest{}, Blobs: map[digest.Digest]digest.Digest{}}
	for d, target := range c.Blobs {
		if !gone[target] {
			out.Blobs[d] = target
		}
	}
	for d, target := range c.Manifests {
		if !gone[target] {
			out.Manifests[d] = target
		}
	}
	for name, tag := range c.Tags {
		if out.Manifests[tag.Current] != "" {
			out.Tags[name] = tag
		}
	}
	return out
}

// Exporter reads the directory of a registry, which may be served meanwhile,
// by this process or another.
type Exporter struct{ store store }

// NewExporter reads the registry at dir; nothing there is an empty one.
func NewExporter(dir string) *Exporter { return &Exporter{store{readOnly(dir)}} }

// readOnly is a driver that makes nothing, and empties no trash.
func readOnly(dir string) *durable {
	return &durable{root: dir, StorageDriver: filesystem.New(filesystem.DriverParameters{RootDirectory: dir, MaxThreads: 100})}
}

// Names are the repositories that hold something.
func (e *Exporter) Names(ctx context.Context) ([]core.Name, error) {
	var names []core.Name
	err := e.store.each(ctx, func(n core.Name) error {
		names = append(names, n)
		return nil
	})
	return names, err
}

// Repository reads what a repository holds now. No lock is held: content may
// be collected before it is opened, and then reading the repository again says
// whether anybody still wants it.
func (e *Exporter) Repository(ctx context.Context, n core.Name) (Copy, error) {
	c := Copy{Tags: map[string]TagCopy{}}
	var err error
	// Tags first: what one stands for is there then.
	if err = e.tags(ctx, n, &c); err != nil {
		return Copy{}, fmt.Errorf("reading the tags of %s: %w", n, err)
	}
	if c.Manifests, err = e.links(ctx, repoPath(n)+"/_manifests/revisions"); err != nil {
		return Copy{}, fmt.Errorf("reading the manifests of %s: %w", n, err)
	}
	if c.Blobs, err = e.links(ctx, repoPath(n)+"/_layers"); err != nil {
		return Copy{}, fmt.Errorf("reading the blobs of %s: %w", n, err)
	}
	return c, nil
}

func (e *Exporter) tags(ctx context.Context, n core.Name, c *Copy) error {
	names, err := e.store.names(ctx, tagsPath(n))
	if err != nil {
		return err
	}
	for _, name := range names {
		current, err := e.store.tagged(ctx, n, name)
		if isMissing(err) {
			continue // deleted meanwhile
		} else if err != nil {
			return err
		}
		history, err := e.store.digests(ctx, tagPath(n, name)+"/index")
		if err != nil {
			return err
		}
		c.Tags[name] = TagCopy{Current: current, History: history}
	}
	return nil
}

func (e *Exporter) links(ctx context.Context, base string) (map[digest.Digest]digest.Digest, error) {
	all, err := e.store.digests(ctx, base)
	if err != nil {
		return nil, err
	}
	out := make(map[digest.Digest]digest.Digest, len(all))
	for _, d := range all {
		target, err := e.store.link(ctx, base+"/"+digestPath(d)+"/link")
		if err == nil {
			out[d] = target
		} else if !isMissing(err) {
			return nil, err
		}
	}
	return out, nil
}

// Open opens content and says how large it is. What is not there is
// fs.ErrNotExist; what was opened stays readable, whoever removes it.
func (e *Exporter) Open(d digest.Digest) (io.ReadCloser, int64, error) {
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
		return nil, 0, fmt.Errorf("no content is kept under %.100q", d)
	}
	f, err := os.Open(e.store.full(blobPath(d) + "/data"))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}
