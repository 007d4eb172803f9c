package render

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"sort"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Engine renders in this process. Hostile input can take the process down
// with it (memory, time, stack): servers use a Pool, whose workers hold an
// Engine each.
type Engine struct{ limits Limits }

var _ Renderer = (*Engine)(nil)

// NewEngine makes an Engine.
func NewEngine(limits Limits) *Engine { return &Engine{limits: limits.withDefaults()} }

// Render implements Renderer.
func (e *Engine) Render(ctx context.Context, req Request) (*Result, error) {
	start := time.Now()
	rec := newRecord()
	job := &job{ctx: ctx, req: req, limits: e.limits, refs: map[string]*source{}, opened: map[string][]byte{}}
	job.src = newSource(ctx, &recorded{tree: req.Tree, record: rec}, e.limits)
	for name, tree := range req.Refs {
		job.refs[name] = newSource(ctx, &recorded{tree: tree, source: name, record: rec}, e.limits)
	}
	result, err := job.run()
	if err != nil {
		return nil, err
	}
	result.Inputs = rec.sorted()
	if result.Uncacheable == "" {
		result.Key = key(req, result.Inputs)
	}
	result.Took = time.Since(start)
	return result, nil
}

// job is one render.
type job struct {
	ctx    context.Context
	req    Request
	limits Limits
	src    *source
	refs   map[string]*source
	dir    string // cleaned, links resolved
	// opened are the files that were decrypted, in plain text.
	opened   map[string][]byte
	warnings []string
}

func (j *job) run() (*Result, error) {
	if err := j.open(); err != nil {
		return nil, err
	}
	tool, err := j.tool()
	if err != nil {
		return nil, err
	}
	result := &Result{Tool: tool}
	switch tool {
	case Kustomize:
		result.Objects, err = j.kustomize()
	case Helm:
		err = j.helm(result)
	case Plain:
		result.Objects, err = j.plain()
	default:
		return nil, NewError(Unsupported, "", 0, "there is no tool %q", tool)
	}
	if err != nil {
		return nil, j.classify(err)
	}
	if len(result.Objects) > j.limits.MaxObjects {
		return nil, NewError(LimitExceeded, j.dir, 0, "%d objects come out, the limit is %d", len(result.Objects), j.limits.MaxObjects)
	}
	result.Warnings = j.warnings
	result.ClearSecrets = clearSecrets(result.Objects, j.opened)
	result.Decrypted = len(j.opened) > 0
	return result, nil
}

// open finds the directory.
func (j *job) open() error {
	dir, entry, err := j.src.stat(j.req.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return NewError(PathNotFound, j.req.Path, 0, "there is no such directory")
	}
	if err != nil {
		return err
	}
	if !entry.Mode.IsDir() {
		return NewError(PathNotFound, j.req.Path, 0, "it is not a directory")
	}
	j.dir = dir
	return nil
}

// tool is the request's, or the one that the directory asks for. Where it is
// both, it is Kustomize, as in Argo CD's code (util/app/discovery).
func (j *job) tool() (Tool, error) {
	if j.req.Tool != Auto {
		return j.req.Tool, nil
	}
	if ok, err := j.hasKustomization(j.dir); ok || err != nil {
		return Kustomize, err
	}
	if j.req.Kustomize.Generate {
		return Kustomize, nil // Flux knows no charts
	}
	if ok, err := j.isFile(path.Join(j.dir, "Chart.yaml")); ok || err != nil {
		return Helm, err
	}
	return Plain, nil
}

func (j *job) isFile(p string) (bool, error) {
	_, entry, err := j.src.stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && entry.Mode.IsRegular(), err
}

func (j *job) warn(msg string) {
	for _, w := range j.warnings {
		if w == msg {
			return
		}
	}
	if len(j.warnings) < maxWarnings {
		j.warnings = append(j.warnings, msg)
	}
}

const maxWarnings = 50

// classify makes an *Error of what can only be the source's fault and leaves
// the rest, such as a Git store that cannot be read.
func (j *job) classify(err error) error {
	if e := asError(err); e != nil {
		return e
	}
	if ctxErr := j.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	var pathErr *fs.PathError
	switch {
	case !errors.As(err, &pathErr):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return NewError(PathNotFound, pathErr.Path, 0, "there is no such file")
	case errors.Is(err, errNotFile), errors.Is(err, errNotDirectory):
		return NewError(PathNotFound, pathErr.Path, 0, "it is %v", pathErr.Err)
	}
	return err
}

// trees are the request's sources by the name that Input.Source has.
func (r Request) trees() map[string]core.Tree {
	trees := make(map[string]core.Tree, len(r.Refs)+1)
	for name, tree := range r.Refs {
		trees[name] = tree
	}
	trees[""] = r.Tree
	return trees
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// flatten adds o to objects, or its items where it is a list.
func flatten(objects []*unstructured.Unstructured, o *unstructured.Unstructured, file string) ([]*unstructured.Unstructured, error) {
	if isNullList(o) {
		return objects, nil
	}
	if !o.IsList() {
		if err := checkObject(o, file); err != nil {
			return nil, err
		}
		return append(objects, o), nil
	}
	items, _, err := unstructured.NestedSlice(o.Object, "items")
	if err != nil {
		return nil, NewError(InvalidObject, file, 0, "the items of the %s are not a list", o.GetKind())
	}
	for i, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			return nil, NewError(InvalidObject, file, 0, "item %d of the %s is not an object", i, o.GetKind())
		}
		if objects, err = flatten(objects, &unstructured.Unstructured{Object: m}, file); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// isNullList is for "items: null", which Argo CD takes for an empty list.
func isNullList(o *unstructured.Unstructured) bool {
	items, ok := o.Object["items"]
	if !ok || items != nil {
		return false
	}
	_, spec := o.Object["spec"]
	_, status := o.Object["status"]
	return !spec && !status
}

// checkObject says what is missing for an object to be applied.
func checkObject(o *unstructured.Unstructured, file string) error {
	switch {
	case str(o.Object["kind"]) == "":
		e := NewError(InvalidObject, file, 0, "an object has no kind")
		e.noObject = true
		return e
	case str(o.Object["apiVersion"]) == "":
		return NewError(InvalidObject, file, 0, "the %s has no apiVersion", o.GetKind())
	}
	meta, ok := o.Object["metadata"].(map[string]any)
	if !ok {
		return NewError(InvalidObject, file, 0, "the %s has no metadata", o.GetKind())
	}
	if str(meta["name"]) == "" && str(meta["generateName"]) == "" {
		return NewError(InvalidObject, file, 0, "the %s has no name", o.GetKind())
	}
	return nil
}

func str(v any) string { s, _ := v.(string); return s }
