package git

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// mirroredPrefixes are the references that a mirror has of its remote.
// Others, such as refs/pull/1/head, come when they are asked for, and stay.
var mirroredPrefixes = []string{"refs/heads/", "refs/tags/"}

// extra is what a fetch must name to find ref, beyond branches and tags: a
// reference or a whole commit; empty for nothing.
func (r Ref) extra() string {
	switch {
	case wholeHash.MatchString(r.Commit):
		return strings.ToLower(r.Commit)
	case r.Commit != "":
	case validRefName(r.Name):
		return r.Name
	case r.Name != "" || r.SemVer != "" || r.Tag != "" || r.Branch != "":
	case wholeHash.MatchString(r.Revision):
		return strings.ToLower(r.Revision)
	case validRefName(r.Revision):
		return r.Revision
	}
	return ""
}

// remoteRefs is what a remote advertises.
type remoteRefs struct {
	refs map[string]string
	// head is the branch that its HEAD names.
	head string
}

// maxMirrorRefs bounds the references of a mirror.
const maxMirrorRefs = 100_000

// fetchNow brings the mirror at dir up to date: the references are listed
// first, so that a poll without news is one cheap request, and so that nothing
// is made on disk for what does not exist.
func (s *Store) fetchNow(ctx context.Context, u remote, auth Auth, dir, print, extra string) ([]core.RefUpdate, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.FetchTime)
	defer cancel()
	env, done, err := auth.environment(u, filepath.Join(s.dir, "tmp"))
	if err != nil {
		return nil, err
	}
	defer done()
	theirs, err := s.listRemote(ctx, u, env)
	if err != nil {
		err = diagnose(ctx, u, auth, err)
		if r, merr := s.mirror(dir); merr == nil && errors.As(err, new(*AuthError)) {
			if gerr := r.mirror.grant(print, false); gerr != nil {
				return nil, errors.Join(err, gerr)
			}
		}
		return nil, err
	}
	r, err := s.makeMirror(u, dir)
	if err != nil {
		return nil, fmt.Errorf("opening the mirror of %s: %w", u, err)
	}
	ours, err := r.refs.list("refs/")
	if err != nil {
		return nil, err
	}
	specs := refspecs(ours, theirs, extra)
	if specs != nil {
		if err := s.runFetch(ctx, r, u, auth, env, specs); err != nil {
			return nil, err
		}
	}
	if wholeHash.MatchString(extra) {
		if err := s.fetchCommit(ctx, r, u, auth, env, extra); err != nil {
			return nil, err
		}
	}
	if head, err := r.refs.head(); err == nil && theirs.head != "" && head != theirs.head {
		if err := r.refs.setHead(theirs.head); err != nil {
			return nil, err
		}
	}
	if err := r.mirror.grant(print, true); err != nil {
		return nil, err
	}
	if specs == nil {
		return nil, nil
	}
	updates, err := r.changedSince(ours)
	s.outbox.wake(r)
	return updates, err
}

// listRemote asks a remote for its references.
func (s *Store) listRemote(ctx context.Context, u remote, env []string) (remoteRefs, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := s.git.run(ctx, filepath.Join(s.dir, "home"), nil, env, "ls-remote", "--quiet", "--symref", "--", u.forGit())
	if err != nil {
		return remoteRefs{}, err
	}
	theirs := remoteRefs{refs: map[string]string{}}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		left, name, _ := strings.Cut(lines.Text(), "\t")
		if target, ok := strings.CutPrefix(left, "ref: "); ok {
			if name == "HEAD" && validRefName(target) {
				theirs.head = target
			}
			continue
		}
		if hexHash.MatchString(left) && validRefName(name) { // not HEAD, not "refs/tags/v1^{}"
			theirs.refs[name] = left
		}
	}
	if n := len(theirs.refs); n > maxMirrorRefs {
		return remoteRefs{}, &core.TooLargeError{What: "repository " + u.String(), Size: int64(n), Limit: maxMirrorRefs, Unit: "references"}
	}
	return theirs, nil
}

