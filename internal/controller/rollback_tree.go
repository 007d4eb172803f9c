package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/fairway-cd/fairway/internal/core"
)

// changedTree is a tree with changes in it that are not committed yet. As in
// Git, a removal goes before what is put below it, and there are no empty
// directories.
type changedTree struct {
	base    core.Tree
	changes map[string]change
}

var _ core.Tree = (*changedTree)(nil)

// Entry implements core.Tree.
func (t *changedTree) Entry(ctx context.Context, name string) (core.TreeEntry, error) {
	if c, ok := t.changes[name]; ok && c.from != nil && !c.entry.Mode.IsDir() {
		return c.entry, nil
	}
	if name != "." && !t.touches(name) {
		tree, err := t.under(name)
		if err != nil {
			return core.TreeEntry{}, err
		}
		return tree.Entry(ctx, name)
	}
	// Something in it is changed, so it is a directory if anything is in it.
	entries, err := t.children(ctx, name)
	if err != nil {
		return core.TreeEntry{}, err
	}
	if len(entries) > 0 || name == "." {
		return core.TreeEntry{Name: path.Base(name), Mode: fs.ModeDir, Hash: listedHash(entries), Size: -1}, nil
	}
	tree, err := t.under(name)
	if err != nil {
		return core.TreeEntry{}, err
	}
	e, err := tree.Entry(ctx, name)
	if err == nil && e.Mode.IsDir() {
		return core.TreeEntry{}, notThere(name)
	}
	return e, err
}

// List implements core.Tree.
func (t *changedTree) List(ctx context.Context, name string) ([]core.TreeEntry, error) {
	e, err := t.Entry(ctx, name)
	if err != nil {
		return nil, err
	}
	if !e.Mode.IsDir() {
		return nil, &fs.PathError{Op: "list", Path: name, Err: syscall.ENOTDIR}
	}
	return t.children(ctx, name)
}

// Read implements core.Tree.
func (t *changedTree) Read(ctx context.Context, name string) ([]byte, error) {
	e, err := t.Entry(ctx, name)
	if err != nil {
		return nil, err
	}
	if e.Mode.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
	}
	tree, err := t.under(name)
	if err != nil {
		return nil, err
	}
	return tree.Read(ctx, name)
}

// under is the tree that has what stands at name, changes below it aside.
func (t *changedTree) under(name string) (core.Tree, error) {
	removed := false
	for at := name; at != "."; at = path.Dir(at) {
		c, ok := t.changes[at]
		switch {
		case !ok:
		case c.from == nil: // before what is put there or above it
			removed = true
		case at != name && !c.entry.Mode.IsDir():
			return nil, notThere(name)
		default:
			return c.from, nil
		}
	}
	if removed {
		return nil, notThere(name)
	}
	return t.base, nil
}

// touches says whether something below name is changed.
func (t *changedTree) touches(name string) bool {
	for at := range t.changes {
		if strings.HasPrefix(at, name+"/") {
			return true
		}
	}
	return false
}

// children are the entries of the directory at name; none where there is no
// directory.
func (t *changedTree) children(ctx context.Context, name string) ([]core.TreeEntry, error) {
	names := map[string]bool{}
	tree, err := t.under(name)
	if err == nil {
		var entries []core.TreeEntry
		entries, err = tree.List(ctx, name)
		for _, e := range entries {
			names[e.Name] = true
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return nil, err
	}
	for at := range t.changes {
		rest, below := at, name == "."
		if !below {
			rest, below = strings.CutPrefix(at, name+"/")
		}
		if below {
			first, _, _ := strings.Cut(rest, "/")
			names[first] = true
		}
	}
	var out []core.TreeEntry
	for _, child := range sortedKeys(names) {
		e, err := t.Entry(ctx, path.Join(name, child))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e.Name = child
		out = append(out, e)
	}
	return slices.Clip(out), nil
}

func notThere(name string) error { return &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist} }

// listedHash is of a directory, by what is in it.
func listedHash(entries []core.TreeEntry) string {
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%d %q %s\n", e.Mode, e.Name, e.Hash)
	}
	return hex.EncodeToString(h.Sum(nil))
}
