package backup

import (
	"bytes"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/fairway-cd/fairway/internal/core"
)

func newBytes(b []byte) io.Reader { return bytes.NewReader(b) }

// Kind is what a member is.
type Kind int

// The kinds of members.
const (
	Objects    Kind = iota + 1 // the cluster's objects, one a line
	Secrets                    // the same of Secrets, encrypted
	GitFile                    // a file of the Git directory, Name.Name
	Repository                 // a git.Copy in JSON, of Name
	Bundle                     // the objects of the Repository before it
	Blob                       // content of images, Digest
	Image                      // a registry.Copy in JSON, of Name
)

// Member is what a member's name says. Nothing of it is a path.
type Member struct {
	Kind   Kind
	Name   core.Name
	Digest digest.Digest
	Size   int64
}

// RepositoryMember is the name of a repository's member, BundleMember that of
// its objects.
func RepositoryMember(n core.Name) string { return prefixRepositories + n.String() + suffixRepository }

// BundleMember is beside RepositoryMember.
func BundleMember(n core.Name) string { return prefixRepositories + n.String() + suffixBundle }

// BlobMember is the name of content's member.
func BlobMember(d digest.Digest) string { return prefixBlobs + d.Encoded() }

// ImageMember is the name of a repository of images' member.
func ImageMember(n core.Name) string { return prefixImages + n.String() + ".json" }

// GitFileMember is the name of a file of the Git directory.
func GitFileMember(name string) string { return prefixGit + name }

const (
	mib = 1 << 20
	gib = 1 << 30
)

// limit bounds a member by its kind, whatever the disk holds: what is read
// into memory, and what no instance has.
func (k Kind) limit() int64 {
	switch k {
	case Objects, Secrets:
		return 1 * gib
	case Repository, Image:
		return 256 * mib
	case GitFile:
		return 16 * mib
	default:
		return 1024 * gib
	}
}

// parseMember reads a name that an archive has.
func parseMember(name string) (Member, bool) {
	switch name {
	case MemberObjects:
		return Member{Kind: Objects}, true
	case MemberSecrets:
		return Member{Kind: Secrets}, true
	}
	if rest, ok := strings.CutPrefix(name, prefixRepositories); ok {
		if rest, ok := strings.CutSuffix(rest, suffixRepository); ok {
			return named(Repository, rest)
		}
		if rest, ok := strings.CutSuffix(rest, suffixBundle); ok {
			return named(Bundle, rest)
		}
		return Member{}, false
	}
	if rest, ok := strings.CutPrefix(name, prefixImages); ok {
		rest, ok := strings.CutSuffix(rest, ".json")
		if !ok {
			return Member{}, false
		}
		return named(Image, rest)
	}
	if rest, ok := strings.CutPrefix(name, prefixBlobs); ok {
		d := digest.NewDigestFromEncoded(digest.SHA256, rest)
		return Member{Kind: Blob, Digest: d}, d.Validate() == nil
	}
	rest, ok := strings.CutPrefix(name, prefixGit)
	return Member{Kind: GitFile, Name: core.Name{Name: rest}}, ok && rest != "" && !strings.Contains(rest, "/")
}

// named takes a name only in the form in which it is written.
func named(k Kind, s string) (Member, bool) {
	n, err := core.ParseName(s)
	return Member{Kind: k, Name: n}, err == nil && n.String() == s
}

// String is the member's name.
func (m Member) String() string {
	switch m.Kind {
	case Objects:
		return MemberObjects
	case Secrets:
		return MemberSecrets
	case GitFile:
		return GitFileMember(m.Name.Name)
	case Repository:
		return RepositoryMember(m.Name)
	case Bundle:
		return BundleMember(m.Name)
	case Blob:
		return BlobMember(m.Digest)
	case Image:
		return ImageMember(m.Name)
	}
	return "nothing"
}
