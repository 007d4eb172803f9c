package git

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// mirrorFile says, in a mirror, whose mirror it is.
const mirrorFile = "fairway-mirror.json"

// mirrorState is what a mirror knows beside its objects.
type mirrorState struct {
	path string
	// used is when somebody last asked for it; Store.mu guards it.
	used time.Time

	mu sync.Mutex
	// URL has no credentials.
	URL string `json:"url"`
	// Grants are the fingerprints of the credentials that the remote accepted
	// the last time they were tried. What was fetched with one tenant's is not
	// given to another's.
	Grants []string `json:"grants"`
}

// maxGrants bounds the credentials remembered for a mirror.
const maxGrants = 256

func loadMirrorState(dir string) (*mirrorState, error) {
	m := &mirrorState{path: filepath.Join(dir, mirrorFile)}
	data, err := os.ReadFile(m.path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("reading the mirror's state: %w", err)
	}
	return m, nil
}

// granted says whether the credentials may see what is here.
func (m *mirrorState) granted(print string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.Grants, print)
}

// grant remembers that the remote accepted or refused the credentials.
func (m *mirrorState) grant(print string, accepted bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.Grants, print) == accepted {
		return nil
	}
	if accepted {
		m.Grants = append(m.Grants, print)
		if over := len(m.Grants) - maxGrants; over > 0 {
			m.Grants = slices.Delete(m.Grants, 0, over)
		}
	} else {
		m.Grants = slices.DeleteFunc(m.Grants, func(g string) bool { return g == print })
	}
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the mirror's state: %w", err)
	}
	return writeDurably(m.path, data, 0o600)
}

func (s *Store) mirrorDir(u remote) string {
	id := u.scheme + "://" + u.key()
	if u.scheme == "ssh" {
		id = "ssh://" + u.user + "@" + u.key()
	}
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(s.dir, "mirrors", hex.EncodeToString(sum[:16])+".git")
}

// mirror opens the mirror at dir; one that was never fetched is fs.ErrNotExist.
func (s *Store) mirror(dir string) (*repository, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.openMirror(dir)
}

// useMirror is mirror for who reads it or writes to it: it stays for a while.
func (s *Store) useMirror(dir string) (*repository, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.openMirror(dir)
	if err == nil {
		r.mirror.used = time.Now()
	}
	return r, err
}

// openMirror is mirror for who holds s.mu.
func (s *Store) openMirror(dir string) (*repository, error) {
	if r := s.open[dir]; r != nil {
		return r, nil
	}
	state, err := loadMirrorState(dir)
	if err != nil {
		return nil, err
	}
	r, err := openRepository(dir, core.Name{}, state.URL)
	if err != nil {
		return nil, err
	}
	r.mirror = state
	s.open[dir] = r
	return r, nil
}

// makeMirror makes the mirror of u where there is none.
func (s *Store) makeMirror(u remote, dir string) (*repository, error) {
	if r, err := s.useMirror(dir); !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	data, err := json.Marshal(&mirrorState{URL: u.String()})
	if err != nil {
		return nil, fmt.Errorf("encoding the mirror's state: %w", err)
	}
	err = initRepository(filepath.Join(s.dir, "tmp"), dir, func(work string) error {
		return writeDurably(filepath.Join(work, mirrorFile), data, 0o600)
	})
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return s.useMirror(dir)
}

// mirrors opens all mirrors.
func (s *Store) mirrors() ([]*repository, error) {
	dirs, err := filepath.Glob(filepath.Join(s.dir, "mirrors", "*.git"))
	if err != nil {
		return nil, fmt.Errorf("listing mirrors: %w", err)
	}
	var list []*repository
	for _, dir := range dirs {
		r, err := s.mirror(dir)
		if _, gone := os.Stat(dir); errors.Is(gone, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			s.log.Error("Opening a mirror failed", "directory", filepath.Base(dir), "error", err)
			continue
		}
		list = append(list, r)
	}
	return list, nil
}

// Mirrors returns the URLs of the external repositories that are mirrored.
func (s *Store) Mirrors(context.Context) ([]string, error) {
	mirrors, err := s.mirrors()
	urls := make([]string, 0, len(mirrors))
	for _, r := range mirrors {
		urls = append(urls, r.url)
	}
	slices.Sort(urls)
	return urls, err
}

