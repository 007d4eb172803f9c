package git

import (
	"bytes"
	"container/list"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/fairway-cd/fairway/internal/core"
)

// tree is a core.Tree that reads objects as it is asked.
type tree struct {
	store *Store
	repo  *repository
	root  string
}

var _ core.Tree = (*tree)(nil)

// maxTreeBytes bounds one directory: some 500,000 entries.
const maxTreeBytes = 16 << 20

func (t *tree) Entry(ctx context.Context, name string) (core.TreeEntry, error) {
	if !fs.ValidPath(name) {
		return core.TreeEntry{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return core.TreeEntry{Name: ".", Mode: fs.ModeDir, Hash: t.root, Size: -1}, nil
	}
	hash, rest := t.root, name
	for {
		elem, more, deeper := strings.Cut(rest, "/")
		entries, err := t.entries(ctx, hash)
		if err != nil {
			return core.TreeEntry{}, &fs.PathError{Op: "stat", Path: name, Err: err}
		}
		i, found := slices.BinarySearchFunc(entries, elem, func(e core.TreeEntry, s string) int { return strings.Compare(e.Name, s) })
		if !found || deeper && !entries[i].Mode.IsDir() {
			return core.TreeEntry{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
		}
		if !deeper {
			return entries[i], nil
		}
		hash, rest = entries[i].Hash, more
	}
}

func (t *tree) List(ctx context.Context, name string) ([]core.TreeEntry, error) {
	e, err := t.Entry(ctx, name)
	if err != nil {
		return nil, err
	}
	if !e.Mode.IsDir() {
		return nil, &fs.PathError{Op: "list", Path: name, Err: syscall.ENOTDIR}
	}
	entries, err := t.entries(ctx, e.Hash)
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: name, Err: err}
	}
	return entries, nil
}

func (t *tree) Read(ctx context.Context, name string) ([]byte, error) {
	e, err := t.Entry(ctx, name)
	if err != nil {
		return nil, err
	}
	switch {
	case e.Mode.IsDir():
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
	case e.Mode&fs.ModeIrregular != 0:
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a submodule")}
	}
	obj, err := t.store.objects.read(ctx, t.repo, e.Hash, t.store.limitsOf(t.repo).FileBytes)
	var tooLarge *core.TooLargeError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &core.TooLargeError{What: "file " + name, Size: tooLarge.Size, Limit: tooLarge.Limit}
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", name, hideMissing(err))
	case obj.kind != "blob":
		return nil, fmt.Errorf("reading %s: object %s is a %s", name, e.Hash, obj.kind)
	}
	return obj.data, nil
}

// entries returns the entries of a tree object, sorted by name.
func (t *tree) entries(ctx context.Context, hash string) ([]core.TreeEntry, error) {
	if entries, ok := t.store.trees.get(hash); ok {
		return entries, nil
	}
	obj, err := t.store.objects.read(ctx, t.repo, hash, maxTreeBytes)
	if err != nil {
		return nil, hideMissing(err)
	}
	if obj.kind != "tree" {
		return nil, fmt.Errorf("object %s is a %s, not a tree", hash, obj.kind)
	}
	entries, err := parseTree(obj.data, len(hash)/2)
	if err != nil {
		return nil, err
	}
	t.store.trees.put(hash, entries, int64(len(obj.data))*4)
	return entries, nil
}

// hideMissing keeps a damaged repository from looking like a path that is
// known not to be there.
func hideMissing(err error) error {
	if errors.Is(err, errNoObject) {
		return errors.New("the object is missing from the repository")
	}
	return err
}

// parseTree reads a tree object: "MODE SP NAME NUL HASH" again and again. An
// entry with a name that no checkout would write is a *HostileError.
func parseTree(data []byte, hashLen int) ([]core.TreeEntry, error) {
	var entries []core.TreeEntry
	for len(data) > 0 {
		mode, rest, ok := bytes.Cut(data, []byte{' '})
		if !ok {
			return nil, &HostileError{What: "a tree object that is cut short"}
		}
		name, rest, ok := bytes.Cut(rest, []byte{0})
		if !ok || len(rest) < hashLen {
			return nil, &HostileError{What: "a tree object that is cut short"}
		}
		e := core.TreeEntry{Name: string(name), Hash: hex.EncodeToString(rest[:hashLen]), Size: -1}
		data = rest[hashLen:]
		if !safeEntryName(e.Name) {
			return nil, &HostileError{What: fmt.Sprintf("a directory entry named %q", e.Name)}
		}
		switch strings.TrimLeft(string(mode), "0") {
		case "40000":
			e.Mode = fs.ModeDir
		case "100755":
			e.Mode = 0o755
		case "120000":
			e.Mode = fs.ModeSymlink
		case "160000":
			e.Mode = fs.ModeIrregular
		case "100644", "100664": // the latter is of old Gits
			e.Mode = 0o644
		default:
			return nil, &HostileError{What: fmt.Sprintf("a directory entry of mode %q", mode)}
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b core.TreeEntry) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(entries); i++ {
		if entries[i].Name == entries[i-1].Name {
			return nil, &HostileError{What: fmt.Sprintf("two directory entries named %q", entries[i].Name)}
		}
	}
	return entries, nil
}

// safeEntryName holds for what may be one element of a path. ".git" is refused
// as Git's own verify_path does, in any case.
func safeEntryName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.EqualFold(name, ".git") &&
		!strings.ContainsAny(name, "/\x00") && path.Base(name) == name
}

// treeCache remembers directories by hash: what they hold never changes, and
// the next commit shares most of them. The least recently used go first.
type treeCache struct {
	limit int64

	mu    sync.Mutex
	bytes int64
	order *list.List // of *cachedTree, the newest first
	byKey map[string]*list.Element
}

type cachedTree struct {
	hash    string
	entries []core.TreeEntry
	bytes   int64
}

const treeCacheBytes = 64 << 20

func newTreeCache(limit int64) *treeCache {
	return &treeCache{limit: limit, order: list.New(), byKey: map[string]*list.Element{}}
}

func (c *treeCache) get(hash string) ([]core.TreeEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, ok := c.byKey[hash]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(el)
	return el.Value.(*cachedTree).entries, true
}

func (c *treeCache) put(hash string, entries []core.TreeEntry, bytes int64) {
	if bytes > c.limit/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.byKey[hash]; there {
		return
	}
	c.byKey[hash] = c.order.PushFront(&cachedTree{hash, entries, bytes})
	for c.bytes += bytes; c.bytes > c.limit; {
		old := c.order.Remove(c.order.Back()).(*cachedTree)
		delete(c.byKey, old.hash)
		c.bytes -= old.bytes
	}
}
