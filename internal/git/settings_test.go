package git

import (
	"errors"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

// A repository's own limits lower the store's, never raise them, and hold
// after a restart.
func TestSettings(t *testing.T) {
	limits := func(o *Options) { o.Limits.PushBytes, o.Limits.FileBytes, o.Limits.Refs = 1<<20, 1<<20, 3 }
	w := newWorld(t, limits)
	c := newClient(t)
	first := c.commit("a", strings.Repeat("x", 5000))
	c.git("push", "-q", w.as("alice", "web"), "main")
	if err := w.Configure(t.Context(), core.Name{Namespace: "default", Name: "nowhere"}, Settings{}); !errors.As(err, new(*NotFoundError)) {
		t.Errorf("of one that is not there: %v", err)
	}
	if err := w.Configure(t.Context(), webName, Settings{PushBytes: 1 << 10, FileBytes: 4 << 10, Refs: 2}); err != nil {
		t.Fatal(err)
	}
	check := func(s *Store) {
		t.Helper()
		r, err := s.embedded(webName)
		if err != nil {
			t.Fatal(err)
		}
		if l := s.limitsOf(r); l.PushBytes != 1<<10 || l.FileBytes != 4<<10 || l.Refs != 2 {
			t.Errorf("the limits are %+v", l)
		}
	}
	check(w.Store)
	var large *core.TooLargeError
	at, err := w.Resolve(t.Context(), "/git/web", Ref{}, Auth{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at.Tree.Read(t.Context(), "a"); !errors.As(err, &large) || large.Limit != 4<<10 {
		t.Errorf("a file over the limit: %v", err)
	}
	c.git("push", "-q", w.as("alice", "web"), "main:one")
	c.mustFail([]string{"the repository would have 3 references, the limit is 2"}, "push", w.as("alice", "web"), "main:two")
	c.commit("noise", noise(4<<10))
	c.mustFail([]string{"[remote rejected] main -> main (the push is larger than this repository's limit of 1.0 KiB)"}, "push", w.as("alice", "web"), "main")
	if now, err := w.Resolve(t.Context(), "/git/web", Ref{}, Auth{}); err != nil || now.Revision.Commit != first {
		t.Errorf("the refused push has moved main to %v, %v", now.Revision, err)
	}

	set, err := loadSettings(w.repositoryDir(webName))
	if err != nil || set.Refs != 2 {
		t.Errorf("on disk: %+v, %v", set, err)
	}
	if err := w.Configure(t.Context(), webName, Settings{PushBytes: 1 << 40, Refs: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	r, err := w.embedded(webName)
	if err != nil {
		t.Fatal(err)
	}
	if l := w.limitsOf(r); l.PushBytes != 1<<20 || l.FileBytes != 1<<20 || l.Refs != 3 {
		t.Errorf("raised above the store's: %+v", l)
	}
	c.git("push", "-q", w.as("alice", "web"), "main")
}

// noise does not compress.
func noise(n int) string {
	var b strings.Builder
	for x := uint64(88172645463325252); b.Len() < n; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteByte(byte(x%94) + 33)
	}
	return b.String()
}