// gate lets one fetch of a mirror happen at a time. It lives as
// long as the mirror.
type gate struct {
	turn chan struct{} // holds one token
	// last belongs to who has the token.
	last fetched
	// auth is what worked last.
	auth atomic.Pointer[Auth]
}

// fetched is how the last fetch went.
type fetched struct {
	started time.Time
	print   string
	updates []core.RefUpdate
	err     error
}

func (s *Store) gate(dir string) *gate {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gates[dir]
	if g == nil {
		g = &gate{turn: make(chan struct{}, 1)}
		g.turn <- struct{}{}
		s.gates[dir] = g
	}
	return g
}

// Fetch brings the mirror of an external repository up to date and returns
// what has changed; the same updates, with the same IDs, are delivered as
// events. Of an embedded repository there is nothing to fetch. One fetch of a
// mirror happens at a time; who waits for one that begins after the call
// shares it. When it fails, what is known of the repository stays.
//
// Errors: *InvalidURLError, *NotFoundError, *AuthError, *UnreachableError,
// *core.TooLargeError.
func (s *Store) Fetch(ctx context.Context, url string, auth Auth) ([]core.RefUpdate, error) {
	location, u, err := s.locate(url)
	if err != nil || location.Embedded() {
		return nil, err
	}
	return s.fetch(ctx, u, auth.withURL(u), "")
}

func (s *Store) fetch(ctx context.Context, u remote, auth Auth, extra string) ([]core.RefUpdate, error) {
	called := time.Now()
	dir := s.mirrorDir(u)
	g := s.gate(dir)
	select {
	case <-g.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { g.turn <- struct{}{} }()
	print := auth.fingerprint(s.key)
	if extra == "" && g.last.print == print && g.last.started.After(called) {
		return g.last.updates, g.last.err
	}
	started := time.Now()
	updates, err := s.fetchNow(ctx, u, auth, dir, print, extra)
	if ctx.Err() == nil && extra == "" {
		g.last = fetched{started: started, print: print, updates: updates, err: err}
	}
	if err == nil {
		g.auth.Store(&auth)
	} else if _, merr := s.mirror(dir); errors.Is(merr, fs.ErrNotExist) {
		s.mu.Lock()
		delete(s.gates, dir) // there is nothing to guard
		s.mu.Unlock()
	}
	return updates, err
}

// resolveMirror is Resolve for an external repository.
func (s *Store) resolveMirror(ctx context.Context, u remote, ref Ref, auth Auth) (core.Snapshot, error) {
	auth = auth.withURL(u)
	dir, fresh := s.mirrorDir(u), false
	r, err := s.useMirror(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return core.Snapshot{}, fmt.Errorf("opening the mirror of %s: %w", u, err)
	}
	if err != nil || !r.mirror.granted(auth.fingerprint(s.key)) {
		if _, err := s.fetch(ctx, u, auth, ""); err != nil {
			return core.Snapshot{}, err
		}
		fresh = true
		if r, err = s.useMirror(dir); err != nil {
			return core.Snapshot{}, fmt.Errorf("opening the mirror of %s: %w", u, err)
		}
	}
	snapshot, err := s.snapshot(ctx, r, ref)
	var unknown *RevisionError
	extra := ref.extra()
	if !errors.As(err, &unknown) || fresh && extra == "" {
		return snapshot, err
	}
	if _, ferr := s.fetch(ctx, u, auth, extra); ferr != nil {
		if errors.As(ferr, new(*RevisionError)) {
			return core.Snapshot{}, err
		}
		return core.Snapshot{}, ferr
	}
	return s.snapshot(ctx, r, ref)
}

// ResolveKept is Resolve without the network: of an external repository, what
// is here answers, with whatever credentials it was fetched, to a caller who is
// trusted with all of it. What is not here is a *RevisionError.
func (s *Store) ResolveKept(ctx context.Context, url string, ref Ref) (core.Snapshot, error) {
	location, u, err := s.locate(url)
	if err != nil {
		return core.Snapshot{}, err
	}
	if location.Embedded() {
		return s.Resolve(ctx, url, ref, Auth{})
	}
	r, err := s.useMirror(s.mirrorDir(u))
	if errors.Is(err, fs.ErrNotExist) {
		return core.Snapshot{}, &RevisionError{Repository: u.String(), Revision: ref.String(), Reason: "it was not fetched"}
	}
	if err != nil {
		return core.Snapshot{}, fmt.Errorf("opening the mirror of %s: %w", u, err)
	}
	return s.snapshot(ctx, r, ref)
}
