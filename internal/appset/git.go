package appset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/gobwas/glob"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// git has a set for each directory, or for each element of each file.
func (g *generation) git(ctx context.Context, gen *argo.GitGenerator) ([]Params, error) {
	snap, err := g.in.Snapshot(ctx, gen.RepoURL, gen.Revision)
	if err != nil {
		return nil, err
	}
	var out []Params
	if len(gen.Directories) > 0 {
		out, err = g.directories(ctx, snap.Tree, gen)
	} else {
		out, err = g.files(ctx, snap.Tree, gen)
	}
	if err != nil {
		return nil, err
	}
	return g.withValues(ctx, out, gen.Values)
}

// directories are those that match a pattern and no excluding one. A pattern
// is path.Match's, so that it is walked element by element, and only what can
// match is listed.
func (g *generation) directories(ctx context.Context, tree core.Tree, gen *argo.GitGenerator) ([]Params, error) {
	var include [][]string
	var exclude []string
	for _, item := range gen.Directories {
		pattern := strings.Trim(item.Path, "/")
		if _, err := path.Match(pattern, ""); err != nil || len(pattern) > maxPatternSize {
			return nil, &FieldError{"git.directories", fmt.Sprintf("%q is not a pattern", item.Path)}
		}
		if item.Exclude {
			exclude = append(exclude, pattern)
			continue
		}
		include = append(include, strings.Split(pattern, "/"))
	}
	if len(gen.Directories) > maxPatterns {
		return nil, tooMany("patterns", int64(len(gen.Directories)), maxPatterns)
	}
	found := map[string]bool{}
	if err := g.walkDirectories(ctx, tree, ".", include, exclude, found); err != nil {
		return nil, err
	}
	var out []Params
	for _, dir := range sorted(found) {
		out = append(out, g.pathParams(dir, "", gen.PathParamPrefix))
	}
	return out, nil
}

// walkDirectories finds what matches below dir; patterns are what is left of
// them there.
func (g *generation) walkDirectories(ctx context.Context, tree core.Tree, dir string, patterns [][]string, exclude []string, found map[string]bool) error {
	entries, err := g.entriesOf(ctx, tree, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Mode.IsDir() || strings.HasPrefix(e.Name, ".") {
			continue
		}
		child := path.Join(dir, e.Name)
		var deeper [][]string
		for _, p := range patterns {
			if ok, _ := path.Match(p[0], e.Name); !ok {
				continue
			}
			if len(p) > 1 {
				deeper = append(deeper, p[1:])
				continue
			}
			found[child] = !slices.ContainsFunc(exclude, func(pattern string) bool {
				ok, _ := path.Match(pattern, child)
				return ok
			})
		}
		if len(deeper) == 0 {
			continue
		}
		if err := g.walkDirectories(ctx, tree, child, deeper, exclude, found); err != nil {
			return err
		}
	}
	return nil
}

