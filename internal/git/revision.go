package git

import (
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Ref says which revision of a repository is wanted. The first field that is
// set decides, in Flux's order: Commit, Name, SemVer, Tag, Branch. Revision is
// Argo CD's targetRevision, which may be any of these. Nothing set is HEAD.
type Ref struct {
	// Commit is a commit, whole or its first seven characters or more. Branch
	// may stand beside it and is then what the revision is called.
	Commit string
	// Name is a reference's full name, such as refs/pull/1/head.
	Name string
	// SemVer is a constraint; the highest tag that satisfies it is meant.
	SemVer string
	Tag    string
	Branch string
	// Revision is read in Argo CD's order: HEAD, a whole commit, a constraint
	// that some tag satisfies, a reference, a shortened commit.
	Revision string
}

// String is the field that decides, for people.
func (r Ref) String() string {
	for _, s := range []string{r.Commit, r.Name, r.SemVer, r.Tag, r.Branch, r.Revision} {
		if s != "" {
			return s
		}
	}
	return "HEAD"
}

var (
	wholeHash = regexp.MustCompile(`^([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$`)
	shortHash = regexp.MustCompile(`^[0-9a-fA-F]{7,64}$`)
)

// maxRevision bounds what may be asked for.
const maxRevision = maxRefName

// isConstraint holds for version constraints that are not plain versions: of
// those, a tag's own name is meant. So does Argo CD (util/versions).
func isConstraint(s string) bool {
	if len(s) > maxRevision {
		return false
	}
	if _, err := semver.StrictNewVersion(strings.TrimPrefix(s, "v")); err == nil {
		return false
	}
	_, err := semver.NewConstraint(s)
	return err == nil
}

// highest returns the highest version among tags that satisfies a constraint,
// or "".
func highest(constraint string, tags []string) (string, error) {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return "", err
	}
	slices.Sort(tags)
	var best *semver.Version
	name := ""
	for _, tag := range tags {
		v, err := semver.NewVersion(tag)
		if err == nil && c.Check(v) && (best == nil || !v.LessThan(best)) {
			best, name = v, tag
		}
	}
	return name, nil
}
