package git

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// cursor is what a repository's outbox has delivered, by reference. It lives
// beside the references and is replaced atomically.
type cursor struct {
	path string
	// ID is the repository's own, so that one of the same name that is made
	// after this one was deleted has other events.
	ID   string                `json:"id"`
	Refs map[string]*refCursor `json:"refs"`
	// Deleting holds who is about to delete a reference: its reflog, which
	// would say so, goes with it.
	Deleting map[string]deletion `json:"deleting,omitempty"`
}

// refCursor is what was delivered of one reference.
type refCursor struct {
	// Generation counts how often the reference was deleted.
	Generation int `json:"generation,omitempty"`
	// Hash is where the last delivered event left the reference; empty once
	// its deletion was delivered.
	Hash string `json:"hash,omitempty"`
	// The last delivered line of the reflog is the bytes from Start to End,
	// and Sum identifies it: another line there means another log.
	Start int64  `json:"start"`
	End   int64  `json:"end"`
	Sum   string `json:"sum,omitempty"`
	// Gone is when the deletion was delivered.
	Gone time.Time `json:"gone,omitzero"`
}

type deletion struct {
	Who  string    `json:"who"`
	When time.Time `json:"when"`
}

const cursorFile = "fairway-cursor.json"

// tombstoneAge is how long a deleted reference is remembered. It only has to
// outlast the second in which a reflog cannot tell two equal updates apart.
const tombstoneAge = 24 * time.Hour

// newCursor is of a repository of which nothing was delivered.
func newCursor(dir string) *cursor {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // does not fail: crypto/rand
	return &cursor{path: filepath.Join(dir, cursorFile), ID: hex.EncodeToString(id), Refs: map[string]*refCursor{}}
}

// loadCursor reads the cursor of the repository at dir, and makes one where
// there is none: a repository that somebody put there by hand.
func loadCursor(dir string) (*cursor, error) {
	c := newCursor(dir)
	data, err := os.ReadFile(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, c.save()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the outbox cursor: %w", err)
	}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("reading the outbox cursor: %w", err)
	}
	if c.Refs == nil {
		c.Refs = map[string]*refCursor{}
	}
	return c, nil
}

func (c *cursor) save() error {
	for name, r := range c.Refs {
		if !r.Gone.IsZero() && time.Since(r.Gone) > tombstoneAge {
			delete(c.Refs, name)
		}
	}
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encoding the outbox cursor: %w", err)
	}
	return writeDurably(c.path, data, 0o600)
}

// ref is the cursor of one reference, a zero one where it is new.
func (c *cursor) ref(name string) refCursor {
	if r := c.Refs[name]; r != nil {
		return *r
	}
	return refCursor{}
}
