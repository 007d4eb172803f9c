package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/internal/core"
)

// repository is one bare repository: embedded (name) or a mirror (url).
type repository struct {
	dir  string
	name core.Name
	url  string
	refs refStore
	// head guards HEAD's changes, which the outbox and writers race for.
	head sync.Mutex
	// gone is set when the repository was deleted.
	gone atomic.Bool

	// mu guards the cursor, and with it the order of scans.
	mu     sync.Mutex
	cursor *cursor

	// recovery is held while leftovers of a crash are removed, once.
	recovery  sync.Mutex
	recovered bool

	size lastSize
	// settings are never nil.
	settings atomic.Pointer[Settings]
	// mirror is the state of fetches; nil for embedded repositories.
	mirror *mirrorState
}

// String is the name, or for a mirror the URL without credentials.
func (r *repository) String() string {
	if r.url != "" {
		return r.url
	}
	return r.name.String()
}

// ownRefs are references of this package, invisible to clients and without
// events.
const ownRefs = "refs/fairway/"

// repositoryConfig is the configuration of every repository here.
//
// Everything that Git writes reaches the disk before it says so (core.fsync).
// Reflogs are the outbox and the audit trail: they are written for every
// reference and never expire. Objects are checked on their way in; what a
// checkout would refuse is refused. Files over 32 MB are streamed and not
// held in memory. Locks are waited for, as recovery may be about to remove one.
const repositoryConfig = `[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
	logAllRefUpdates = always
	fsync = all
	hooksPath = /dev/null
	bigFileThreshold = 32m
	filesRefLockTimeout = 5000
	packedRefsTimeout = 5000
[transfer]
	fsckObjects = true
	hideRefs = refs/fairway
[receive]
	autogc = false
	denyDeleteCurrent = refuse
	advertisePushOptions = false
	updateServerInfo = false
	hideRefs = refs/changes
[receive "fsck"]
	fullPathname = error
	emptyName = error
	hasDot = error
	hasDotdot = error
	hasDotgit = error
	nullSha1 = error
[fetch "fsck"]
	badTimezone = ignore
	missingSpaceBeforeDate = ignore
	missingNameBeforeEmail = ignore
	missingEmail = ignore
	missingSpaceBeforeEmail = ignore
	zeroPaddedDate = ignore
	zeroPaddedFilemode = ignore
	fullPathname = error
	hasDot = error
	hasDotdot = error
	hasDotgit = error
[uploadpack]
	allowFilter = true
[gc]
	auto = 0
	autoDetach = false
	reflogExpire = never
	reflogExpireUnreachable = never
`

// initRepository makes an empty bare repository at dir. It is built in a
// temporary directory and renamed into place, so that after a crash there is
// a whole one, with what more puts into it, or none. An existing one is
// fs.ErrExist.
func initRepository(temp, dir string, more ...func(work string) error) error {
	if _, err := os.Lstat(dir); err == nil {
		return fs.ErrExist
	}
	if err := writable(filepath.Dir(dir)); err != nil {
		return fmt.Errorf("creating a repository: %w", err)
	}
	work, err := os.MkdirTemp(temp, "new-*")
	if err != nil {
		return fmt.Errorf("creating a repository: %w", err)
	}
	defer os.RemoveAll(work) // nothing is there once it was renamed
	if err := layOut(work); err != nil {
		return fmt.Errorf("creating a repository: %w", err)
	}
	for _, fill := range more {
		if err := fill(work); err != nil {
			return fmt.Errorf("creating a repository: %w", err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return fmt.Errorf("creating a repository: %w", err)
	}
	err = os.Rename(work, dir)
	switch {
	case errors.Is(err, fs.ErrExist): // ENOTEMPTY counts as such
		return fs.ErrExist
	case err != nil:
		return fmt.Errorf("creating a repository: %w", err)
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(filepath.Dir(dir)))
}

// writable is an error where the directory, or what it would be made in, takes
// nothing.
func writable(dir string) error {
	err := unix.Access(dir, unix.W_OK)
	if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		return writable(filepath.Dir(dir))
	}
	return err
}

// layOut writes what makes a directory a bare repository
// (gitrepository-layout(5)).
func layOut(dir string) error {
	for _, sub := range []string{"objects/info", "objects/pack", "refs/heads", "refs/tags", "logs", "info"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(sub)), 0o700); err != nil {
			return err
		}
	}
	for _, sub := range []string{"objects", "refs"} {
		if err := syncDir(filepath.Join(dir, sub)); err != nil {
			return err
		}
	}
	if err := newCursor(dir).save(); err != nil {
		return err
	}
	if err := writeDurably(filepath.Join(dir, "config"), []byte(repositoryConfig), 0o600); err != nil {
		return err
	}
	return writeDurably(filepath.Join(dir, "HEAD"), []byte("ref: refs/heads/main\n"), 0o600)
}

