package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairway-cd/fairway/internal/core"
)

// Options are what a Store may be told. The zero value serves embedded
// repositories and mirrors, and delivers no events.
type Options struct {
	// Deliver receives every reference update, at least once, in order within
	// a repository. An error has the update delivered again, with back-off.
	// The second delivery of one has the same ID. It is called by Run's
	// goroutines, for several repositories at a time.
	Deliver func(ctx context.Context, u core.RefUpdate) error
	// Create is called when a push is about to create a repository on disk, for
	// the object that stands for it. An error refuses the push; it is asked
	// again after a crash, so that what exists is no error.
	Create func(ctx context.Context, user core.User, name core.Name) error
	// Announced is called when a webhook brings news of a mirror whose
	// credentials are not known since the start, so that who has them can call
	// Fetch.
	Announced func(url string)
	// Noticed is called for each webhook that was taken, with its kind and the
	// repository's path at its forge ("owner/name").
	Noticed func(kind, repository string)
	// HomeRepository is the one meant by a URL without a name ("/git").
	HomeRepository core.Name
	// Bases are the URLs at which Handler is reached, such as
	// "https://fairway.example:8443/git/". Resolve takes URLs below them for
	// embedded repositories. SetBases changes them.
	Bases []string
	// Resync is how often all repositories are looked through for what no
	// push announced; 0 is five minutes.
	Resync time.Duration
	Limits Limits
	Logger *slog.Logger
}

// Limits bound what clients and repositories may cost. Zero fields are the
// defaults.
type Limits struct {
	// PushBytes of one push's pack (256 MiB). FileBytes of a file that a Tree
	// reads (16 MiB).
	PushBytes, FileBytes int64
	// Refs of one repository (10,000); PushRefs of one push (1,000).
	Refs, PushRefs int
	// Requests served at the same time (32), half of them for one user, and
	// how long one waits for its turn (10 s): git clients do not come back by
	// themselves.
	Requests    int
	RequestWait time.Duration
	// RequestTime of one fetch or push (15 min), FetchTime of one mirror's
	// fetch (10 min).
	RequestTime, FetchTime time.Duration
	// MirrorBytes of one mirror on disk (4 GiB), MirrorsBytes of all together
	// (32 GiB).
	MirrorBytes, MirrorsBytes int64
	// MirrorIdle is how long a mirror that nobody refers to is kept (24 h).
	MirrorIdle time.Duration
}

func (l Limits) withDefaults() Limits {
	setDefault(&l.PushBytes, 256<<20)
	setDefault(&l.FileBytes, 16<<20)
	setDefault(&l.Refs, 10_000)
	setDefault(&l.PushRefs, 1_000)
	setDefault(&l.Requests, 32)
	setDefault(&l.RequestWait, 10*time.Second)
	setDefault(&l.RequestTime, 15*time.Minute)
	setDefault(&l.FetchTime, 10*time.Minute)
	setDefault(&l.MirrorBytes, 4<<30)
	setDefault(&l.MirrorsBytes, 32<<30)
	setDefault(&l.MirrorIdle, 24*time.Hour)
	return l
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Store keeps Git repositories below one directory. All methods are safe for
// concurrent use. Close it after Run has returned.
type Store struct {
	dir     string
	options Options
	limits  Limits
	log     *slog.Logger
	git     *program
	lock    *fileLock
	objects *objectPool
	trees   *treeCache
	outbox  *outbox
	rules   *Rules
	bases   atomic.Pointer[[]string]

	// ctx ends with Close; background counts what runs under it.
	ctx        context.Context
	cancel     context.CancelFunc
	background sync.WaitGroup

	mu   sync.Mutex
	open map[string]*repository // by directory
	// gates are those of mirrors, and sizes how large these are, as far as is
	// known; by directory.
	gates map[string]*gate
	sizes map[string]int64
	// key is that of credentials' fingerprints.
	key []byte
}

// Open opens the store at dir, and makes it where there is none. Where another
// process has it open the error is a *LockedError.
func Open(dir string, opts Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the Git directory: %w", err)
	}
	for _, sub := range []string{"repos", "mirrors", "home", "trash", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("opening the Git directory: %w", err)
		}
	}
	lock, err := tryLock(filepath.Join(dir, "lock"), true)
	if errors.Is(err, errLocked) {
		return nil, &LockedError{Dir: dir}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the Git directory: %w", err)
	}
	git, err := newProgram(filepath.Join(dir, "home"))
	if err != nil {
		lock.release()
		return nil, err
	}
	rules, err := loadRules(filepath.Join(dir, "mirrors.yaml"))
	if err != nil {
		lock.release()
		return nil, err
	}
	key, err := loadKey(filepath.Join(dir, "key"))
	if err != nil {
		lock.release()
		return nil, err
	}
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	setDefault(&opts.Resync, 5*time.Minute)
	s := &Store{
		dir: dir, options: opts, limits: opts.Limits.withDefaults(), log: opts.Logger,
		git: git, lock: lock, rules: rules, objects: newObjectPool(git), trees: newTreeCache(treeCacheBytes),
		outbox: newOutbox(opts.Deliver, opts.Logger), open: map[string]*repository{}, gates: map[string]*gate{}, sizes: map[string]int64{}, key: key,
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.SetBases(opts.Bases...)
	// What a crash left half made or half removed.
	for _, sub := range []string{"trash", "tmp"} {
		if err := emptyDir(filepath.Join(dir, sub)); err != nil {
			s.Close()
			return nil, fmt.Errorf("opening the Git directory: %w", err)
		}
	}
	return s, nil
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// SetBases replaces Options.Bases, where the address is known late.
func (s *Store) SetBases(bases ...string) {
	normal := make([]string, 0, len(bases))
	for _, b := range bases {
		if u, err := parseRemote(b); err == nil {
			normal = append(normal, u.key())
		} else {
			s.log.Error("Ignoring a base URL", "error", err)
		}
	}
	s.bases.Store(&normal)
}

// Rules are the mirror rules, which say what is served from somewhere else.
func (s *Store) Rules() *Rules { return s.rules }

// Close ends the processes that read objects and lets go of the directory.
func (s *Store) Close() error {
	s.cancel()
	s.background.Wait()
	s.objects.close()
	s.lock.release()
	return nil
}

// Run delivers reference updates until ctx ends: first those that the last
// process left, then each as it happens, and what no push announced every
// Options.Resync.
func (s *Store) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { s.outbox.run(ctx); return nil })
	group.Go(func() error {
		s.resync(ctx, true)
		tick := time.NewTicker(s.options.Resync)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				s.resync(ctx, false)
				s.maintain(ctx)
			}
		}
	})
	return group.Wait()
}

