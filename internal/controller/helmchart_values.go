package controller

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

// withValuesFiles is the tree with the chart's values.yaml replaced by the
// files, merged, the last of which wins. Their paths are from the tree's root.
func withValuesFiles(ctx context.Context, tree core.Tree, a *chartArtifact) (core.Tree, error) {
	values := map[string]any{}
	for _, file := range a.valuesFiles {
		name := path.Clean("./" + strings.TrimPrefix(file, "/"))
		if name == ".." || strings.HasPrefix(name, "../") {
			return nil, fmt.Errorf("the values file %q leaves the source", file)
		}
		text, err := readSmall(ctx, tree, name)
		if errors.Is(err, fs.ErrNotExist) {
			if a.ignoreMissing {
				continue
			}
			return nil, fmt.Errorf("the values file %q is not there", file)
		}
		if err != nil {
			return nil, err
		}
		more, err := loader.LoadValues(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("the values file %q is not YAML of values", file)
		}
		values = loader.MergeMaps(values, more)
	}
	text, err := yaml.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("merge the values files: %w", err)
	}
	return &replaced{tree, path.Join(a.path, "values.yaml"), text}, nil
}

// replaced is a tree with another content for one file.
type replaced struct {
	core.Tree
	name    string
	content []byte
}

func (t *replaced) entry() core.TreeEntry {
	sum := sha256.Sum256(t.content)
	return core.TreeEntry{Name: path.Base(t.name), Mode: 0o644, Hash: hex.EncodeToString(sum[:]), Size: int64(len(t.content))}
}

// Entry implements core.Tree.
func (t *replaced) Entry(ctx context.Context, p string) (core.TreeEntry, error) {
	if p == t.name {
		return t.entry(), nil
	}
	return t.Tree.Entry(ctx, p)
}

// List implements core.Tree.
func (t *replaced) List(ctx context.Context, p string) ([]core.TreeEntry, error) {
	list, err := t.Tree.List(ctx, p)
	if err != nil || p != path.Dir(t.name) {
		return list, err
	}
	mine := t.entry()
	list = slices.Clone(list)
	at, there := slices.BinarySearchFunc(list, mine, func(a, b core.TreeEntry) int { return strings.Compare(a.Name, b.Name) })
	if there {
		list[at] = mine
		return list, nil
	}
	return slices.Insert(list, at, mine), nil
}

// Read implements core.Tree.
func (t *replaced) Read(ctx context.Context, p string) ([]byte, error) {
	if p == t.name {
		return t.content, nil
	}
	return t.Tree.Read(ctx, p)
}

// open opens the chart again. The tree is that of its source; the chart is at
// the artifact's path.
func (a *chartArtifact) open(ctx context.Context, sources Sources) (core.Tree, error) {
	snap, err := sources.Resolve(ctx, a.from)
	if err != nil {
		return nil, err
	}
	if a.content != "" && snap.Revision.Commit != a.content {
		return nil, fmt.Errorf("the archive of %s %s is another one than it was: %s, not %s", a.name, a.version, snap.Revision.Commit, a.content)
	}
	if len(a.valuesFiles) == 0 {
		return snap.Tree, nil
	}
	return withValuesFiles(ctx, snap.Tree, a)
}
