package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
)

// walk lists what is in a tree: "PATH MODE HASH" of all but directories.
func walk(ctx context.Context, tree core.Tree, dir string) ([]string, error) {
	entries, err := tree.List(ctx, dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		at := path.Join(dir, e.Name)
		seen, err := tree.Entry(ctx, at)
		if err != nil || seen.Mode != e.Mode || seen.Hash != e.Hash {
			return nil, fmt.Errorf("%s is listed as %+v and found as %+v: %w", at, e, seen, err)
		}
		if !e.Mode.IsDir() {
			out = append(out, fmt.Sprintf("%s %s %s", at, e.Mode, e.Hash))
			continue
		}
		below, err := walk(ctx, tree, at)
		if err != nil {
			return nil, err
		}
		if len(below) == 0 {
			return nil, fmt.Errorf("%s is an empty directory", at)
		}
		out = append(out, below...)
	}
	return out, nil
}

// paths is a pool in which names are files and directories in turn.
var paths = []string{"a", "a/b", "a/b/c", "a/d", "b/c/d", "b/c", "b", "e/f", "e/g/h", "i"}

// randomFiles are some of the paths that can be in one tree.
func randomFiles(r *rand.Rand) map[string]string {
	files := map[string]string{}
	for _, i := range r.Perm(len(paths))[:1+r.IntN(len(paths))] {
		p := paths[i]
		clash := slices.ContainsFunc(sortedKeys(files), func(other string) bool {
			return strings.HasPrefix(other, p+"/") || strings.HasPrefix(p, other+"/")
		})
		if !clash {
			files[p] = fmt.Sprint(r.IntN(3))
		}
	}
	return files
}

// TestChangedTree: a tree with changes in it reads as the tree of the commit
// that Git makes of the same changes.
func TestChangedTree(t *testing.T) {
	store, err := git.Open(t.TempDir(), git.Options{Logger: slog.New(slog.DiscardHandler), Deliver: func(context.Context, core.RefUpdate) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	name := core.Name{Namespace: "default", Name: "trees"}
	if err := store.Create(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	commits := storeCommits{store}
	commit := func(branch, parent string, changes map[string]git.Change) core.Snapshot {
		t.Helper()
		who := git.Identity{Name: "Ada", Email: "ada@example.com"}
		revision, err := commits.store.Commit(t.Context(), git.CommitRequest{Repository: name, Branch: branch, Expect: parent, Changes: changes, Message: "x", Author: who})
		if err != nil {
			t.Fatal(err)
		}
		snap, err := store.Resolve(t.Context(), "/git/default/trees.git", git.Ref{Commit: revision.Commit}, git.Auth{})
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	tree := func(branch string, files map[string]string) core.Snapshot {
		changes := map[string]git.Change{}
		for p, content := range files {
			changes[p] = git.Change{Content: []byte(content)}
		}
		return commit(branch, "", changes)
	}
	const rounds = 60
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 0))
		was, head := tree(fmt.Sprintf("was-%d", seed), randomFiles(r)), tree(fmt.Sprintf("head-%d", seed), randomFiles(r))
		changes, files := randomChanges(t, r, was.Tree, head.Tree)
		want, err := walk(t.Context(), commit(fmt.Sprintf("head-%d", seed), head.Revision.Commit, files).Tree, ".")
		if err != nil {
			t.Fatal(err)
		}
		got, err := walk(t.Context(), &changedTree{base: head.Tree, changes: changes}, ".")
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("seed %d: %v\ngot  %q\nwant %q\nof %v", seed, err, got, want, files)
		}
	}
}

// randomChanges sets what was has, and removes what head has.
func randomChanges(t *testing.T, r *rand.Rand, was, head core.Tree) (map[string]change, map[string]git.Change) {
	t.Helper()
	changes, files := map[string]change{}, map[string]git.Change{}
	for _, p := range paths {
		want, err := was.Entry(t.Context(), p)
		if err == nil && r.IntN(2) == 0 {
			changes[p] = change{was, want}
			files[p] = git.Change{Mode: want.Mode, Hash: want.Hash}
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if _, err := head.Entry(t.Context(), p); err == nil && r.IntN(2) == 0 {
			changes[p], files[p] = change{}, git.Change{Delete: true}
		}
	}
	return changes, files
}
