package controller

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/kustomize"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/render"
)

// kustomizationObject is a Kustomization with the fields of older versions.
type kustomizationObject struct {
	kustomizev1.Kustomization
	spec flux.KustomizationSpec
}

// readKustomization reads the object, strictly; see readApplication.
func readKustomization(u *unstructured.Unstructured) (*kustomizationObject, error) {
	k := &kustomizationObject{}
	refused, err := readObject(u, &k.ObjectMeta, &k.spec, &k.Status)
	if err != nil {
		return k, err
	}
	k.Spec = k.spec.KustomizationSpec
	refuseConfigMap(k.Spec.KubeConfig, refused)
	return k, refused.orNil()
}

// readObject reads metadata, spec and status of a Flux object; the spec
// strictly.
func readObject(u *unstructured.Unstructured, meta, spec, status any) (*SpecError, error) {
	refused := &SpecError{}
	for field, into := range map[string]any{"metadata": meta, "spec": spec, "status": status} {
		data, err := json.Marshal(u.Object[field])
		if err != nil {
			return refused, fmt.Errorf("encode %s: %w", field, err)
		}
		if err := decodeStrict(data, field, into); err != nil && field == "spec" {
			refused.absorb(err)
		}
	}
	return refused, nil
}

// sourceKey is the source that the Kustomization is made of.
func (k *kustomizationObject) sourceKey() types.NamespacedName {
	ns := k.Spec.SourceRef.Namespace
	if ns == "" {
		ns = k.Namespace
	}
	return types.NamespacedName{Namespace: ns, Name: k.Spec.SourceRef.Name}
}

// kustomizationDelivery is the model of the Kustomization. Its source is not
// resolved by URL: the GitRepository's artifact is. The error is a *SpecError.
func kustomizationDelivery(k *kustomizationObject) (*delivery, error) {
	refused := &SpecError{}
	if kind := k.Spec.SourceRef.Kind; kind != sourcev1.GitRepositoryKind && kind != sourcev1.OCIRepositoryKind {
		refused.add("spec.sourceRef.kind", "%q is not supported; want %s or %s", kind, sourcev1.GitRepositoryKind, sourcev1.OCIRepositoryKind)
	}
	dir := path.Clean("./" + strings.TrimPrefix(k.Spec.Path, "/"))
	if dir == ".." || strings.HasPrefix(dir, "../") {
		refused.add("spec.path", "%q leaves the repository", k.Spec.Path)
	}
	req := &render.Request{Path: dir, Tool: render.Kustomize, Kustomize: fluxKustomizeOptions(k, refused)}
	d := &delivery{
		owner:   core.Owner{Dialect: core.Flux, Kind: kustomizev1.KustomizationKind, Namespace: k.Namespace, Name: k.Name},
		sources: []source{{render: req}},
		options: kustomizationOptions(k),
		pin:     readPin(k.Annotations),

		decryption: kustomizationDecryption(k, refused),
	}
	spec := k.spec
	// When and how often changes nothing of what is delivered.
	spec.RetryInterval, spec.Timeout, spec.DependsOn, spec.Suspend = nil, nil, nil, false
	spec.Interval.Duration = 0
	d.params = digest(spec)
	return d, refused.orNil()
}

func kustomizationOptions(k *kustomizationObject) deploy.Options {
	o := deploy.Options{
		As:    kustomizationUser(k),
		Prune: k.Spec.Prune,
		Force: k.Spec.Force,
		// An empty directory prunes everything in Flux.
		AllowEmpty: true,
	}
	return o
}

// setHealthRules has the spec's expressions count for the Kustomization's
// objects. The error is a *SpecError.
func (k *kustomizationRun) setHealthRules() error {
	if k.stages.Health == nil {
		return nil
	}
	changed, err := k.stages.Health.Check(k.delivery.owner, healthRules(k.k.Spec.HealthCheckExprs))
	if err != nil {
		refused := &SpecError{}
		refused.add("spec", "%v", err)
		return refused
	}
	if changed {
		k.stages.Watcher.Recheck(k.delivery.owner)
	}
	return nil
}

