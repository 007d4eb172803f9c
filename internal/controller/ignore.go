package controller

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"

	gitignore "github.com/monochromegane/go-gitignore"

	"github.com/fairway-cd/fairway/internal/core"
)

// ignoring is the tree without what the patterns, in the form of .gitignore,
// leave out.
func ignoring(tree core.Tree, patterns string) (core.Tree, error) {
	const longest = 64 << 10
	if len(patterns) > longest {
		return nil, &core.TooLargeError{What: "spec.ignore", Size: int64(len(patterns)), Limit: longest}
	}
	matcher := gitignore.NewGitIgnoreFromReader("/", bytes.NewBufferString(patterns))
	return &ignoringTree{tree, matcher}, nil
}

// ignoringTree leaves out what the matcher matches, and what is below it.
type ignoringTree struct {
	core.Tree
	matcher gitignore.IgnoreMatcher
}

func (t *ignoringTree) ignored(name string, dir bool) bool {
	for at, isDir := name, dir; at != "."; at, isDir = path.Dir(at), true {
		if t.matcher.Match("/"+at, isDir) {
			return true
		}
	}
	return false
}

func (t *ignoringTree) Entry(ctx context.Context, name string) (core.TreeEntry, error) {
	e, err := t.Tree.Entry(ctx, name)
	if err == nil && t.ignored(name, e.Mode.IsDir()) {
		return core.TreeEntry{}, fmt.Errorf("%s (left out by spec.ignore): %w", name, fs.ErrNotExist)
	}
	return e, err
}

func (t *ignoringTree) List(ctx context.Context, name string) ([]core.TreeEntry, error) {
	if t.ignored(name, true) {
		return nil, fmt.Errorf("%s (left out by spec.ignore): %w", name, fs.ErrNotExist)
	}
	all, err := t.Tree.List(ctx, name)
	if err != nil {
		return nil, err
	}
	var kept []core.TreeEntry
	for _, e := range all {
		if !t.ignored(path.Join(name, e.Name), e.Mode.IsDir()) {
			kept = append(kept, e)
		}
	}
	return kept, nil
}

func (t *ignoringTree) Read(ctx context.Context, name string) ([]byte, error) {
	if t.ignored(name, false) {
		return nil, fmt.Errorf("%s (left out by spec.ignore): %w", name, fs.ErrNotExist)
	}
	return t.Tree.Read(ctx, name)
}
