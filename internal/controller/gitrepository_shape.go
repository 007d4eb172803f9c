package controller

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/fairway-cd/fairway/internal/core"
)

// shape is what a GitRepository makes of a revision before anybody reads it:
// who has signed it is checked, and its tree is cut and added to.
type shape struct {
	// id is the same for shapes that make the same of a revision.
	id string
	// verifies says that only signed revisions pass.
	verifies bool
	make     func(context.Context, core.Snapshot) (core.Snapshot, error)
}

// of applies the shape; the zero value leaves everything as it is.
func (s shape) of(ctx context.Context, snap core.Snapshot) (core.Snapshot, error) {
	if s.make == nil {
		return snap, nil
	}
	return s.make(ctx, snap)
}

// shape reads the spec's verify, sparseCheckout, include and ignore, in the
// order in which Flux has them. Errors: *SpecError, *includeError, and of the
// API server.
func (g *gitRepositoryRun) shape(ctx context.Context) (shape, error) {
	refused := &SpecError{}
	verify, err := g.verifier(ctx, refused)
	if err != nil {
		return shape{}, err
	}
	var steps []func(core.Tree) (core.Tree, error)
	dirs := g.sparseDirectories(refused)
	if len(dirs) > 0 {
		steps = append(steps, func(t core.Tree) (core.Tree, error) { return &sparseTree{t, dirs}, nil })
	}
	included, err := g.included(refused)
	if err != nil {
		return shape{}, err
	}
	id := []any{dirs, ptr.Deref(g.spec.Ignore, "")}
	for _, in := range included {
		id = append(id, in.artifact.id(), in.from, in.to)
		steps = append(steps, func(t core.Tree) (core.Tree, error) { return include(t, in.artifact.snapshot.Tree, in.from, in.to) })
	}
	if patterns := g.spec.Ignore; patterns != nil {
		steps = append(steps, func(t core.Tree) (core.Tree, error) { return ignoring(t, *patterns) })
	}
	if err := refused.orNil(); err != nil {
		return shape{}, err
	}
	return shape{id: digest(id), verifies: g.spec.Verification != nil, make: func(ctx context.Context, snap core.Snapshot) (core.Snapshot, error) {
		if err := verify(ctx, snap); err != nil {
			return core.Snapshot{}, err
		}
		if err := hasDirectories(ctx, snap.Tree, dirs); err != nil {
			return core.Snapshot{}, err
		}
		for _, step := range steps {
			if snap.Tree, err = step(snap.Tree); err != nil {
				return core.Snapshot{}, err
			}
		}
		return snap, nil
	}}, nil
}

// cleanDir is a path of a spec below the root: Flux takes "./a", "/a" and "a"
// for the same.
func cleanDir(dir string) (string, bool) {
	clean := path.Clean("./" + strings.TrimPrefix(dir, "/"))
	return clean, fs.ValidPath(clean)
}

func (g *gitRepositoryRun) sparseDirectories(refused *SpecError) []string {
	var dirs []string
	for i, dir := range g.spec.SparseCheckout {
		clean, ok := cleanDir(dir)
		if !ok {
			refused.add(indexed("spec.sparseCheckout", i), "%q leaves the repository", dir)
		}
		if clean != "." {
			dirs = append(dirs, clean)
			continue
		}
		return nil // all of it
	}
	return dirs
}

// hasDirectories is an error where the repository has not what is to be left
// of it.
func hasDirectories(ctx context.Context, t core.Tree, dirs []string) error {
	for _, dir := range dirs {
		e, err := t.Entry(ctx, dir)
		if err != nil {
			return fmt.Errorf("spec.sparseCheckout: %w", err)
		}
		if !e.Mode.IsDir() {
			return fmt.Errorf("spec.sparseCheckout: %s is no directory", dir)
		}
	}
	return nil
}

// includedRepository is one of spec.include.
type includedRepository struct {
	artifact artifact
	from, to string
}

// included are the repositories of spec.include, which has to be ready. Their
// changes wake this one.
func (g *gitRepositoryRun) included(refused *SpecError) ([]includedRepository, error) {
	var list []includedRepository
	var deps []string
	for i, in := range g.spec.Include {
		at := indexed("spec.include", i)
		from, ok := cleanDir(in.GetFromPath())
		if !ok {
			refused.add(at+".fromPath", "%q leaves the repository", in.FromPath)
		}
		to, ok := cleanDir(in.GetToPath())
		if !ok || to == "." {
			refused.add(at+".toPath", "%q is no directory below the root", in.ToPath)
		}
		deps = append(deps, sourceDep(g.includedKey(in)))
		list = append(list, includedRepository{from: from, to: to})
	}
	g.repos.includes.set(g.key, deps...)
	for i, in := range g.spec.Include {
		a, ok := g.repos.artifact(g.includedKey(in))
		if !ok {
			return nil, &includeError{in.GitRepositoryRef.Name, fmt.Errorf("it has no artifact")}
		}
		list[i].artifact = a
	}
	return list, nil
}

func (g *gitRepositoryRun) includedKey(in sourcev1.GitRepositoryInclude) types.NamespacedName {
	return types.NamespacedName{Namespace: g.key.Namespace, Name: in.GitRepositoryRef.Name}
}

// includeError says that a repository cannot be included.
type includeError struct {
	name string
	err  error
}

func (e *includeError) Error() string {
	return fmt.Sprintf("include GitRepository '%s': %v", e.name, e.err)
}

func (e *includeError) Unwrap() error { return e.err }
