package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime/debug"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

// kustomizeMutex guards kyaml's global OpenAPI schema, which builds read and
// write (kubernetes-sigs/kustomize#3659). It is as global as what it guards.
var kustomizeMutex sync.Mutex

// kustomize builds the directory as `kustomize build` does, but for three
// things: files above the directory may be read as long as they are in the
// tree, nothing is fetched, and nothing is executed.
func (j *job) kustomize() (objects []*unstructured.Unstructured, err error) {
	fsys := newKustomizeFS(j)
	if err := fsys.overlay(); err != nil {
		return nil, err
	}
	kustomizeMutex.Lock()
	defer kustomizeMutex.Unlock()
	defer func() {
		if fsys.customSchema {
			openapi.ResetOpenAPI() // or the next build would see this one's schema
		}
	}()
	resources, err := buildKustomization(fsys, path.Join(mount, j.dir))
	if fsys.err != nil {
		// kustomize takes every error of a file system for "not there".
		return nil, fsys.err
	}
	if err != nil {
		return nil, fsys.explain(err)
	}
	for _, r := range resources.Resources() {
		o, err := resourceObject(r.MarshalJSON)
		if err != nil {
			return nil, NewError(InvalidObject, j.dir, 0, "%s cannot be encoded", r.OrgId())
		}
		if objects, err = flatten(objects, o, j.dir); err != nil {
			return nil, err
		}
		if err := j.limitObjects(len(objects), j.dir); err != nil {
			return nil, err
		}
	}
	setMetadata(objects, j.req.Kustomize)
	return objects, nil
}

// buildKustomization runs kustomize, whose code panics on some broken input.
func buildKustomization(fsys *kustomizeFS, dir string) (_ resmap.ResMap, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{value: r, stack: debug.Stack()}
		}
	}()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // the command's default
	options.LoadRestrictions = types.LoadRestrictionsNone
	options.PluginConfig = types.DisabledPluginConfig()
	return krusty.MakeKustomizer(options).Run(fsys, dir)
}

// panicError is a tool's panic.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("it panicked: %v", e.value) }

func resourceObject(marshal func() ([]byte, error)) (*unstructured.Unstructured, error) {
	data, err := marshal()
	if err != nil {
		return nil, err
	}
	o := &unstructured.Unstructured{}
	return o, json.Unmarshal(data, &o.Object)
}

// explain makes an *Error of what kustomize said.
func (f *kustomizeFS) explain(err error) error {
	if f.job.ctx.Err() != nil {
		return f.job.ctx.Err()
	}
	if types.IsErrOnlyBuiltinPluginsAllowed(err) {
		return NewError(Unsupported, f.job.dir, 0, "generators and transformers that execute a program are not supported").
			WithHint("use kustomize's built-in generators and transformers")
	}
	var p *panicError
	if errors.As(err, &p) {
		return NewError(BuildFailed, f.job.dir, 0, "kustomize gave up on a malformed object").
			WithHint("run kustomize build on the directory to find it")
	}
	if broken := f.brokenFile(); broken != nil {
		return broken
	}
	if twice := f.duplicate(); twice != nil {
		return twice
	}
	msg := strings.ReplaceAll(err.Error(), mount+"/", "")
	e := NewError(BuildFailed, f.job.dir, 0, "%s", f.redact(withoutQuotes(msg)))
	var pathErr *kustomizePathError
	if errors.As(err, &pathErr) {
		if errors.Is(pathErr, fs.ErrNotExist) {
			return NewError(PathNotFound, pathErr.path, 0, "there is no such file, to which a kustomization refers")
		}
		e.Path = pathErr.path
	}
	return e
}

// brokenFile finds the line that is no YAML in what was read. kustomize's own
// errors have it somewhere in their text, or not at all.
func (f *kustomizeFS) brokenFile() error {
	for _, file := range sortedKeys(f.read) {
		if ext := path.Ext(file); ext != ".yaml" && ext != ".yml" && !isKustomizationName(path.Base(file)) {
			continue
		}
		for _, doc := range splitDocuments(f.read[file]) {
			if _, err := yaml.YAMLToJSONStrict(doc.text); err != nil {
				e := doc.at(file, err)
				e.Msg = f.redact(e.Msg)
				return e
			}
		}
	}
	return nil
}

// hasKustomization says whether dir holds a kustomization.
func (j *job) hasKustomization(dir string) (bool, error) {
	name, err := j.kustomizationFile(dir)
	return name != "", err
}

// kustomizationFile returns the path of dir's kustomization, or "".
func (j *job) kustomizationFile(dir string) (string, error) {
	for _, name := range konfig.RecognizedKustomizationFileNames() {
		p := path.Join(dir, name)
		if ok, err := j.isFile(p); ok || err != nil {
			return p, err
		}
	}
	return "", nil
}

// setMetadata is Flux's commonMetadata.
func setMetadata(objects []*unstructured.Unstructured, opts KustomizeOptions) {
	merge := func(have, more map[string]string) map[string]string {
		if have == nil {
			have = map[string]string{}
		}
		for k, v := range more {
			have[k] = v
		}
		return have
	}
	for _, o := range objects {
		if len(opts.MetadataLabels) > 0 {
			o.SetLabels(merge(o.GetLabels(), opts.MetadataLabels))
		}
		if len(opts.MetadataAnnotations) > 0 {
			o.SetAnnotations(merge(o.GetAnnotations(), opts.MetadataAnnotations))
		}
	}
}

// duplicate finds an object that two files of one kustomization have, which
// kustomize refuses in words that name neither.
func (f *kustomizeFS) duplicate() error {
	for _, file := range sortedKeys(f.read) {
		var k types.Kustomization
		if !isKustomizationName(path.Base(file)) || k.Unmarshal(f.read[file]) != nil {
			continue
		}
		seen := map[core.ObjectRef]string{}
		for _, resource := range k.Resources {
			p := path.Join(path.Dir(file), resource)
			data, ok := f.read[p]
			if !ok {
				continue // a directory, or not come to
			}
			objects, err := f.job.objects(p, data)
			if err != nil {
				return nil
			}
			for _, o := range objects {
				gvk := o.GroupVersionKind()
				ref := core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
				if first, ok := seen[ref]; ok {
					return NewError(BuildFailed, p, 0, "%s is in %s too", ref, first).WithHint("remove it from one of the two")
				}
				seen[ref] = p
			}
		}
	}
	return nil
}
