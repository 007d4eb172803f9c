package testkit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gitEpoch is the time of a repository's first commit; each commit is a minute
// after the one before. The same commits have the same hashes in every run.
var gitEpoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// Repo is a Git work tree with its repository. Its methods fail the test on
// errors; they are for one goroutine.
type Repo struct {
	// Dir is the work tree, and a URL that git can clone.
	Dir string

	tb      testing.TB
	commits int
}

// GitRepo makes an empty repository on branch main in a temporary directory.
func GitRepo(tb testing.TB) *Repo {
	tb.Helper()
	r := &Repo{Dir: tb.TempDir(), tb: tb}
	r.Git("init", "--quiet", "--initial-branch=main")
	return r
}

// GitClone clones a repository, which may be a URL, into a temporary directory.
func GitClone(tb testing.TB, url string) *Repo {
	tb.Helper()
	r := &Repo{Dir: tb.TempDir(), tb: tb}
	r.Git("clone", "--quiet", url, ".")
	return r
}

// Write writes a file, and its directories, into the work tree.
func (r *Repo) Write(path, content string) {
	r.tb.Helper()
	file := filepath.Join(r.Dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.tb.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		r.tb.Fatal(err)
	}
}

// Remove removes files or directories from the work tree.
func (r *Repo) Remove(paths ...string) {
	r.tb.Helper()
	for _, path := range paths {
		if err := os.RemoveAll(filepath.Join(r.Dir, filepath.FromSlash(path))); err != nil {
			r.tb.Fatal(err)
		}
	}
}

// Commit writes the files, if any, commits all that differs in the work tree,
// also nothing, and returns the commit's hash.
func (r *Repo) Commit(message string, files map[string]string) string {
	r.tb.Helper()
	for path, content := range files {
		r.Write(path, content)
	}
	r.Git("add", "--all")
	r.Git("commit", "--quiet", "--allow-empty", "--message", message)
	r.commits++
	return r.Head()
}

// Head returns the hash of the commit that is checked out.
func (r *Repo) Head() string {
	r.tb.Helper()
	return r.Git("rev-parse", "HEAD")
}

// Git runs git in the work tree and returns what it printed, without the last
// newline.
func (r *Repo) Git(args ...string) string {
	r.tb.Helper()
	out, err := r.TryGit(args...)
	if err != nil {
		r.tb.Fatal(err)
	}
	return out
}

// TryGit is Git for commands that may fail; the error holds what git said.
func (r *Repo) TryGit(args ...string) (string, error) {
	cmd := exec.CommandContext(r.tb.Context(), "git", args...)
	cmd.Dir = r.Dir
	cmd.Env = append(os.Environ(), r.env()...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// env keeps the machine's and the user's settings out and fixes who commits
// when.
func (r *Repo) env() []string {
	date := gitEpoch.Add(time.Duration(r.commits) * time.Minute).Format(time.RFC3339)
	return []string{
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Ada Author", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_AUTHOR_DATE=" + date,
		"GIT_COMMITTER_NAME=Carl Committer", "GIT_COMMITTER_EMAIL=carl@example.com", "GIT_COMMITTER_DATE=" + date,
		"LC_ALL=C",
	}
}
