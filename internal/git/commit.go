package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// CommitRequest asks for one commit on a branch of an embedded repository.
type CommitRequest struct {
	Repository core.Name
	// Branch is the short name.
	Branch string
	// Expect is the commit at which the branch must stand, and the new one's
	// parent; empty for a branch that must not be there.
	Expect string
	// Changes are by path, from the root of the repository. What does not
	// change anything is allowed.
	Changes map[string]Change
	Message string
	Author  Identity
	// Committer is the author where it is empty.
	Committer Identity
	// Who is the Kubernetes user for whom it is made; whether they may has
	// been asked.
	Who string
}

// Change is what becomes of one path: content that is given, an object that
// the repository has, or nothing.
type Change struct {
	// Mode as in core.TreeEntry: 0644 (also 0), 0755, fs.ModeSymlink, and with
	// a Hash also fs.ModeDir and fs.ModeIrregular (a submodule).
	Mode    fs.FileMode
	Hash    string
	Content []byte
	Delete  bool
}

// Identity is a person in a commit.
type Identity struct{ Name, Email string }

// InvalidChangeError says that a commit cannot be made of a request.
type InvalidChangeError struct{ Path, Reason string }

func (e *InvalidChangeError) Error() string {
	return fmt.Sprintf("cannot commit %q: %s", e.Path, e.Reason)
}

// Commit makes a commit with no work tree and moves the branch to it, all or
// nothing. The update is delivered as that of a push is. Where the changes
// leave the tree as it was there is no commit, and the revision returned is
// the one expected.
//
// Errors: *NotFoundError, *ConflictError (the branch stands elsewhere),
// *InvalidChangeError, *RevisionError (no such commit or branch name),
// *core.TooLargeError.
func (s *Store) Commit(ctx context.Context, req CommitRequest) (core.Revision, error) {
	r, err := s.embedded(req.Repository)
	if err != nil {
		return core.Revision{}, err
	}
	ref := "refs/heads/" + req.Branch
	if !validRefName(ref) {
		return core.Revision{}, &RevisionError{Repository: r.String(), Revision: req.Branch, Reason: "not a branch's name"}
	}
	lock, err := r.writing(ctx)
	if err != nil {
		return core.Revision{}, err
	}
	defer lock.release()
	if err := s.checkCommit(ctx, r, ref, req); err != nil {
		return core.Revision{}, err
	}
	out, err := s.git.run(ctx, r.dir, bytes.NewReader(importStream(req, time.Now())), nil,
		"fast-import", "--quiet", "--done", "--date-format=raw")
	if err != nil {
		r.removeCrashReports()
		return core.Revision{}, fmt.Errorf("writing a commit to repository %s: %w", r, err)
	}
	made := strings.TrimSpace(string(out))
	if !hexHash.MatchString(made) {
		return core.Revision{}, fmt.Errorf("writing a commit to repository %s: git fast-import answered %q", r, oneLine(made))
	}
	if same, err := s.sameTree(ctx, r, made, req.Expect); err != nil || same {
		return core.Revision{Ref: ref, Commit: req.Expect}, err
	}
	if err := s.moveBranch(ctx, r, ref, made, req); err != nil {
		return core.Revision{}, err
	}
	s.outbox.wake(r, ref)
	s.followHead(r, core.RefUpdate{Ref: ref, Old: req.Expect, New: made})
	return core.Revision{Ref: ref, Commit: made}, nil
}

// checkCommit finds what is wrong with a request before git would, in words.
func (s *Store) checkCommit(ctx context.Context, r *repository, ref string, req CommitRequest) error {
	if err := r.conflict(ref, req); err != nil {
		return err
	}
	var size int64
	for path, c := range req.Changes {
		if reason := c.wrong(path); reason != "" {
			return &InvalidChangeError{Path: path, Reason: reason}
		}
		size += int64(len(c.Content))
		if c.Delete || c.Hash == "" || c.Mode&fs.ModeIrregular != 0 {
			continue
		}
		kind, err := s.objects.kind(ctx, r, c.Hash)
		if err != nil && !errors.Is(err, errNoObject) {
			return err
		}
		if want := map[bool]string{true: "tree", false: "blob"}[c.Mode.IsDir()]; kind != want {
			return &InvalidChangeError{Path: path, Reason: fmt.Sprintf("the repository has no %s %s", want, c.Hash)}
		}
	}
	if limit := s.limitsOf(r).PushBytes; size > limit {
		return &core.TooLargeError{What: "the commit", Size: size, Limit: limit}
	}
	return nil
}

// conflict is a *ConflictError where the branch does not stand where it should.
func (r *repository) conflict(ref string, req CommitRequest) error {
	current, err := r.refs.lookup(ref)
	if err == nil && current != req.Expect {
		err = &ConflictError{Repository: req.Repository, Branch: req.Branch, Expect: req.Expect, Current: current}
	}
	return err
}

