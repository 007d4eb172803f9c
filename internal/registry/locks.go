package registry

import (
	"hash/fnv"
	"slices"
	"sync"
)

// stripes is a set of locks, of which each key has one; different keys may
// share one. It is the push lock: what a push relies on (a blob that it was
// told exists, that it mounts, commits or names in a manifest) is looked up
// and marked as used under the digest's lock, and garbage collection takes
// the same lock to look a last time before it removes.
type stripes [1024]sync.Mutex

// lock takes the locks of all keys, in one order so that nobody waits for
// each other, and returns what releases them.
func (s *stripes) lock(keys ...string) (unlock func()) {
	var at []int
	for _, k := range keys {
		h := fnv.New32a()
		_, _ = h.Write([]byte(k)) // never fails
		at = append(at, int(h.Sum32()%uint32(len(s))))
	}
	slices.Sort(at)
	at = slices.Compact(at)
	for _, i := range at {
		s[i].Lock()
	}
	return func() {
		for _, i := range at {
			s[i].Unlock()
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
