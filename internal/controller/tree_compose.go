package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/fairway-cd/fairway/internal/core"
)

// sparseTree has of a tree only some directories, and those above them.
type sparseTree struct {
	core.Tree
	dirs []string
}

// above says whether dir is above of name, or name itself.
func above(dir, name string) bool {
	return dir == "." || dir == name || strings.HasPrefix(name, dir+"/")
}

func (t *sparseTree) left(name string, dir bool) bool {
	return slices.ContainsFunc(t.dirs, func(d string) bool { return above(d, name) || dir && above(name, d) })
}

func notSparse(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("not in spec.sparseCheckout: %w", fs.ErrNotExist)}
}

func (t *sparseTree) Entry(ctx context.Context, name string) (core.TreeEntry, error) {
	e, err := t.Tree.Entry(ctx, name)
	if err == nil && !t.left(name, e.Mode.IsDir()) {
		return core.TreeEntry{}, notSparse("stat", name)
	}
	return e, err
}

func (t *sparseTree) List(ctx context.Context, name string) ([]core.TreeEntry, error) {
	if !t.left(name, true) {
		return nil, notSparse("list", name)
	}
	all, err := t.Tree.List(ctx, name)
	return slices.DeleteFunc(slices.Clone(all), func(e core.TreeEntry) bool { return !t.left(path.Join(name, e.Name), e.Mode.IsDir()) }), err
}

func (t *sparseTree) Read(ctx context.Context, name string) ([]byte, error) {
	if !t.left(name, false) {
		return nil, notSparse("read", name)
	}
	return t.Tree.Read(ctx, name)
}

// composedTree is a tree in which a directory of another one stands at a path,
// in place of what is there.
type composedTree struct {
	core.Tree
	sub      core.Tree
	from, at string
}

// include puts the directory from of sub at a path of tree.
func include(tree, sub core.Tree, from, at string) (core.Tree, error) {
	return &composedTree{tree, sub, from, at}, nil
}

// inSub is where a name is in the other tree.
func (t *composedTree) inSub(name string) (string, bool) {
	if !above(t.at, name) {
		return "", false
	}
	return path.Join(t.from, strings.TrimPrefix(strings.TrimPrefix(name, t.at), "/")), true
}

func (t *composedTree) Entry(ctx context.Context, name string) (core.TreeEntry, error) {
	if in, ok := t.inSub(name); ok {
		e, err := t.sub.Entry(ctx, in)
		e.Name = path.Base(name)
		return e, err
	}
	e, err := t.Tree.Entry(ctx, name)
	if !above(name, t.at) {
		return e, err
	}
	// A directory that the other tree is in: what it holds is of both.
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e, err
	}
	sub, err := t.sub.Entry(ctx, t.from)
	if err != nil {
		return core.TreeEntry{}, fmt.Errorf("%s of what is included: %w", t.from, err)
	}
	return core.TreeEntry{Name: path.Base(name), Mode: fs.ModeDir, Size: -1, Hash: digest([]string{e.Hash, t.at, sub.Hash})}, nil
}

func (t *composedTree) List(ctx context.Context, name string) ([]core.TreeEntry, error) {
	if in, ok := t.inSub(name); ok {
		return t.sub.List(ctx, in)
	}
	list, err := t.Tree.List(ctx, name)
	if !above(name, t.at) {
		return list, err
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return nil, err
	}
	child, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(t.at, name), "/"), "/")
	if name == "." {
		child, _, _ = strings.Cut(t.at, "/")
	}
	e, err := t.Entry(ctx, path.Join(name, child))
	if err != nil {
		return nil, err
	}
	list = slices.Clone(list)
	at, there := slices.BinarySearchFunc(list, child, func(e core.TreeEntry, s string) int { return strings.Compare(e.Name, s) })
	if there {
		list[at] = e
		return list, nil
	}
	return slices.Insert(list, at, e), nil
}

func (t *composedTree) Read(ctx context.Context, name string) ([]byte, error) {
	if in, ok := t.inSub(name); ok {
		return t.sub.Read(ctx, in)
	}
	if above(name, t.at) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
	}
	return t.Tree.Read(ctx, name)
}
