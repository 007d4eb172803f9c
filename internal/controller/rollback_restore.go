package controller

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

// change makes one path as it was in a tree; without one it removes it.
type change struct {
	from  core.Tree
	entry core.TreeEntry
}

// restoration is the changes that bring one branch back.
type restoration struct {
	was, head core.Tree
	// needed are the files that were read and those that were not there.
	needed map[string]change
	// surplus are entries that listed directories have now and had not then,
	// absent those that they had and that nobody read.
	surplus, absent map[string]change
}

// restore returns the changes that make the part's head read what was read
// then: each file as it was, and nothing where nothing was found. In listed
// directories only those new entries are removed that make a difference.
func (r *rollback) restore(ctx context.Context, p *part) (map[string]change, error) {
	b := &restoration{was: p.was.Tree, head: p.head.Tree, needed: map[string]change{}, surplus: map[string]change{}, absent: map[string]change{}}
	for _, i := range p.sources {
		for _, in := range r.was.inputs[i] {
			if err := b.take(ctx, in); err != nil {
				return nil, fmt.Errorf("compare %s with the good revision: %w", in.Path, err)
			}
		}
	}
	if err := b.types(ctx, r, p); err != nil {
		return nil, err
	}
	if len(b.surplus)+len(b.absent) == 0 {
		return b.needed, nil
	}
	return r.least(ctx, p, b)
}

// take takes one thing in that was read.
func (b *restoration) take(ctx context.Context, in render.Input) error {
	switch in.Kind {
	case render.InputFile:
		want, err := b.was.Entry(ctx, in.Path)
		if err != nil {
			return err
		}
		have, there, err := entry(ctx, b.head, in.Path)
		if err == nil && (!there || have.Hash != want.Hash || have.Mode != want.Mode) {
			b.needed[in.Path] = change{b.was, want}
		}
		return err
	case render.InputMissing:
		_, there, err := entry(ctx, b.head, in.Path)
		if there {
			b.needed[in.Path] = change{}
		}
		return err
	case render.InputDirectory:
		return b.listing(ctx, in.Path)
	}
	return nil
}

// listing takes in what is new in a directory, and what is not there any more.
func (b *restoration) listing(ctx context.Context, dir string) error {
	before, err := b.was.List(ctx, dir)
	if err != nil {
		return err
	}
	now, err := b.head.List(ctx, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	then, there := map[string]bool{}, map[string]bool{}
	for _, e := range before {
		then[e.Name] = true
	}
	for _, e := range now {
		there[e.Name] = true
		if !then[e.Name] {
			b.surplus[path.Join(dir, e.Name)] = change{}
		}
	}
	for _, e := range before {
		if !there[e.Name] {
			b.absent[path.Join(dir, e.Name)] = change{b.was, e}
		}
	}
	return nil
}

// types restores what was only asked for its type, where that is another one
// now and nothing below it comes back anyway.
func (b *restoration) types(ctx context.Context, r *rollback, p *part) error {
	for _, i := range p.sources {
		for _, in := range r.was.inputs[i] {
			if in.Kind != render.InputType || in.Path == "." || b.below(in.Path) {
				continue
			}
			want, err := b.was.Entry(ctx, in.Path)
			if err != nil {
				return fmt.Errorf("compare %s with the good revision: %w", in.Path, err)
			}
			have, there, err := entry(ctx, b.head, in.Path)
			if err != nil {
				return fmt.Errorf("compare %s with the good revision: %w", in.Path, err)
			}
			if !there || have.Mode.Type() != want.Mode.Type() {
				b.needed[in.Path] = change{b.was, want}
			}
		}
	}
	return nil
}

// below says whether something at or below dir is restored.
func (b *restoration) below(dir string) bool {
	for name, c := range b.needed {
		if c.from != nil && (name == dir || strings.HasPrefix(name, dir+"/")) {
			return true
		}
	}
	return false
}

// entry is what stands at a path, if anything does.
func entry(ctx context.Context, tree core.Tree, name string) (core.TreeEntry, bool, error) {
	e, err := tree.Entry(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	return e, err == nil, err
}

// How many new entries are tried one by one, and for how long. Those that are
// left then go, as all that a listing shows would.
const (
	triedOne = 50
	trying   = 10 * time.Second
)

// least returns what is needed, and of the new and the missing entries of
// listed directories only those without which something else is rendered than
// was then. A directory was listed as a whole, but what others put into it
// may not concern the delivery at all.
func (r *rollback) least(ctx context.Context, p *part, b *restoration) (map[string]change, error) {
	all := joined(b.needed, b.surplus)
	if !r.was.repeatable {
		return joined(all, b.absent), nil
	}
	renders := func(set map[string]change) (bool, error) { return r.renders(ctx, p, set) }
	if same, err := renders(b.needed); err != nil || same {
		return b.needed, err
	}
	if same, err := renders(all); err != nil || !same {
		return joined(all, b.absent), err
	}
	if len(b.surplus) > triedOne {
		return all, nil
	}
	least := maps.Clone(all)
	began := time.Now()
	for _, name := range sortedKeys(b.surplus) {
		if time.Since(began) > trying {
			break
		}
		removed := least[name]
		delete(least, name)
		same, err := renders(least)
		if err != nil {
			return nil, err
		}
		if !same {
			least[name] = removed
		}
	}
	return least, nil
}

func joined(a, b map[string]change) map[string]change {
	out := maps.Clone(a)
	for name, c := range b {
		if _, there := out[name]; !there {
			out[name] = c
		}
	}
	return out
}

// renders says whether the delivery renders as it did then, with the changes
// in the part's head and all other sources as they were.
func (r *rollback) renders(ctx context.Context, p *part, set map[string]change) (bool, error) {
	snaps := slices.Clone(r.was.snaps)
	for _, i := range p.sources {
		snaps[i].Tree = &changedTree{base: p.head.Tree, changes: set}
	}
	got, err := r.readTrees(ctx, snaps)
	var wrong *render.Error
	if errors.As(err, &wrong) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("render what would be committed: %w", err)
	}
	return got.digest == r.was.digest, nil
}
