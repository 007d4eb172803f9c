package render

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"sync"

	"github.com/fairway-cd/fairway/internal/core"
)

// The hashes of an InputType.
const (
	typeFile      = "file"
	typeDirectory = "directory"
	typeLink      = "link"
	typeOther     = "other"
)

// record notes every answer that trees gave. A render is a function of its
// parameters and of these answers, so equal answers are an equal result.
type record struct {
	mu     sync.Mutex
	inputs map[inputID]Input
}

type inputID struct {
	source, path string
	kind         InputKind
}

func newRecord() *record { return &record{inputs: map[inputID]Input{}} }

func (r *record) note(in Input) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inputs[inputID{in.Source, in.Path, in.Kind}] = in
}

// sorted returns the inputs by source and path. A type is left out where the
// content or the listing says it as well.
func (r *record) sorted() []Input {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Input, 0, len(r.inputs))
	for id, in := range r.inputs {
		if id.kind == InputType {
			_, file := r.inputs[inputID{id.source, id.path, InputFile}]
			_, dir := r.inputs[inputID{id.source, id.path, InputDirectory}]
			if file || dir {
				continue
			}
		}
		out = append(out, in)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.Source != b.Source {
			return a.Source < b.Source
		}
		if a.Path != b.Path {
			return a.Path < b.Path
		}
		return a.Kind < b.Kind
	})
	return out
}

// recorded is a Tree whose answers are noted in a record.
type recorded struct {
	tree   core.Tree
	source string
	record *record
}

var _ core.Tree = (*recorded)(nil)

func (t *recorded) Entry(ctx context.Context, p string) (core.TreeEntry, error) {
	e, err := t.tree.Entry(ctx, p)
	switch {
	case err == nil:
		t.record.note(Input{t.source, p, InputType, typeOf(e.Mode)})
	case errors.Is(err, fs.ErrNotExist):
		t.record.note(Input{t.source, p, InputMissing, ""})
	}
	return e, err
}

func (t *recorded) List(ctx context.Context, p string) ([]core.TreeEntry, error) {
	entries, err := t.tree.List(ctx, p)
	if err == nil {
		t.record.note(Input{t.source, p, InputDirectory, listingHash(entries)})
	}
	return entries, err
}

func (t *recorded) Read(ctx context.Context, p string) ([]byte, error) {
	e, err := t.Entry(ctx, p)
	if err != nil {
		return nil, err
	}
	content, err := t.tree.Read(ctx, p)
	if err == nil {
		t.record.note(Input{t.source, p, InputFile, e.Hash})
	}
	return content, err
}

func typeOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return typeDirectory
	case m.IsRegular():
		return typeFile
	case m&fs.ModeSymlink != 0:
		return typeLink
	default:
		return typeOther
	}
}

// listingHash is over the names and types, and not the contents, of entries.
func listingHash(entries []core.TreeEntry) string {
	h := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(h, "%q %s\n", e.Name, typeOf(e.Mode))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Unchanged says whether all inputs are in trees (by source name) as they were
// when they were recorded. It reads no file.
func Unchanged(ctx context.Context, inputs []Input, trees map[string]core.Tree) (bool, error) {
	for _, in := range inputs {
		tree := trees[in.Source]
		if tree == nil {
			return false, nil
		}
		same, err := unchanged(ctx, in, tree)
		if err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

func unchanged(ctx context.Context, in Input, tree core.Tree) (bool, error) {
	if in.Kind == InputDirectory {
		entries, err := tree.List(ctx, in.Path)
		if err != nil {
			// What was a directory may be a file now, which is an error of
			// some other kind: only a context's end is worth reporting.
			return false, ctx.Err()
		}
		return listingHash(entries) == in.Hash, nil
	}
	e, err := tree.Entry(ctx, in.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return in.Kind == InputMissing, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up %s: %w", in.Path, err)
	}
	switch in.Kind {
	case InputFile:
		return e.Hash == in.Hash && !e.Mode.IsDir(), nil
	case InputType:
		return typeOf(e.Mode) == in.Hash, nil
	default:
		return false, nil
	}
}
