package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

// overlay lays the request's options over the directory's kustomization, as
// Argo CD does with `kustomize edit` and Flux does with its generator: in the
// kustomization itself, not in one above it.
func (f *kustomizeFS) overlay() error {
	j := f.job
	file, err := j.kustomizationFile(j.dir)
	if err != nil {
		return err
	}
	var k types.Kustomization
	switch {
	case file != "":
		if !j.req.Kustomize.edits() {
			return nil
		}
		data, err := j.src.read(file)
		if err != nil {
			return err
		}
		if err := k.Unmarshal(data); err != nil {
			return f.explain(fmt.Errorf("%s: %w", file, err))
		}
	case j.req.Kustomize.Generate:
		file = path.Join(j.dir, konfig.DefaultKustomizationFileName())
		if k.Resources, err = j.generateResources(); err != nil {
			return err
		}
	default:
		return NewError(PathNotFound, j.dir, 0, "there is no kustomization.yaml in the directory")
	}
	k.FixKustomization()
	if err := j.edit(&k); err != nil {
		return err
	}
	data, err := yaml.Marshal(k)
	if err != nil {
		return NewError(BuildFailed, file, 0, "the kustomization cannot be encoded")
	}
	f.virtual[file] = data
	return nil
}

// edits says whether o changes a kustomization.
func (o KustomizeOptions) edits() bool {
	return o.NamePrefix != "" || o.NameSuffix != "" || o.Namespace != "" ||
		len(o.CommonLabels)+len(o.CommonAnnotations)+len(o.Images)+len(o.Replicas)+len(o.Patches)+len(o.Components)+len(o.BuildMetadata) > 0
}

func (j *job) edit(k *types.Kustomization) error {
	o := j.req.Kustomize
	set := func(field *string, value string) {
		if value != "" {
			*field = value
		}
	}
	set(&k.NamePrefix, o.NamePrefix)
	set(&k.NameSuffix, o.NameSuffix)
	set(&k.Namespace, o.Namespace)
	for _, image := range o.Images {
		k.Images = replaceByName(k.Images, types.Image{Name: image.Name, NewName: image.NewName, NewTag: image.NewTag, Digest: image.Digest},
			func(i types.Image) string { return i.Name })
	}
	for _, r := range o.Replicas {
		k.Replicas = replaceByName(k.Replicas, types.Replica{Name: r.Name, Count: r.Count}, func(r types.Replica) string { return r.Name })
	}
	for _, p := range o.Patches {
		k.Patches = append(k.Patches, types.Patch{Patch: p.Patch, Target: p.Target.selector(), Options: patchOptions(p.Options)})
	}
	for _, what := range o.BuildMetadata {
		if !slices.Contains(k.BuildMetadata, what) {
			k.BuildMetadata = append(k.BuildMetadata, what)
		}
	}
	if err := j.editLabels(k); err != nil {
		return err
	}
	return j.editComponents(k)
}

// replaceByName sets the element of the same name, or adds it.
func replaceByName[T any](list []T, v T, name func(T) string) []T {
	for i := range list {
		if name(list[i]) == name(v) {
			list[i] = v
			return list
		}
	}
	return append(list, v)
}

// editLabels is `kustomize edit add label` and `… annotation`.
func (j *job) editLabels(k *types.Kustomization) error {
	o := j.req.Kustomize
	labels := &k.CommonLabels
	if o.LabelWithoutSelector || o.LabelIncludeTemplates {
		i := len(k.Labels)
		for n, l := range k.Labels {
			if !l.IncludeSelectors && l.IncludeTemplates == o.LabelIncludeTemplates && len(l.FieldSpecs) == 0 {
				i = n
				break
			}
		}
		if i == len(k.Labels) && len(o.CommonLabels) > 0 {
			k.Labels = append(k.Labels, types.Label{IncludeTemplates: o.LabelIncludeTemplates})
		}
		if i < len(k.Labels) {
			labels = &k.Labels[i].Pairs
		}
	}
	if err := addPairs(labels, o.CommonLabels, o.ForceCommonLabels, "label", j.dir); err != nil {
		return err
	}
	return addPairs(&k.CommonAnnotations, o.CommonAnnotations, o.ForceCommonAnnotations, "annotation", j.dir)
}

