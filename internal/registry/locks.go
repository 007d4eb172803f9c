package registry

import (
	"hash/fnv"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

// The push lock is in two parts, both striped: a key has one lock, which it
// may share with others.
//
// A repository's lock is held to write by what changes its manifests and by
// garbage collection, and to read by what a push relies on later: a blob or
// manifest that it was told is there, a blob that it mounts or commits. Each
// of these marks what it found as used before it lets go, and collection
// looks at the marks while it holds the lock.
//
// A digest's lock is held, after the repository's, by what links content,
// and by what removes content that nothing links.
//
// No lock is held while a client sends or receives.
type pushLock struct {
	repositories [256]sync.RWMutex
	digests      [1024]sync.Mutex
}

func stripe(key string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	return int(h.Sum32() % uint32(n))
}

func (l *pushLock) of(n core.Name) *sync.RWMutex {
	return &l.repositories[stripe(n.String(), len(l.repositories))]
}

// change locks a repository to write.
func (l *pushLock) change(n core.Name) (unlock func()) {
	m := l.of(n)
	m.Lock()
	return m.Unlock
}

// rely locks a repository to read.
func (l *pushLock) rely(n core.Name) (unlock func()) {
	m := l.of(n)
	m.RLock()
	return m.RUnlock
}

// content locks digests, in one order so that nobody waits for each other.
func (l *pushLock) content(ds ...digest.Digest) (unlock func()) {
	var at []int
	for _, d := range ds {
		at = append(at, stripe(d.String(), len(l.digests)))
	}
	slices.Sort(at)
	at = slices.Compact(at)
	for _, i := range at {
		l.digests[i].Lock()
	}
	return func() {
		for _, i := range at {
			l.digests[i].Unlock()
		}
	}
}

// exclusive lets one holder at a time have each key, and turns others away
// instead of letting them wait: for uploads, whose holder reads from a client.
type exclusive struct {
	mu   sync.Mutex
	held map[string]bool
}

// try returns what releases the key, or false where somebody has it.
func (e *exclusive) try(key string) (release func(), ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held[key] {
		return nil, false
	}
	if e.held == nil {
		e.held = map[string]bool{}
	}
	e.held[key] = true
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.held, key)
	}, true
}
