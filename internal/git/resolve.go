package git

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// Location is where a URL leads: to an embedded repository, or, with the URL
// that is left after the mirror rules, elsewhere.
type Location struct {
	Repository core.Name
	// URL has no credentials; it is empty for an embedded repository.
	URL string
}

// Embedded says whether the repository is kept here.
func (l Location) Embedded() bool { return l.URL == "" }

func (l Location) String() string {
	if l.Embedded() {
		return l.Repository.String()
	}
	return l.URL
}

// Locate applies the mirror rules to a repository's URL, and knows the URLs of
// this server. Whether one may read what it names is not asked. Errors:
// *InvalidURLError, *core.InvalidNameError.
func (s *Store) Locate(url string) (Location, error) {
	l, _, err := s.locate(url)
	return l, err
}

// locate returns the remote as well, with the credentials in it; it is zero
// for embedded repositories.
func (s *Store) locate(url string) (Location, remote, error) {
	if to, ok := s.rules.Rewrite(url); ok {
		if !isURL(to) {
			return s.locateName(to)
		}
		url = to
	}
	if path, ok := strings.CutPrefix(url, mountPath); ok {
		return s.locateName(path)
	}
	u, err := parseRemote(url)
	if err != nil {
		return Location{}, remote{}, err
	}
	for _, base := range *s.bases.Load() {
		if rest, ok := strings.CutPrefix(u.key(), base); ok && (rest == "" || rest[0] == '/') {
			return s.locateName(rest)
		}
	}
	return Location{URL: u.String()}, u, nil
}

func (s *Store) locateName(path string) (Location, remote, error) {
	name, err := s.parseName(path)
	return Location{Repository: name}, remote{}, err
}

// parseName reads the part of a path that names a repository: "NAME.git",
// "/NAMESPACE/NAME", or nothing for the home repository.
func (s *Store) parseName(path string) (core.Name, error) {
	path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	if path == "" && s.options.HomeRepository != (core.Name{}) {
		return s.options.HomeRepository, nil
	}
	name, err := core.ParseName(path)
	if err == nil {
		err = checkName(name)
	}
	return name, err
}

// Resolve finds a revision of the repository that url names, and returns it
// with its tree. A mirror that was never fetched is, with auth; otherwise what
// is known of it answers, unless auth is new or the revision is unknown. Call
// Fetch for news.
//
// Errors: *InvalidURLError, *core.InvalidNameError, *NotFoundError,
// *RevisionError, *AuthError, *UnreachableError, *core.TooLargeError.
func (s *Store) Resolve(ctx context.Context, url string, ref Ref, auth Auth) (core.Snapshot, error) {
	location, u, err := s.locate(url)
	if err != nil {
		return core.Snapshot{}, err
	}
	if location.Embedded() {
		r, err := s.embedded(location.Repository)
		if err != nil {
			return core.Snapshot{}, err
		}
		return s.snapshot(ctx, r, ref)
	}
	return s.resolveMirror(ctx, u, ref, auth)
}

func (s *Store) snapshot(ctx context.Context, r *repository, ref Ref) (core.Snapshot, error) {
	name, spec, err := r.find(ref)
	if err != nil {
		return core.Snapshot{}, err
	}
	obj, err := s.objects.read(ctx, r, spec+"^{commit}", maxCommitBytes)
	switch {
	case errors.Is(err, errNoObject):
		return core.Snapshot{}, &RevisionError{Repository: r.String(), Revision: ref.String()}
	case errors.Is(err, errAmbiguous):
		return core.Snapshot{}, &RevisionError{Repository: r.String(), Revision: ref.String(), Reason: err.Error()}
	case err != nil:
		return core.Snapshot{}, fmt.Errorf("reading commit %s of repository %s: %w", spec, r, err)
	}
	c, err := parseCommit(obj.data)
	if err != nil {
		return core.Snapshot{}, fmt.Errorf("reading commit %s of repository %s: %w", obj.hash, r, err)
	}
	return core.Snapshot{
		Revision: core.Revision{Ref: name, Commit: obj.hash},
		Tree:     &tree{store: s, repo: r, root: c.tree},
		Message:  c.message,
		Author:   c.author,
		Signed:   func(ctx context.Context) (commit, tag []byte, err error) { return s.signed(ctx, r, spec, obj.hash) },
	}, nil
}

