package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// mirrorGrace is how long a mirror stays after its last use in any case:
// longer than anybody reads one tree.
const mirrorGrace = time.Hour

// Sweep removes the mirrors that nobody has referred to or used for
// Limits.MirrorIdle. Where all mirrors have three quarters of
// Limits.MirrorsBytes, those that nobody refers to go earlier, the longest
// unused first. referred are the URLs in people's objects. It returns what it
// removed, and is to be called every hour or so.
//
// A mirror that is being fetched or written to is left for the next time. A
// crash leaves a whole mirror or none.
func (s *Store) Sweep(ctx context.Context, referred []string) (removed []string, err error) {
	kept := map[string]bool{}
	for _, url := range referred {
		if location, u, err := s.locate(url); err == nil && !location.Embedded() {
			kept[s.mirrorDir(u)] = true
		}
	}
	all, err := s.measureMirrors()
	if err != nil {
		return nil, err
	}
	var total int64
	now := time.Now()
	for i, m := range all {
		total += m.size
		if kept[m.dir] {
			all[i].last = now
		}
		if !all[i].last.After(m.noted) {
			continue
		}
		err := os.Chtimes(filepath.Join(m.dir, mirrorFile), all[i].last, all[i].last)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("noting when a mirror was used: %w", err)
		}
	}
	slices.SortFunc(all, func(a, b measured) int { return a.last.Compare(b.last) })
	var failed []error
	for _, m := range all {
		age := s.limits.MirrorIdle
		if total > s.limits.MirrorsBytes/4*3 {
			age = min(age, mirrorGrace)
		}
		if kept[m.dir] || ctx.Err() != nil || now.Sub(m.last) < age {
			continue
		}
		url, err := s.removeMirror(ctx, m.dir, age)
		switch {
		case errors.Is(err, errInUse):
		case err != nil:
			failed = append(failed, err)
		default:
			total -= m.size
			removed = append(removed, url)
		}
	}
	return removed, errors.Join(failed...)
}

// measured is a mirror on disk.
type measured struct {
	dir  string
	size int64
	// last is when it was last referred to or used, noted what of that is on
	// disk: it is the time of mirrorFile.
	last, noted time.Time
}

// measureMirrors finds all mirrors, and remembers their sizes.
func (s *Store) measureMirrors() ([]measured, error) {
	dirs, err := filepath.Glob(filepath.Join(s.dir, "mirrors", "*.git"))
	if err != nil {
		return nil, fmt.Errorf("listing mirrors: %w", err)
	}
	all := make([]measured, 0, len(dirs))
	for _, dir := range dirs {
		info, err := os.Stat(filepath.Join(dir, mirrorFile))
		if errors.Is(err, fs.ErrNotExist) {
			info, err = os.Stat(dir) // broken, and nobody's
		}
		if err != nil {
			return nil, fmt.Errorf("looking at a mirror: %w", err)
		}
		size, err := diskSize(filepath.Join(dir, "objects"))
		if err != nil {
			return nil, err
		}
		s.setSize(dir, size)
		m := measured{dir: dir, size: size, last: info.ModTime(), noted: info.ModTime()}
		if used := s.mirrorUsed(dir); used.After(m.last) {
			m.last = used
		}
		all = append(all, m)
	}
	return all, nil
}

// mirrorUsed is when somebody last asked for the mirror, since the start.
func (s *Store) mirrorUsed(dir string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.open[dir]; r != nil {
		return r.mirror.used
	}
	return time.Time{}
}

func (s *Store) setSize(dir string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes[dir] = size
}

// sweepPatience is how long a mirror's lock is waited for: longer than the
// looking after what a crash left, at a start.
const sweepPatience = 3 * time.Second

// errInUse says that a mirror cannot go now.
var errInUse = errors.New("in use")

// removeMirror removes a mirror that was not used for so long, and returns its
// URL.
func (s *Store) removeMirror(ctx context.Context, dir string, unused time.Duration) (url string, err error) {
	g := s.gate(dir)
	select {
	case <-g.turn:
		defer func() { g.turn <- struct{}{} }()
	default:
		return "", errInUse // by a fetch
	}
	waiting, cancel := context.WithTimeout(ctx, sweepPatience)
	defer cancel()
	lock, err := waitLock(waiting, filepath.Join(dir, lockFile), true)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return "", errInUse // by a fetch of a server that died, or by git gc
	}
	if err != nil {
		return "", fmt.Errorf("removing a mirror: %w", err)
	}
	defer lock.release()
	url = filepath.Base(dir)
	err = s.discard(dir, func(r *repository) error {
		if r == nil {
			return nil
		}
		url = r.url
		if time.Since(r.mirror.used) < unused {
			return errInUse
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	// The gate stays: somebody may be waiting at it.
	g.last = fetched{}
	g.auth.Store(nil)
	return url, nil
}

// mirrorRoom is how large the mirror at dir may be: what the others leave of
// all there is, and always an even share, so that no large one keeps others
// from news. It says whether it is the others that make it less.
func (s *Store) mirrorRoom(dir string) (room int64, crowded bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var others int64
	for d, size := range s.sizes {
		if d != dir {
			others += size
		}
	}
	even := s.limits.MirrorsBytes / int64(len(s.sizes)+1)
	room = max(s.limits.MirrorsBytes-others, even)
	return min(room, s.limits.MirrorBytes), room < s.limits.MirrorBytes
}

// mirrorTooLarge says that a mirror is larger than its room.
func (s *Store) mirrorTooLarge(u remote, size, room int64, crowded bool) error {
	what := "repository " + u.String()
	if crowded {
		what += ", beside all other mirrors,"
	}
	return &core.TooLargeError{What: what, Size: size, Limit: room}
}