func (c Change) wrong(path string) string {
	if !fs.ValidPath(path) || path == "." || len(path) > 4096 || strings.ContainsAny(path, "\x00\n") {
		return "not a path in the repository"
	}
	for part := range strings.SplitSeq(path, "/") {
		if !safeEntryName(part) {
			return "not a path in the repository"
		}
	}
	if c.Delete {
		return ""
	}
	if c.Hash != "" && !hexHash.MatchString(c.Hash) {
		return "not the name of an object"
	}
	if c.Hash == "" && (c.Mode.IsDir() || c.Mode&fs.ModeIrregular != 0) {
		return "a directory or submodule needs the name of an object"
	}
	return ""
}

func (c Change) gitMode() string {
	switch {
	case c.Mode.IsDir():
		return "040000"
	case c.Mode&fs.ModeSymlink != 0:
		return "120000"
	case c.Mode&fs.ModeIrregular != 0:
		return "160000"
	case c.Mode&0o100 != 0:
		return "100755"
	}
	return "100644"
}

// scratchRef is what fast-import calls the commit; it deletes it before it
// would write it.
const scratchRef = ownRefs + "commit"

// importStream is the request as git-fast-import(1) reads it. It answers with
// the commit's hash.
func importStream(req CommitRequest, now time.Time) []byte {
	var b bytes.Buffer
	committer := req.Committer
	if committer == (Identity{}) {
		committer = req.Author
	}
	message := strings.TrimRight(req.Message, "\n") + "\n"
	fmt.Fprintf(&b, "commit %s\nmark :1\nauthor %s\ncommitter %s\ndata %d\n%s\n",
		scratchRef, req.Author.line(now), committer.line(now), len(message), message)
	if req.Expect != "" {
		fmt.Fprintf(&b, "from %s\n", req.Expect)
	}
	paths := make([]string, 0, len(req.Changes))
	for path := range req.Changes {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths { // first, so that a file may become a directory
		if req.Changes[path].Delete {
			fmt.Fprintf(&b, "D %s\n", quotePath(path))
		}
	}
	for _, path := range paths {
		switch c := req.Changes[path]; {
		case c.Delete:
		case c.Hash != "":
			fmt.Fprintf(&b, "M %s %s %s\n", c.gitMode(), c.Hash, quotePath(path))
		default:
			fmt.Fprintf(&b, "M %s inline %s\ndata %d\n%s\n", c.gitMode(), quotePath(path), len(c.Content), c.Content)
		}
	}
	fmt.Fprintf(&b, "\nget-mark :1\nreset %s\nfrom %s\n\ndone\n", scratchRef, strings.Repeat("0", 40))
	return b.Bytes()
}

// quotePath quotes as C does, which fast-import reads back.
func quotePath(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`
}

func (i Identity) line(now time.Time) string {
	clean := func(s string) string {
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' || r == '<' || r == '>' || r == 0x7f {
				return -1
			}
			return r
		}, s))
	}
	return fmt.Sprintf("%s <%s> %d +0000", clean(i.Name), clean(i.Email), now.Unix())
}

// sameTree says whether two commits have the same tree.
func (s *Store) sameTree(ctx context.Context, r *repository, a, b string) (bool, error) {
	if b == "" {
		return false, nil
	}
	var trees [2]string
	for i, hash := range []string{a, b} {
		obj, err := s.objects.read(ctx, r, hash, maxCommitBytes)
		if err != nil {
			return false, fmt.Errorf("reading commit %s: %w", hash, err)
		}
		c, err := parseCommit(obj.data)
		if err != nil {
			return false, fmt.Errorf("reading commit %s: %w", hash, err)
		}
		trees[i] = c.tree
	}
	return trees[0] == trees[1], nil
}

// moveBranch moves the branch from where it is expected, or not at all.
func (s *Store) moveBranch(ctx context.Context, r *repository, ref, made string, req CommitRequest) error {
	old := req.Expect
	if old == "" {
		old = strings.Repeat("0", len(made))
	}
	_, err := s.git.run(ctx, r.dir, nil, committerEnv(req.Who), "update-ref", "--create-reflog", "-m", "commit", ref, made, old)
	if err == nil {
		return nil
	}
	if conflict := r.conflict(ref, req); conflict != nil {
		return conflict
	}
	return fmt.Errorf("moving branch %s of repository %s: %w", req.Branch, r, err)
}

// removeCrashReports removes what a failed fast-import leaves.
func (r *repository) removeCrashReports() {
	reports, _ := filepath.Glob(filepath.Join(r.dir, "fast_import_crash_*")) // the pattern is valid
	for _, path := range reports {
		os.Remove(path)
	}
}