// signed reads the commit again, and the tag where spec is one.
func (s *Store) signed(ctx context.Context, r *repository, spec, hash string) (commit, tag []byte, err error) {
	obj, err := s.objects.read(ctx, r, hash, maxCommitBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("reading commit %s of repository %s: %w", hash, r, hideMissing(err))
	}
	if spec == hash {
		return obj.data, nil, nil
	}
	named, err := s.objects.read(ctx, r, spec, maxCommitBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("reading tag %s of repository %s: %w", spec, r, hideMissing(err))
	}
	if named.kind == "tag" {
		tag = named.data
	}
	return obj.data, tag, nil
}

// find returns the full name of the reference that ref means, empty for a
// commit, and the hash, perhaps shortened, of what is there.
func (r *repository) find(ref Ref) (name, spec string, err error) {
	unknown := &RevisionError{Repository: r.String(), Revision: ref.String()}
	switch {
	case ref.Commit != "":
		if !shortHash.MatchString(ref.Commit) {
			unknown.Reason = "not a commit"
			return "", "", unknown
		}
		if ref.Branch != "" {
			name = "refs/heads/" + ref.Branch
		}
		return name, strings.ToLower(ref.Commit), nil
	case ref.Name != "":
		return r.findRef(unknown, ref.Name)
	case ref.SemVer != "":
		tag, err := r.highestTag(ref.SemVer)
		if err != nil {
			return "", "", err
		}
		if tag == "" {
			return "", "", withReason(unknown, "no tag satisfies the constraint")
		}
		return r.findRef(unknown, "refs/tags/"+tag)
	case ref.Tag != "":
		return r.findRef(unknown, "refs/tags/"+ref.Tag)
	case ref.Branch != "":
		return r.findRef(unknown, "refs/heads/"+ref.Branch)
	}
	return r.findRevision(unknown, ref.Revision)
}

// findRevision reads Argo CD's targetRevision (reposerver's LsRemote).
func (r *repository) findRevision(unknown *RevisionError, s string) (name, spec string, err error) {
	if s == "" || s == "HEAD" {
		return r.findRef(unknown, "HEAD")
	}
	if wholeHash.MatchString(s) {
		return "", strings.ToLower(s), nil
	}
	if isConstraint(s) {
		tag, err := r.highestTag(s)
		if err != nil {
			return "", "", err
		}
		if tag != "" {
			return r.findRef(unknown, "refs/tags/"+tag)
		}
	}
	for _, name := range []string{s, "refs/heads/" + s, "refs/tags/" + s} {
		if !validRefName(name) {
			continue
		}
		hash, err := r.refs.lookup(name)
		if err != nil || hash != "" {
			return name, hash, err
		}
	}
	if shortHash.MatchString(s) {
		return "", strings.ToLower(s), nil
	}
	return "", "", unknown
}

func (r *repository) findRef(unknown *RevisionError, name string) (string, string, error) {
	if name == "HEAD" {
		head, err := r.refs.head()
		if err != nil {
			return "", "", err
		}
		name = head
		unknown = withReason(unknown, "the repository is empty")
	}
	if !validRefName(name) {
		return "", "", unknown
	}
	hash, err := r.refs.lookup(name)
	if err != nil {
		return "", "", err
	}
	if hash == "" {
		return "", "", unknown
	}
	return name, hash, nil
}

func withReason(e *RevisionError, reason string) *RevisionError {
	c := *e
	c.Reason = reason
	return &c
}

func (r *repository) highestTag(constraint string) (string, error) {
	refs, err := r.refs.list("refs/tags/")
	if err != nil {
		return "", err
	}
	tags := make([]string, 0, len(refs))
	for name := range refs {
		tags = append(tags, strings.TrimPrefix(name, "refs/tags/"))
	}
	tag, err := highest(constraint, tags)
	if err != nil {
		return "", &RevisionError{Repository: r.String(), Revision: constraint, Reason: err.Error()}
	}
	return tag, nil
}

// commit is what we want to know of a commit object.
type commit struct{ tree, author, message string }

// maxCommitBytes bounds a commit object.
const maxCommitBytes = 1 << 20

// parseCommit reads a commit object: header lines, an empty line, the message.
func parseCommit(data []byte) (commit, error) {
	header, message, _ := strings.Cut(string(data), "\n\n")
	c := commit{message: message}
	for line := range strings.SplitSeq(header, "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch {
		case key == "tree" && c.tree == "":
			c.tree = value
		case key == "author" && c.author == "":
			if i := strings.LastIndexByte(value, '>'); i >= 0 {
				c.author = value[:i+1]
			}
		}
	}
	if !hexHash.MatchString(c.tree) {
		return commit{}, &HostileError{What: "a commit without a tree"}
	}
	return c, nil
}
