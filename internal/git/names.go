package git

import (
	"net/url"
	"path"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// Names are the URLs that all stand for the repository which raw names, so
// that a rule about one of them holds for whoever writes another: in lower
// case, without credentials, default port and ".git". What is no URL of a Git
// repository, as that of a Helm repository or of an OCI artifact, has one.
// None is for what cannot be read, or has "." or ".." in its path.
func (s *Store) Names(raw string) []string {
	var names []string
	if l, _, err := s.locate(raw); err == nil && l.Embedded() {
		names = s.embeddedNames(l.Repository)
	}
	if u, err := parseRemote(raw); err == nil {
		return append(names, u.names()...)
	}
	u, err := url.Parse(strings.TrimSpace(raw))
	if err != nil || u.Scheme == "" || u.Host == "" || !isClean(u.Path) {
		return names
	}
	u.User = nil
	return append(names, plainName(u.Scheme+"://"+u.Host+"/"+strings.Trim(u.Path, "/")))
}

// embeddedNames are those of a repository that is kept here: at each address
// of ours, and without one.
func (s *Store) embeddedNames(name core.Name) []string {
	paths := []string{"/" + name.String()}
	if short := name.Short(); short != name.String() {
		paths = append(paths, "/"+short)
	}
	if name == s.options.HomeRepository {
		paths = append(paths, "")
	}
	var names []string
	for _, p := range paths {
		names = append(names, plainName(strings.TrimSuffix(mountPath, "/")+p))
		for _, base := range *s.bases.Load() {
			names = append(names, plainName("http://"+base+p), plainName("https://"+base+p))
		}
	}
	return names
}

// names are those of a repository elsewhere. That of ssh has several forms.
func (r remote) names() []string {
	names := []string{plainName(r.scheme + "://" + r.host + "/" + r.path)}
	if r.scheme == "ssh" && r.user != "" {
		names = append(names, plainName("ssh://"+r.user+"@"+r.host+"/"+r.path), plainName(r.user+"@"+r.host+":"+r.path))
	}
	return names
}

func plainName(url string) string {
	return strings.TrimSuffix(strings.ToLower(url), ".git")
}

// isClean says that a path has no part that stands for another path.
func isClean(p string) bool {
	p = strings.Trim(p, "/")
	return p == "" || path.Clean(p) == p && p != "." && p != ".." && !strings.HasPrefix(p, "../")
}
