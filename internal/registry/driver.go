package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/google/uuid"
)

// durable makes distribution's filesystem driver keep its promises over
// kill -9 and power loss. The driver writes files whole (temporary file,
// fsync, rename) but does not sync the directories that it makes or moves
// into, and deletes trees entry by entry.
type durable struct {
	storagedriver.StorageDriver
	root string
}

var _ storagedriver.StorageDriver = (*durable)(nil)

// trash is where Delete renames to before it removes.
const trash = "/trash"

func newDurable(root string) (*durable, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("making the registry's directory: %w", err)
	}
	d := &durable{root: root}
	// What a killed process had deleted.
	if err := os.RemoveAll(d.full(trash)); err != nil {
		return nil, fmt.Errorf("emptying the registry's trash: %w", err)
	}
	if err := os.Mkdir(d.full(trash), 0o700); err != nil {
		return nil, fmt.Errorf("making the registry's trash: %w", err)
	}
	d.StorageDriver = filesystem.New(filesystem.DriverParameters{RootDirectory: root, MaxThreads: 100})
	return d, nil
}

func (d *durable) full(p string) string { return filepath.Join(d.root, filepath.FromSlash(p)) }

// PutContent writes the file at p whole, and durably.
//
// States of hashes are not kept: distribution would take a state up by its
// offset alone, whatever the file holds since. Without them it hashes the
// file itself when an upload is committed, so that what is stored under a
// digest has that digest, whoever wrote to the upload and whenever it died.
func (d *durable) PutContent(ctx context.Context, p string, content []byte) error {
	if _, upload, ok := strings.Cut(p, "/_uploads/"); ok && strings.Contains(upload, "/hashstates/") {
		return nil
	}
	err := d.making(p, func() error { return d.StorageDriver.PutContent(ctx, p, content) })
	if err != nil && path.Base(p) == "startedat" {
		// An upload that did not begin is none: nobody knows its name.
		_ = os.RemoveAll(d.full(path.Dir(p)))
	}
	return seen(ctx, err)
}

// Writer opens the file at p.
func (d *durable) Writer(ctx context.Context, p string, appending bool) (storagedriver.FileWriter, error) {
	f, err := d.StorageDriver.Writer(ctx, p, appending)
	if err != nil {
		return nil, seen(ctx, err)
	}
	return watchedFile{f, ctx}, nil
}

// Move renames, and returns when the new name is on disk.
func (d *durable) Move(ctx context.Context, from, to string) error {
	return seen(ctx, d.making(to, func() error {
		if err := d.StorageDriver.Move(ctx, from, to); err != nil {
			return err
		}
		return syncDir(path.Dir(d.full(to)))
	}))
}

// making runs do, which makes the file at p, and syncs the parents of the
// directories that had to be made for it.
func (d *durable) making(p string, do func() error) error {
	var fresh []string // directories that are not there yet, deepest first
	for dir := path.Dir(p); dir != "/" && dir != "."; dir = path.Dir(dir) {
		if _, err := os.Lstat(d.full(dir)); err == nil {
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		fresh = append(fresh, dir)
	}
	if err := do(); err != nil {
		return err
	}
	for _, dir := range fresh {
		if err := syncDir(d.full(path.Dir(dir))); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes p and all below it at once: a reader, also one after a
// crash, sees all of it or nothing.
func (d *durable) Delete(ctx context.Context, p string) error {
	if !storagedriver.PathRegexp.MatchString(p) {
		return storagedriver.InvalidPathError{Path: p, DriverName: d.Name()}
	}
	grave := d.full(trash + "/" + uuid.NewString())
	err := os.Rename(d.full(p), grave)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return storagedriver.PathNotFoundError{Path: p, DriverName: d.Name()}
	case errors.Is(err, syscall.ENOSPC):
		// Not even for a name is there room; this is what makes some.
		grave = d.full(p)
	case err != nil:
		return seen(ctx, err)
	}
	if err := syncDir(path.Dir(d.full(p))); err != nil {
		return err
	}
	return os.RemoveAll(grave)
}

// touch marks the file at p as used now. Nothing there is no error; nor is a
// disk that is read-only, for nothing is collected there either.
func (d *durable) touch(p string) error {
	now := time.Now()
	err := os.Chtimes(d.full(p), now, now)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EROFS) {
		return nil
	}
	return err
}

// syncDir waits until the names in a directory are on disk. A directory that
// has gone meanwhile has nothing to sync.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	return f.Sync()
}

// driverName is how distribution's configuration names our driver. Its
// parameter "driver" is the driver itself, ready made.
const driverName = "fairway"

// registerDriver makes distribution's global table of drivers know ours.
var registerDriver = sync.OnceFunc(func() { factory.Register(driverName, readyMade{}) })

type readyMade struct{}

func (readyMade) Create(_ context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	d, ok := parameters["driver"].(storagedriver.StorageDriver)
	if !ok {
		return nil, errors.New("no storage driver given")
	}
	return d, nil
}