// refspecs says what to fetch, nil for nothing new.
func refspecs(ours map[string]string, theirs remoteRefs, extra string) []string {
	var specs []string
	for _, prefix := range mirroredPrefixes {
		if !sameBelow(prefix, ours, theirs.refs) {
			specs = append(specs, "+"+prefix+"*:"+prefix+"*")
		}
	}
	others := []string{}
	for name := range ours {
		if !mirrored(name) && !strings.HasPrefix(name, ownRefs) && name != extra {
			others = append(others, name)
		}
	}
	if validRefName(extra) && !mirrored(extra) {
		others = append(others, extra)
	}
	slices.Sort(others)
	for _, name := range others {
		if hash := theirs.refs[name]; hash != "" && hash != ours[name] {
			specs = append(specs, "+"+name+":"+name)
		}
	}
	return specs
}

func mirrored(name string) bool {
	return slices.ContainsFunc(mirroredPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

func sameBelow(prefix string, a, b map[string]string) bool {
	count := 0
	for name, hash := range a {
		if strings.HasPrefix(name, prefix) {
			if b[name] != hash {
				return false
			}
			count++
		}
	}
	for name := range b {
		if strings.HasPrefix(name, prefix) {
			count--
		}
	}
	return count == 0
}

// runFetch lets git fetch, within the limits on time and size.
func (s *Store) runFetch(ctx context.Context, r *repository, u remote, auth Auth, env, specs []string) error {
	lock, err := r.writing(ctx)
	if err != nil {
		return err
	}
	defer lock.release()
	var size atomic.Int64
	room, crowded := s.mirrorRoom(r.dir)
	if n, err := r.objectsSize(); err != nil || n > room {
		return cmp.Or(err, s.mirrorTooLarge(u, n, room, crowded))
	}
	sized, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchSize(sized, cancel, r, room, &size)
	}()
	args := append([]string{"fetch", "--quiet", "--prune", "--force", "--no-tags", "--atomic", "--no-write-fetch-head",
		"--no-auto-maintenance", "--no-recurse-submodules", "--", u.forGit()}, specs...)
	_, err = s.git.run(sized, r.dir, nil, env, args...)
	cancel()
	<-watched
	s.setSize(r.dir, size.Load())
	if err != nil {
		r.leftBehind() // half of a pack, where it was ended or the disk is full
	}
	switch {
	case err == nil:
		return nil
	case size.Load() > room:
		return s.mirrorTooLarge(u, size.Load(), room, crowded)
	}
	return diagnose(ctx, u, auth, err)
}

func (r *repository) objectsSize() (int64, error) { return diskSize(filepath.Join(r.dir, "objects")) }

// fetchCommit gets a commit that no mirrored reference leads to, and keeps it.
// One that the remote does not give is a *RevisionError.
func (s *Store) fetchCommit(ctx context.Context, r *repository, u remote, auth Auth, env []string, hash string) error {
	if _, err := s.objects.read(ctx, r, hash, maxCommitBytes); !errors.Is(err, errNoObject) {
		return err
	}
	err := s.runFetch(ctx, r, u, auth, env, []string{"+" + hash + ":" + ownRefs + "keep/" + hash})
	var unreachable *UnreachableError
	if errors.As(err, &unreachable) && ctx.Err() == nil {
		// It has just listed its references, so it is this that it refuses.
		return &RevisionError{Repository: u.String(), Revision: hash}
	}
	return err
}

// watchSize stops a fetch whose repository grows beyond its room. It looks once
// more when ctx has ended, so that size is that of the end.
func watchSize(ctx context.Context, stop context.CancelFunc, r *repository, room int64, size *atomic.Int64) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		ended := ctx.Err() != nil
		if n, err := r.objectsSize(); err == nil {
			size.Store(n)
			if n > room {
				stop()
				return
			}
		}
		if ended {
			return
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// changedSince returns the updates that led from the given references to
// those of now, delivered or not.
func (r *repository) changedSince(before map[string]string) ([]core.RefUpdate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := r.refs.list("refs/")
	if err != nil {
		return nil, err
	}
	events, err := r.scan(nil)
	if err != nil {
		return nil, err
	}
	var updates []core.RefUpdate
	seen := map[string]bool{}
	for _, e := range events {
		if before[e.Ref] != now[e.Ref] {
			updates = append(updates, e.RefUpdate)
			seen[e.Ref] = true
		}
	}
	for name, hash := range now {
		if hash != before[name] && !seen[name] && !strings.HasPrefix(name, ownRefs) {
			// Run was faster: the cursor stands behind this line of the log.
			at := r.cursor.ref(name)
			l := reflogLine{Old: before[name], New: hash, When: time.Now().UTC().Truncate(time.Second)}
			updates = append(updates, r.event(name, l, at, at.Sum).RefUpdate)
		}
	}
	return updates, nil
}