// healthRules are Flux' healthCheckExprs.
func healthRules(exprs []kustomize.CustomHealthCheck) []health.Check {
	var checks []health.Check
	for _, e := range exprs {
		group := ""
		if g, _, ok := strings.Cut(e.APIVersion, "/"); ok {
			group = g
		}
		checks = append(checks, health.Check{Group: group, Kind: e.Kind,
			Expressions: health.Expressions{InProgress: e.InProgress, Failed: e.Failed, Current: e.Current}})
	}
	return checks
}

func (e *Engine) forgetHealth(owner core.Owner) {
	if e.stages.Health != nil {
		_, _ = e.stages.Health.Check(owner, nil) // none cannot be wrong
	}
}

// healthChecks are the objects that the spec names.
func (k *kustomizationRun) healthChecks() []core.ObjectRef {
	var refs []core.ObjectRef
	for _, c := range k.k.Spec.HealthChecks {
		gv := strings.Split(c.APIVersion, "/")
		ref := core.ObjectRef{Version: gv[len(gv)-1], Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}
		if len(gv) == 2 {
			ref.Group = gv[0]
		}
		if ref.Namespace == "" {
			ref.Namespace = k.k.Namespace
		}
		refs = append(refs, ref)
	}
	return refs
}

func fluxKustomizeOptions(k *kustomizationObject, refused *SpecError) render.KustomizeOptions {
	o := render.KustomizeOptions{
		Generate:                true,
		NamePrefix:              k.Spec.NamePrefix,
		NameSuffix:              k.Spec.NameSuffix,
		Namespace:               k.Spec.TargetNamespace,
		Components:              k.Spec.Components,
		IgnoreMissingComponents: k.Spec.IgnoreMissingComponents,
	}
	for i, what := range k.Spec.BuildMetadata {
		if what != kustomizev1.BuildMetadataOriginAnnotations && what != kustomizev1.BuildMetadataTransformerAnnotations {
			refused.add(indexed("spec.buildMetadata", i), "%q is neither originAnnotations nor transformerAnnotations", what)
		}
		o.BuildMetadata = append(o.BuildMetadata, string(what))
	}
	if m := k.Spec.CommonMetadata; m != nil {
		o.MetadataLabels, o.MetadataAnnotations = m.Labels, m.Annotations
	}
	for _, i := range k.Spec.Images {
		o.Images = append(o.Images, render.KustomizeImage{Name: i.Name, NewName: i.NewName, NewTag: i.NewTag, Digest: i.Digest})
	}
	for _, p := range k.Spec.Patches {
		o.Patches = append(o.Patches, render.KustomizePatch{Patch: p.Patch, Target: fluxTarget(p.Target)})
	}
	return legacyPatches(k, o, refused)
}

// legacyPatches adds v1beta2's two older ways of patching.
func legacyPatches(k *kustomizationObject, o render.KustomizeOptions, refused *SpecError) render.KustomizeOptions {
	for _, p := range k.spec.PatchesStrategicMerge {
		o.Patches = append(o.Patches, render.KustomizePatch{Patch: string(p.Raw)})
	}
	for i, p := range k.spec.PatchesJSON6902 {
		ops, err := json.Marshal(p.Patch)
		if err != nil {
			refused.add(indexed("spec.patchesJson6902", i), "%v", err)
			continue
		}
		o.Patches = append(o.Patches, render.KustomizePatch{Patch: string(ops), Target: fluxTarget(&p.Target)})
	}
	return o
}

func fluxTarget(t *kustomize.Selector) *render.KustomizeTarget {
	if t == nil {
		return nil
	}
	return &render.KustomizeTarget{Group: t.Group, Version: t.Version, Kind: t.Kind, Namespace: t.Namespace, Name: t.Name,
		AnnotationSelector: t.AnnotationSelector, LabelSelector: t.LabelSelector}
}
