// Package memtree is a core.Tree in memory, for tests and for small generated
// sources. Its hashes are Git's way: equal hashes are equal contents, all the
// way down.
package memtree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// Tree is an immutable core.Tree in memory.
type Tree struct {
	nodes map[string]*node
}

type node struct {
	entry    core.TreeEntry
	content  []byte
	children []string
}

var _ core.Tree = (*Tree)(nil)

// Link is the content of a symbolic link, for File.
type Link string

// New makes a tree of files: path → content, where the content is a string, a
// []byte, or a Link. It panics on anything else and on a path that is not
// clean, which are mistakes of the caller's source code.
func New[Content any](files map[string]Content) *Tree {
	t := &Tree{nodes: map[string]*node{".": {entry: core.TreeEntry{Name: ".", Mode: fs.ModeDir}}}}
	for p, content := range files {
		if path.Clean(p) != p || path.IsAbs(p) || p == "." || strings.HasPrefix(p, "../") {
			panic(fmt.Sprintf("memtree: path %q is not clean", p))
		}
		n := &node{entry: core.TreeEntry{Name: path.Base(p), Mode: 0o644}}
		switch c := any(content).(type) {
		case string:
			n.content = []byte(c)
		case []byte:
			n.content = c
		case Link:
			n.content, n.entry.Mode = []byte(c), fs.ModeSymlink
		default:
			panic(fmt.Sprintf("memtree: content of %q is a %T", p, c))
		}
		t.add(p, n)
	}
	t.hash(".")
	return t
}

// Load reads a directory of the disk, symbolic links as links.
func Load(dir string) (*Tree, error) {
	files := map[string]any{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			files[rel] = Link(target)
			return err
		}
		files[rel], err = os.ReadFile(p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	return New(files), nil
}

func (t *Tree) add(p string, n *node) {
	t.nodes[p] = n
	for child := p; child != "."; {
		dir := path.Dir(child)
		parent, ok := t.nodes[dir]
		if !ok {
			parent = &node{entry: core.TreeEntry{Name: path.Base(dir), Mode: fs.ModeDir}}
			t.nodes[dir] = parent
		}
		parent.children = append(parent.children, path.Base(child))
		if ok {
			return
		}
		child = dir
	}
}

// hash fills in the hashes and sizes below p and returns p's hash.
func (t *Tree) hash(p string) string {
	n := t.nodes[p]
	h := sha256.New()
	if !n.entry.Mode.IsDir() {
		h.Write(n.content)
		n.entry.Size = int64(len(n.content))
	} else {
		sort.Strings(n.children)
		for _, name := range n.children {
			sum := t.hash(path.Join(p, name))
			fmt.Fprintf(h, "%d %q %s\n", t.nodes[path.Join(p, name)].entry.Mode, name, sum)
		}
	}
	n.entry.Hash = hex.EncodeToString(h.Sum(nil))
	return n.entry.Hash
}

func (t *Tree) find(op, p string) (*node, error) {
	n, ok := t.nodes[p]
	if !ok {
		return nil, &fs.PathError{Op: op, Path: p, Err: fs.ErrNotExist}
	}
	return n, nil
}

// Entry implements core.Tree.
func (t *Tree) Entry(_ context.Context, p string) (core.TreeEntry, error) {
	n, err := t.find("stat", p)
	if err != nil {
		return core.TreeEntry{}, err
	}
	return n.entry, nil
}

// List implements core.Tree.
func (t *Tree) List(_ context.Context, p string) ([]core.TreeEntry, error) {
	n, err := t.find("list", p)
	if err != nil {
		return nil, err
	}
	if !n.entry.Mode.IsDir() {
		return nil, &fs.PathError{Op: "list", Path: p, Err: fs.ErrInvalid}
	}
	entries := make([]core.TreeEntry, len(n.children))
	for i, name := range n.children {
		entries[i] = t.nodes[path.Join(p, name)].entry
	}
	return entries, nil
}

// Read implements core.Tree.
func (t *Tree) Read(_ context.Context, p string) ([]byte, error) {
	n, err := t.find("read", p)
	if err != nil {
		return nil, err
	}
	if n.entry.Mode.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: p, Err: fs.ErrInvalid}
	}
	return append([]byte(nil), n.content...), nil
}
