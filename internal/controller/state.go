package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
)

// memory is what is remembered of a delivery between its reconciles. It only
// saves work: all of it is found again where it is lost.
type memory struct {
	// written is the object as we last wrote it: the cache may still hold an
	// older one.
	written written
	// target is what was last rendered, and deployed the digest of the target
	// that was last compared or applied without an error.
	target   *target
	deployed string
	// tried is the digest of the target that was last synced, or tried to be.
	tried string
	// actedAs is as whom all of it was last compared or applied.
	actedAs string
	// heal paces syncs that heal a delivery as a whole, fights the healing of
	// single objects.
	heal   healBackoff
	fights fights
	// look is when the fights of a Kustomization are to be looked at; zero is
	// never.
	look time.Time
	// sight is of what was there before the process was.
	sight sight
	// wait is set while a sync waits for objects, parting while a deletion is
	// not through.
	wait, parting *waiting
	// ready is how far what a Kustomization has applied is from being healthy,
	// read the source's artifact that it was rendered from (empty where a pin
	// holds another revision), and due when to look at it again.
	ready applied
	read  artifact
	due   due
	// polled is when external repositories were last asked, failures how many
	// reconciles in a row have failed.
	polled   time.Time
	failures int
	// owed is what has happened and was not looked at yet.
	owed reason
}

// owe adds to the reasons of a reconcile those of earlier ones that failed
// before they came to what is wanted, and keeps them until met: whatever wakes
// the delivery next, such as a drift, must not be taken for all that there is.
func (m *memory) owe(why reason) reason {
	m.owed |= why &^ (drifted | timerFired)
	return why | m.owed
}

// met says that what is wanted by now is known.
func (m *memory) met() { m.owed = 0 }

// target is what is wanted: revisions, and the objects that they render to.
type target struct {
	made made
	// digest is of the objects and of what else was asked for.
	digest    string
	objects   packed
	revisions []core.Revision
	params    string
	// places are what was read of each source, and from is the artifact, where
	// the delivery reads one.
	places   [][]string
	from     string
	tools    []string
	warnings []string
	// repeated are objects that more than one source has.
	repeated []core.ObjectRef
	// clear are the Secrets that have a value in clear in the source.
	clear []core.ObjectRef
	// images are those of the objects' containers.
	images []string
}

// revision is the commit of the only source, or "".
func (t *target) revision() string {
	if len(t.revisions) != 1 {
		return ""
	}
	return t.revisions[0].Commit
}

// commits are those of all sources.
func (t *target) commits() []string {
	out := make([]string, len(t.revisions))
	for i, r := range t.revisions {
		out[i] = r.Commit
	}
	return out
}

// memories are those of one kind.
type memories struct {
	mu sync.Mutex
	by map[types.NamespacedName]*memory
	// count is told by how many fights there are more, or fewer.
	count func(int)
}

func newMemories() *memories { return &memories{by: map[types.NamespacedName]*memory{}} }

// counted has the fights of the kind's objects counted.
func (m *memories) counted(count func(int)) *memories {
	m.count = count
	return m
}

// of returns the object's. Only the reconcile of the object, of which there is
// one at a time, may use it.
func (m *memories) of(key types.NamespacedName) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by[key] == nil {
		m.by[key] = &memory{fights: fights{count: m.count}}
	}
	return m.by[key]
}

// peek returns what is newer, the object in the cache or the one that we last
// wrote, without making a memory.
func (m *memories) peek(key types.NamespacedName, cached *unstructured.Unstructured) *unstructured.Unstructured {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.by[key]; known != nil {
		return newer(known.written.Load(), cached)
	}
	return cached
}

func (m *memories) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.by[key]; known != nil {
		known.fights.drop()
	}
	delete(m.by, key)
}

// newest returns what is newer, the object in the cache or the one that we
// wrote last.
func (m *memory) newest(cached *unstructured.Unstructured) *unstructured.Unstructured {
	return newer(m.written.Load(), cached)
}

// newer returns the newer one of ours and the cache's. Where their versions do
// not compare, the cache is right.
func newer(ours, cached *unstructured.Unstructured) *unstructured.Unstructured {
	if ours == nil || ours.GetUID() != cached.GetUID() {
		return cached
	}
	a, ok1 := versionOf(ours)
	b, ok2 := versionOf(cached)
	if !ok1 || !ok2 || b >= a {
		return cached
	}
	return ours.DeepCopy()
}
