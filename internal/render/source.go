package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// maxLinks is how many symbolic links one path may go through: Linux' limit.
const maxLinks = 40

// source is a Tree as a tool's file system sees it: symbolic links are
// followed, but only inside the tree. What leaves it is an *Error (OutsideTree).
type source struct {
	ctx    context.Context
	tree   core.Tree
	limits Limits

	files, visited int
	bytes          int64
	cache          map[string][]byte
}

func newSource(ctx context.Context, tree core.Tree, limits Limits) *source {
	return &source{ctx: ctx, tree: tree, limits: limits, cache: map[string][]byte{}}
}

// clean makes p relative to the root, or says that it leaves the tree.
func clean(p string) (string, error) {
	if strings.ContainsRune(p, 0) {
		return "", NewError(PathNotFound, strings.ReplaceAll(p, "\x00", "\\0"), 0, "a path may not hold a NUL byte")
	}
	c := path.Clean(strings.TrimLeft(p, "/"))
	if c == ".." || strings.HasPrefix(c, "../") {
		return "", NewError(OutsideTree, p, 0, "the path leaves the repository")
	}
	return c, nil
}

// resolve follows all symbolic links in p, which is cleaned, and returns the
// real path and what stands there.
func (s *source) resolve(p string) (string, core.TreeEntry, error) {
	entry, err := s.entry(p)
	switch {
	case err == nil && entry.Mode&fs.ModeSymlink == 0:
		return p, entry, nil // no element of p is a link, or it would not be there
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", core.TreeEntry{}, err
	}
	return s.walk(p)
}

// walk resolves p element by element.
func (s *source) walk(p string) (string, core.TreeEntry, error) {
	real, rest := ".", strings.Split(p, "/")
	var entry core.TreeEntry
	for links := 0; len(rest) > 0; {
		next := path.Join(real, rest[0])
		if next == ".." || strings.HasPrefix(next, "../") {
			return "", entry, NewError(OutsideTree, p, 0, "a symbolic link leaves the repository")
		}
		var err error
		if entry, err = s.entry(next); err != nil {
			return "", entry, err
		}
		if entry.Mode&fs.ModeSymlink == 0 {
			real, rest = next, rest[1:]
			continue
		}
		if links++; links > maxLinks {
			return "", entry, NewError(PathNotFound, p, 0, "too many levels of symbolic links")
		}
		target, err := s.tree.Read(s.ctx, next)
		if err != nil {
			return "", entry, err
		}
		if path.IsAbs(string(target)) {
			return "", entry, NewError(OutsideTree, p, 0, "the symbolic link %s is absolute", next)
		}
		rest = append(strings.Split(string(target), "/"), rest[1:]...)
	}
	return real, entry, nil
}

func (s *source) entry(p string) (core.TreeEntry, error) {
	if err := s.ctx.Err(); err != nil {
		return core.TreeEntry{}, err
	}
	return s.tree.Entry(s.ctx, p)
}

// stat resolves p, which may be anything, and returns what stands there.
func (s *source) stat(p string) (string, core.TreeEntry, error) {
	p, err := clean(p)
	if err != nil {
		return "", core.TreeEntry{}, err
	}
	return s.resolve(p)
}

// read returns the content of the file at p.
func (s *source) read(p string) ([]byte, error) {
	real, entry, err := s.stat(p)
	if err != nil {
		return nil, err
	}
	if content, ok := s.cache[real]; ok {
		return content, nil
	}
	if !entry.Mode.IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: p, Err: errNotFile}
	}
	if entry.Size > s.limits.MaxFileBytes {
		return nil, NewError(LimitExceeded, real, 0, "the file has %d bytes, the limit is %d", entry.Size, s.limits.MaxFileBytes)
	}
	content, err := s.tree.Read(s.ctx, real)
	var tooLarge *core.TooLargeError
	if errors.As(err, &tooLarge) {
		return nil, NewError(LimitExceeded, real, 0, "the file has %d bytes, the limit is %d", tooLarge.Size, tooLarge.Limit)
	}
	if err != nil {
		return nil, err
	}
	if err := s.count(real, content); err != nil {
		return nil, err
	}
	s.cache[real] = content
	return content, nil
}

func (s *source) count(p string, content []byte) error {
	if n := int64(len(content)); n > s.limits.MaxFileBytes {
		return NewError(LimitExceeded, p, 0, "the file has %d bytes, the limit is %d", n, s.limits.MaxFileBytes)
	}
	s.files++
	s.bytes += int64(len(content))
	if s.files > s.limits.MaxFiles {
		return NewError(LimitExceeded, p, 0, "more than %d files are read", s.limits.MaxFiles)
	}
	if s.bytes > s.limits.MaxInputBytes {
		return NewError(LimitExceeded, p, 0, "more than %d bytes are read", s.limits.MaxInputBytes)
	}
	return nil
}

// list returns the entries of the directory at p, links unresolved.
func (s *source) list(p string) ([]core.TreeEntry, error) {
	real, entry, err := s.stat(p)
	if err != nil {
		return nil, err
	}
	if !entry.Mode.IsDir() {
		return nil, &fs.PathError{Op: "list", Path: p, Err: errNotDirectory}
	}
	return s.tree.List(s.ctx, real)
}

// visit calls f for everything below the directory at p that is no directory,
// in lexical order. A link is passed as it is; where follow is set, links are
// followed as Helm's loader does, directories too. f gets the path relative to
// p, and for a directory what it says decides whether to go into it.
func (s *source) visit(p string, follow bool, f func(rel string, e core.TreeEntry) (descend bool, err error)) error {
	return s.visitBelow(p, ".", follow, 0, f)
}

func (s *source) visitBelow(root, rel string, follow bool, depth int, f func(string, core.TreeEntry) (bool, error)) error {
	if depth > maxDepth {
		return NewError(LimitExceeded, path.Join(root, rel), 0, "directories are more than %d deep", maxDepth)
	}
	entries, err := s.list(path.Join(root, rel))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if s.visited++; s.visited > s.limits.MaxFiles {
			return NewError(LimitExceeded, path.Join(root, rel), 0, "more than %d files are looked at", s.limits.MaxFiles)
		}
		child := path.Join(rel, e.Name)
		if follow && e.Mode&fs.ModeSymlink != 0 {
			name := e.Name
			if _, e, err = s.stat(path.Join(root, child)); err != nil {
				return fmt.Errorf("follow the symbolic link %s: %w", child, err)
			}
			e.Name = name
		}
		descend, err := f(child, e)
		if err != nil {
			return err
		}
		if descend && e.Mode.IsDir() {
			if err := s.visitBelow(root, child, follow, depth+1, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxDepth bounds the walk through directories, whose links may make a cycle.
const maxDepth = 100

var (
	errNotFile      = errors.New("not a regular file")
	errNotDirectory = errors.New("not a directory")
)