// resync has every repository looked through. With recovery, leftovers of a
// crash are removed, and pushes that outlived it are waited for.
func (s *Store) resync(ctx context.Context, recovery bool) {
	repositories, err := s.all()
	if err != nil {
		s.log.Error("Looking through the repositories failed", "error", err)
	}
	for _, r := range repositories {
		s.outbox.wake(r)
		if !recovery {
			continue
		}
		s.background.Go(func() {
			if err := r.ready(ctx); err != nil && ctx.Err() == nil && !r.gone.Load() {
				s.log.Warn("Recovering a repository failed", "repository", r.String(), "error", err)
			}
			s.outbox.wake(r)
		})
	}
}

// maintain packs what has piled up. Git decides whether it is worth it.
func (s *Store) maintain(ctx context.Context) {
	repositories, err := s.all()
	if err != nil {
		return // resync has said so
	}
	for _, r := range repositories {
		if ctx.Err() != nil {
			return
		}
		if err := s.pack(ctx, r); err != nil && ctx.Err() == nil && !r.gone.Load() {
			s.log.Warn("Packing a repository failed", "repository", r.String(), "error", err)
		}
	}
}

func (s *Store) pack(ctx context.Context, r *repository) error {
	lock, err := r.writing(ctx)
	if err != nil {
		return err
	}
	defer lock.release()
	_, err = s.git.run(ctx, r.dir, nil, nil, "-c", "gc.auto=2000", "gc", "--auto", "--quiet")
	return err
}

// followHead has HEAD follow the first branch before whoever made it goes on
// to clone. The outbox does it again, for those who died here.
func (s *Store) followHead(r *repository, u core.RefUpdate) {
	if err := r.followHead(u); err != nil {
		s.log.Warn("Letting HEAD follow the first branch failed", "repository", r.String(), "error", err)
	}
}

// all opens every repository and mirror.
func (s *Store) all() ([]*repository, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var list []*repository
	for _, name := range names {
		r, err := s.embedded(name)
		var notFound *NotFoundError
		if errors.As(err, &notFound) {
			continue // deleted since
		}
		if err != nil {
			s.log.Error("Opening a repository failed", "repository", name.String(), "error", err)
			continue
		}
		list = append(list, r)
	}
	mirrors, err := s.mirrors()
	return append(list, mirrors...), err
}

// embedded opens an embedded repository.
func (s *Store) embedded(name core.Name) (*repository, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	dir := s.repositoryDir(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.open[dir]; r != nil {
		return r, nil
	}
	r, err := openRepository(dir, name, "")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Repository: name.String()}
	}
	if err != nil {
		return nil, fmt.Errorf("opening repository %s: %w", name, err)
	}
	s.open[dir] = r
	return r, nil
}

func (s *Store) repositoryDir(name core.Name) string {
	return filepath.Join(s.dir, "repos", name.Namespace, name.Name+".git")
}

// checkName holds a name against what core.ParseName allows, and against what
// Git URLs cannot tell apart. Names come from callers and become paths.
func checkName(name core.Name) error {
	parsed, err := core.ParseName(name.String())
	if err != nil {
		return err
	}
	if parsed != name || strings.Contains(name.Name, "/") || strings.HasSuffix(name.Name, ".git") || strings.HasSuffix(name.Name, ".lock") {
		return &core.InvalidNameError{Name: name.String()}
	}
	return nil
}
