package git

import (
	"slices"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestNames(t *testing.T) {
	s, err := Open(t.TempDir(), Options{HomeRepository: core.Name{Namespace: "default", Name: "demo"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetBases("http://127.0.0.1:9410/git", "https://git.example.com/git")
	other := "http://127.0.0.1:9410/git/other"
	for url, want := range map[string]string{
		"http://127.0.0.1:9410/git/other.git":         other,
		"https://GIT.example.com:443/git/other":       other,
		"http://me@127.0.0.1:9410/git/%6fther.git":    other,
		"http://127.0.0.1:9410/git/default/other.git": other,
		"http://127.0.0.1:9410/git/other.git.git":     other,
		"/git/other.git":                         other,
		"http://127.0.0.1:9410/git/":             "http://127.0.0.1:9410/git/demo",
		"http://127.0.0.1:9410/git/team-a/x.git": "https://git.example.com/git/team-a/x",
		"https://u:p@GitHub.com/Org/Repo.git":    "https://github.com/org/repo",
		"git@github.com:org/repo.git":            "ssh://github.com/org/repo",
		"ssh://git@github.com/org/repo":          "git@github.com:org/repo",
		"oci://u@ghcr.io/org/chart":              "oci://ghcr.io/org/chart",
		"https://charts.example.com/stable?x=y":  "https://charts.example.com/stable",
	} {
		if names := s.Names(url); !slices.Contains(names, want) {
			t.Errorf("%s has the names %q, and not %s", url, names, want)
		}
	}
	for _, url := range []string{
		"http://127.0.0.1:9410/git/team-a/../other.git", "http://127.0.0.1:9410/git/team-a/%2e%2e/other.git",
		"http://127.0.0.1:9410/git//other.git", "http://127.0.0.1:9410/git/./other.git",
		"https://github.com/org/../x", "git@github.com:org/../x", "oci://ghcr.io/org/../x", "x", "",
	} {
		if names := s.Names(url); len(names) > 0 {
			t.Errorf("%s has the names %q", url, names)
		}
	}
}