// openRepository reads what is needed of the repository at dir.
func openRepository(dir string, name core.Name, url string) (*repository, error) {
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config")
	if data, err := os.ReadFile(config); err != nil || string(data) != repositoryConfig {
		if err := writeDurably(config, []byte(repositoryConfig), 0o600); err != nil {
			return nil, err
		}
	}
	c, err := loadCursor(dir)
	if err != nil {
		return nil, err
	}
	set, err := loadSettings(dir)
	if err != nil {
		return nil, err
	}
	r := &repository{dir: dir, name: name, url: url, refs: refStore{dir: dir}, cursor: c}
	r.settings.Store(set)
	return r, nil
}

// lockPath is the file whose lock is held shared by what writes into the
// repository, and exclusively by recovery and deletion.
func (r *repository) lockPath() string { return filepath.Join(r.dir, lockFile) }

const lockFile = "fairway.lock"

// followHead lets HEAD name the branch that u made, where HEAD names one that
// is not there: the first push to a repository says what its branch is called.
func (r *repository) followHead(u core.RefUpdate) error {
	if r.url != "" || u.Old != "" || !strings.HasPrefix(u.Ref, "refs/heads/") {
		return nil
	}
	r.head.Lock()
	defer r.head.Unlock()
	head, err := r.refs.head()
	if err != nil || head == u.Ref {
		return err
	}
	if hash, err := r.refs.lookup(head); err != nil || hash != "" {
		return err
	}
	if hash, err := r.refs.lookup(u.Ref); err != nil || hash == "" {
		return err
	}
	return r.refs.setHead(u.Ref)
}

// setDefaultBranch has HEAD name the branch, if it is there.
func (r *repository) setDefaultBranch(branch string) error {
	ref := "refs/heads/" + branch
	r.head.Lock()
	defer r.head.Unlock()
	head, err := r.refs.head()
	if err != nil || head == ref {
		return err
	}
	if hash, err := r.refs.lookup(ref); err != nil || hash == "" {
		return err
	}
	return r.refs.setHead(ref)
}

// writing takes the lock of those who write, once what a crash left behind is
// out of the way.
func (r *repository) writing(ctx context.Context) (*fileLock, error) {
	err := r.ready(ctx)
	var lock *fileLock
	if err == nil {
		lock, err = waitLock(ctx, r.lockPath(), false)
	}
	if r.gone.Load() { // whatever else went wrong with it
		if err == nil {
			lock.release()
		}
		return nil, &NotFoundError{Repository: r.String()}
	}
	return lock, err
}

// ready recovers the repository, the first time.
func (r *repository) ready(ctx context.Context) error {
	r.recovery.Lock()
	defer r.recovery.Unlock()
	if r.recovered {
		return nil
	}
	err := r.recoverWrites(ctx)
	r.recovered = err == nil
	return err
}

// leftBehind says that a write has failed in the middle, so that the next one
// recovers the repository first.
func (r *repository) leftBehind() {
	r.recovery.Lock()
	defer r.recovery.Unlock()
	r.recovered = false
}

// recoverWrites waits for pushes that outlived the last server process, and
// removes what those left that did not: lock files, half-written objects, and a line of
// a reflog that was cut short, which would spoil the next.
func (r *repository) recoverWrites(ctx context.Context) error {
	lock, err := waitLock(ctx, r.lockPath(), true)
	if err != nil {
		return err
	}
	defer lock.release()
	return filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir() && strings.HasPrefix(name, "tmp_objdir-"):
			os.RemoveAll(path)
			return fs.SkipDir
		case d.IsDir() && filepath.Base(filepath.Dir(path)) == "objects" && len(name) == 2:
			return fs.SkipDir
		case !d.IsDir() && strings.HasPrefix(path, filepath.Join(r.dir, "logs")+"/"):
			return endLine(path)
		case d.IsDir() || path == r.lockPath():
			return nil
		case strings.HasPrefix(name, "fast_import_crash_"), strings.HasSuffix(name, ".lock"), strings.HasPrefix(name, "tmp_pack_"),
			strings.HasPrefix(name, "tmp_idx_"), strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp"):
			return removeStale(ctx, path)
		}
		return nil
	})
}

// staleAge is how long a lock file must have stood to count as left behind:
// Git holds one for milliseconds. It guards a person's git at work in the
// repository while the server starts.
const staleAge = 2 * time.Second

func removeStale(ctx context.Context, path string) error {
	for {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking at a lock file: %w", err)
		}
		age := time.Since(info.ModTime())
		if age >= staleAge || age < 0 {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("removing a stale lock file: %w", err)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(staleAge - age):
		}
	}
}

// endLine gives the file a line feed at its end where it has none.
func endLine(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mending a reflog: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.WriteString("\n")
	return err
}
