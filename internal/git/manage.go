package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// Info is what there is to know about an embedded repository.
type Info struct {
	Name core.Name
	// DefaultBranch is the branch that HEAD names, whether it is there or not.
	DefaultBranch string
	// Refs are all references and where they stand.
	Refs map[string]string
	// Size on disk in bytes.
	Size int64
	// LastPush is the newest update of a reference that is still there; zero
	// for an empty repository. LastPushBy is who made it, empty where git ran
	// in the repository by hand.
	LastPush   time.Time
	LastPushBy string
}

// List returns the names of the embedded repositories, sorted.
func (s *Store) List(context.Context) ([]core.Name, error) { return s.names() }

func (s *Store) names() ([]core.Name, error) { return repositoryNames(s.dir) }

// repositoryNames are those of the embedded repositories of a Git directory.
func repositoryNames(root string) ([]core.Name, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "repos", "*", "*.git"))
	if err != nil {
		return nil, fmt.Errorf("listing repositories: %w", err)
	}
	names := make([]core.Name, 0, len(dirs))
	for _, dir := range dirs {
		name := core.Name{Namespace: filepath.Base(filepath.Dir(dir)), Name: strings.TrimSuffix(filepath.Base(dir), ".git")}
		if checkName(name) == nil {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b core.Name) int { return strings.Compare(a.String(), b.String()) })
	return names, nil
}

// Create makes an empty embedded repository whose HEAD names main; the first
// branch pushed takes its place. One that is there is an *ExistsError. first is
// called when the disk has taken all of it and before it is there, for the
// object that stands for it; an error of it is returned, and nothing made. It
// is called again after a crash, so that what exists is no error for it.
func (s *Store) Create(ctx context.Context, name core.Name, first ...func(context.Context) error) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := initRepository(filepath.Join(s.dir, "tmp"), s.repositoryDir(name), func(string) error {
		for _, f := range first {
			if err := f(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrExist) {
		return &ExistsError{Repository: name}
	}
	return err
}

// SetDefaultBranch has clones check the branch out. One that is not there
// changes nothing: HEAD follows the first branch until then. Of a repository
// that is not there the error is a *NotFoundError.
func (s *Store) SetDefaultBranch(_ context.Context, name core.Name, branch string) error {
	r, err := s.embedded(name)
	if err != nil {
		return err
	}
	return r.setDefaultBranch(branch)
}

// Exists says whether there is an embedded repository of the name.
func (s *Store) Exists(_ context.Context, name core.Name) (bool, error) {
	_, err := s.embedded(name)
	var notFound *NotFoundError
	if errors.As(err, &notFound) {
		return false, nil
	}
	return err == nil, err
}

// Delete removes an embedded repository for good: pushes that are under way
// end first, then it is moved aside and removed. A new one may take its name
// at once; its events are others. Of one that is not there the error is a
// *NotFoundError.
func (s *Store) Delete(ctx context.Context, name core.Name) error {
	r, err := s.embedded(name)
	if err != nil {
		return err
	}
	lock, err := waitLock(ctx, r.lockPath(), true)
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{Repository: name.String()} // somebody was faster
	}
	if err != nil {
		return fmt.Errorf("deleting repository %s: %w", name, err)
	}
	defer lock.release()
	err = s.discard(r.dir, func(r *repository) error {
		if r == nil {
			return &NotFoundError{Repository: name.String()} // somebody was faster
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("deleting repository %s: %w", name, err)
	}
	return nil
}

// discard moves the repository at dir aside and removes it, unless may is
// against it. may is given the repository where it is open, and while it looks
// nobody opens it. The caller has the exclusive lock.
func (s *Store) discard(dir string, may func(*repository) error) error {
	trash, err := os.MkdirTemp(filepath.Join(s.dir, "trash"), "deleted-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(trash) // what is left of it goes at the next start
	s.mu.Lock()
	r := s.open[dir]
	err = may(r)
	if err == nil {
		err = os.Rename(dir, filepath.Join(trash, "repository.git"))
	}
	if err == nil {
		delete(s.open, dir)
		delete(s.sizes, dir)
	}
	if err == nil && r != nil {
		r.gone.Store(true)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if r != nil {
		s.objects.drop(r)
	}
	return syncDir(filepath.Dir(dir))
}

// Show returns what there is to know about an embedded repository.
func (s *Store) Show(_ context.Context, name core.Name) (Info, error) {
	r, err := s.embedded(name)
	if err != nil {
		return Info{}, err
	}
	head, err := r.refs.head()
	if err != nil {
		return Info{}, err
	}
	refs, err := r.refs.list("refs/")
	if err != nil {
		return Info{}, err
	}
	info := Info{Name: name, DefaultBranch: strings.TrimPrefix(head, "refs/heads/"), Refs: map[string]string{}}
	for ref, hash := range refs {
		if strings.HasPrefix(ref, ownRefs) {
			continue
		}
		info.Refs[ref] = hash
		lines, _, err := r.readLog(ref, refCursor{})
		if err != nil {
			return Info{}, err
		}
		if n := len(lines); n > 0 && lines[n-1].When.After(info.LastPush) {
			info.LastPush, info.LastPushBy = lines[n-1].When, lines[n-1].Who
		}
	}
	info.Size, err = r.size.of(r.dir)
	return info, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
