package chart

import (
	"container/list"
	"sync"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
)

// Cache keeps charts by the digest of what they were unpacked from, the ones
// that were used last. It is safe for concurrent use; a nil one keeps nothing.
type Cache struct {
	limit int64

	mu   sync.Mutex
	size int64
	by   map[string]*list.Element
	used list.List // of *cached, the last used first
}

type cached struct {
	digest string
	tree   core.Tree
	size   int64
}

// NewCache keeps up to limit bytes of content.
func NewCache(limit int64) *Cache { return &Cache{limit: limit, by: map[string]*list.Element{}} }

func (c *Cache) get(digest string) (core.Tree, bool) {
	if c == nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.by[digest]
	if !ok {
		return nil, false
	}
	c.used.MoveToFront(e)
	return e.Value.(*cached).tree, true
}

// put keeps the files, and returns them as a tree.
func (c *Cache) put(digest string, files map[string][]byte) core.Tree {
	tree := memtree.New(files)
	if c == nil {
		return tree
	}
	var size int64
	for name, content := range files {
		size += int64(len(name) + len(content))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.by[digest]; ok || size > c.limit {
		return tree
	}
	c.by[digest] = c.used.PushFront(&cached{digest, tree, size})
	for c.size += size; c.size > c.limit; {
		oldest := c.used.Remove(c.used.Back()).(*cached)
		delete(c.by, oldest.digest)
		c.size -= oldest.size
	}
	return tree
}