// entriesOf lists a directory and counts what is looked at. One that is not
// there has nothing in it.
func (g *generation) entriesOf(ctx context.Context, tree core.Tree, dir string) ([]core.TreeEntry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := tree.List(ctx, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	if g.entries += len(entries); g.entries > g.limits.Entries {
		return nil, tooMany("files and directories", int64(g.entries), int64(g.limits.Entries))
	}
	return entries, nil
}

// filePattern is a glob whose * crosses slashes, as git's pathspecs and so
// Argo CD's have it, and the directory below which all that matches is.
type filePattern struct {
	match glob.Glob
	dir   string
}

func newFilePattern(pattern string) (filePattern, error) {
	pattern = strings.TrimPrefix(pattern, "/")
	if len(pattern) > maxPatternSize {
		return filePattern{}, &FieldError{"git.files", "a pattern is too long"}
	}
	// Braces are letters to git.
	match, err := glob.Compile(strings.NewReplacer("{", `\{`, "}", `\}`, "[^", "[!").Replace(pattern))
	if err != nil {
		return filePattern{}, &FieldError{"git.files", fmt.Sprintf("%q is not a pattern", pattern)}
	}
	literal, _, _ := strings.Cut(pattern, "*")
	if i := strings.IndexAny(literal, `?[\`); i >= 0 {
		literal = literal[:i]
	}
	dir := path.Dir(literal + "x")
	if path.Clean(dir) != dir || strings.HasPrefix(dir, "..") || path.IsAbs(dir) {
		return filePattern{}, &FieldError{"git.files", fmt.Sprintf("%q leaves the repository, or is not clean", pattern)}
	}
	return filePattern{match, dir}, nil
}

// files has a set for each object in each file that matches.
func (g *generation) files(ctx context.Context, tree core.Tree, gen *argo.GitGenerator) ([]Params, error) {
	var include, exclude []filePattern
	for _, item := range gen.Files {
		p, err := newFilePattern(item.Path)
		if err != nil {
			return nil, err
		}
		if item.Exclude {
			exclude = append(exclude, p)
		} else {
			include = append(include, p)
		}
	}
	if len(gen.Files) > maxPatterns {
		return nil, tooMany("patterns", int64(len(gen.Files)), maxPatterns)
	}
	found := map[string]bool{}
	for _, p := range include {
		if err := g.walkFiles(ctx, tree, p.dir, p.match, found); err != nil {
			return nil, err
		}
	}
	out := []Params{}
	for _, file := range sorted(found) {
		if slices.ContainsFunc(exclude, func(p filePattern) bool { return p.match.Match(file) }) {
			continue
		}
		sets, err := g.fileParams(ctx, tree, file, gen.PathParamPrefix)
		if err != nil {
			return nil, err
		}
		if out = append(out, sets...); len(out) > g.limits.Applications {
			return nil, tooMany("sets of parameters", int64(len(out)), int64(g.limits.Applications))
		}
	}
	return out, nil
}

// walkFiles finds the regular files below dir that match. Links are not
// followed.
func (g *generation) walkFiles(ctx context.Context, tree core.Tree, dir string, match glob.Glob, found map[string]bool) error {
	entries, err := g.entriesOf(ctx, tree, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		child := path.Join(dir, e.Name)
		switch {
		case e.Mode.IsDir():
			if err := g.walkFiles(ctx, tree, child, match, found); err != nil {
				return err
			}
		case e.Mode.IsRegular() && match.Match(child):
			found[child] = true
		}
	}
	return nil
}

func (g *generation) fileParams(ctx context.Context, tree core.Tree, file, prefix string) ([]Params, error) {
	data, err := tree.Read(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if n := int64(len(data)); n > g.limits.FileBytes {
		return nil, &core.TooLargeError{What: file, Size: n, Limit: g.limits.FileBytes}
	}
	if g.bytes += int64(len(data)); g.bytes > g.limits.AllBytes {
		return nil, &core.TooLargeError{What: "what the files hold together", Size: g.bytes, Limit: g.limits.AllBytes}
	}
	sets, err := parseParams(data)
	if err != nil {
		return nil, &FileError{file, err}
	}
	sets = g.flattened(sets)
	for i := range sets {
		sets[i] = deepMerge(sets[i], g.pathParams(path.Dir(file), path.Base(file), prefix))
	}
	return sets, nil
}

// pathParams are the parameters that say where a directory, or a file in it,
// is.
func (g *generation) pathParams(dir, file, prefix string) Params {
	segments := strings.Split(dir, "/")
	if g.set.Spec.GoTemplate {
		list := make([]any, len(segments))
		for i, s := range segments {
			list[i] = s
		}
		p := Params{"path": dir, "basename": path.Base(dir), "basenameNormalized": normalize(path.Base(dir)), "segments": list}
		if file != "" {
			p["filename"], p["filenameNormalized"] = file, normalize(file)
		}
		if prefix != "" {
			return Params{prefix: map[string]any{"path": p}}
		}
		return Params{"path": p}
	}
	at := "path"
	if prefix != "" {
		at = prefix + ".path"
	}
	p := Params{at: dir, at + ".basename": path.Base(dir), at + ".basenameNormalized": normalize(path.Base(dir))}
	if file != "" {
		p[at+".filename"], p[at+".filenameNormalized"] = file, normalize(file)
	}
	for i, s := range segments {
		p[fmt.Sprintf("%s[%d]", at, i)] = s
	}
	return p
}

// sorted are the keys that are true, in order.
func sorted(set map[string]bool) []string {
	var out []string
	for key, in := range set {
		if in {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}