func addPairs(have *map[string]string, more map[string]string, force bool, what, dir string) error {
	if len(more) > 0 && *have == nil {
		*have = map[string]string{}
	}
	for _, name := range sortedKeys(more) {
		if _, ok := (*have)[name]; ok && !force {
			return NewError(BuildFailed, dir, 0, "the kustomization has the common %s %s already", what, name).
				WithHint("remove one of the two, or force it")
		}
		(*have)[name] = more[name]
	}
	return nil
}

func (j *job) editComponents(k *types.Kustomization) error {
	for _, c := range j.req.Kustomize.Components {
		if j.req.Kustomize.IgnoreMissingComponents && !isRemote(c) {
			_, entry, err := j.src.stat(path.Join(j.dir, c))
			if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.Mode.IsDir() {
				continue
			}
			if err != nil {
				return err
			}
		}
		k.Components = append(k.Components, c)
	}
	return nil
}

func (t *KustomizeTarget) selector() *types.Selector {
	if t == nil {
		return nil
	}
	s := &types.Selector{LabelSelector: t.LabelSelector, AnnotationSelector: t.AnnotationSelector}
	s.Group, s.Version, s.Kind, s.Name, s.Namespace = t.Group, t.Version, t.Kind, t.Name, t.Namespace
	return s
}

func patchOptions(o map[string]bool) *types.PatchArgs {
	if len(o) == 0 {
		return nil
	}
	return &types.PatchArgs{AllowNameChange: o["allowNameChange"], AllowKindChange: o["allowKindChange"]}
}

// generateResources are the manifests and kustomizations below the directory,
// as Flux's generator collects them (fluxcd/pkg/kustomize, scanManifests): all
// .yaml and .yml files, which must be objects, and instead of a directory's
// files its kustomization where it has one.
func (j *job) generateResources() ([]string, error) {
	var resources []string
	factory := provider.NewDefaultDepProvider().GetResourceFactory()
	err := j.src.visit(j.dir, false, func(rel string, e core.TreeEntry) (bool, error) {
		p := path.Join(j.dir, rel)
		if e.Mode.IsDir() {
			has, err := j.hasKustomization(p)
			if has {
				resources = append(resources, "./"+rel)
			}
			return !has, err
		}
		if ext := path.Ext(rel); ext != ".yaml" && ext != ".yml" {
			return false, nil
		}
		data, err := j.src.read(p)
		if err != nil {
			return false, err
		}
		if err := decodes(factory.SliceFromBytes, data); err != nil {
			return false, j.whereInvalid(p, data)
		}
		resources = append(resources, "./"+rel)
		return false, nil
	})
	sort.Strings(resources)
	return resources, err
}

// decodes runs kustomize's decoder, which panics on some broken input.
func decodes[T any](decode func([]byte) (T, error), data []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{value: r}
		}
	}()
	_, err = decode(data)
	return err
}

// whereInvalid finds the line that a decoder refused, by our own decoder.
func (j *job) whereInvalid(file string, data []byte) error {
	if path.Base(file) == "Chart.yaml" {
		return NewError(InvalidObject, file, 0, "it is a Helm chart, which a Kustomization does not deliver").
			WithHint("deploy the chart by an Application, or add a kustomization.yaml that lists the manifests")
	}
	if _, err := j.objects(file, data); err != nil {
		return err
	}
	return NewError(InvalidObject, file, 0, "it holds something that is no Kubernetes object").
		WithHint("a directory without a kustomization may hold only Kubernetes manifests: add a kustomization.yaml that lists them")
}
