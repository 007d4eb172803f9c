package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/release"
	"github.com/fairway-cd/fairway/internal/render"
)

// render runs the chart's templates, and then the post-renderers.
func (h *helmReleaseRun) render(skipSchema bool) release.Render {
	return func(ctx context.Context, asked release.RenderRequest) (*release.Rendered, error) {
		out, err := h.template(ctx, asked, skipSchema)
		if err != nil {
			return nil, err
		}
		if out.Files, err = h.postRender(ctx, out.Files); err != nil {
			return nil, err
		}
		labels, annotations := h.originLabels(), map[string]string(nil)
		if m := h.hr.Spec.CommonMetadata; m != nil {
			labels, annotations = mergedMaps(m.Labels, labels), m.Annotations
		}
		out.Files, err = release.Label(out.Files, labels, annotations)
		return out, err
	}
}

// template runs the chart's templates in a worker.
func (h *helmReleaseRun) template(ctx context.Context, asked release.RenderRequest, skipSchema bool) (*release.Rendered, error) {
	values, err := yaml.Marshal(asked.Values)
	if err != nil {
		return nil, fmt.Errorf("encode the values: %w", err)
	}
	caps, err := h.capsOf(helmOwner(h.key))
	if err != nil {
		return nil, err
	}
	result, err := h.stages.Renderer.Render(ctx, render.Request{
		Tree: h.tree, Path: h.chart.path, Source: "HelmRelease " + h.key.String(), Tool: render.Helm,
		Helm: render.HelmOptions{
			ReleaseName: asked.Name, Namespace: asked.Namespace, Values: string(values), SkipSchemaValidation: skipSchema,
			KubeVersion: caps.KubeVersion, APIVersions: caps.APIVersions,
		},
		Release: &render.ReleaseOptions{Revision: asked.Revision, Upgrade: asked.Upgrade, Lookup: func(ctx context.Context, l render.Lookup) (map[string]any, error) {
			return asked.Lookup(ctx, l.APIVersion, l.Kind, l.Namespace, l.Name)
		}},
	})
	if err != nil {
		return nil, err
	}
	out := &release.Rendered{Chart: &chart.Chart{}, Notes: result.Release.Notes}
	if err := json.Unmarshal(result.Release.Chart, out.Chart); err != nil || out.Chart.Metadata == nil {
		return nil, fmt.Errorf("read the chart that the worker has sent: %w", err)
	}
	out.Chart.Metadata.Version = h.chart.version
	for _, f := range result.Release.Files {
		out.Files = append(out.Files, release.File(f))
	}
	for _, f := range result.Release.CRDs {
		out.CRDs = append(out.CRDs, release.File(f))
	}
	return out, nil
}

// postRender runs the post-renderers, on hooks as the strategy has it.
func (h *helmReleaseRun) postRender(ctx context.Context, files []release.File) ([]release.File, error) {
	for i, p := range h.hr.Spec.PostRenderers {
		if p.Kustomize == nil {
			continue
		}
		var err error
		if files, err = h.withStrategy(ctx, files, p.Kustomize); err != nil {
			return nil, fmt.Errorf("spec.postRenderers[%d]: %w", i, err)
		}
	}
	return files, nil
}

func (h *helmReleaseRun) withStrategy(ctx context.Context, files []release.File, k *helmv2.Kustomize) ([]release.File, error) {
	strategy := h.hr.GetPostRenderStrategy()
	if strategy == "" || strategy == helmv2.PostRenderStrategyCombined {
		return h.kustomize(ctx, files, k)
	}
	hooks, rest, err := release.Hooks(files)
	if err != nil {
		return nil, err
	}
	if rest, err = h.kustomize(ctx, rest, k); err != nil {
		return nil, err
	}
	if strategy == helmv2.PostRenderStrategySeparate {
		if hooks, err = h.kustomize(ctx, hooks, k); err != nil {
			return nil, err
		}
	}
	return release.Join(rest, hooks), nil
}

// kustomize runs one post-renderer in a worker.
func (h *helmReleaseRun) kustomize(ctx context.Context, files []release.File, k *helmv2.Kustomize) ([]release.File, error) {
	stream, err := release.Merge(files)
	if err != nil || strings.TrimSpace(stream) == "" {
		return files, err
	}
	options := render.KustomizeOptions{}
	for _, p := range k.Patches {
		options.Patches = append(options.Patches, render.KustomizePatch{Patch: p.Patch, Target: fluxTarget(p.Target)})
	}
	for _, i := range k.Images {
		options.Images = append(options.Images, render.KustomizeImage{Name: i.Name, NewName: i.NewName, NewTag: i.NewTag, Digest: i.Digest})
	}
	result, err := h.stages.Renderer.Render(ctx, render.Request{
		Tree: memtree.New(map[string]string{"kustomization.yaml": "resources: [all.yaml]\n", "all.yaml": stream}),
		Path: ".", Source: "post-renderer of HelmRelease " + h.key.String(), Tool: render.Kustomize, Kustomize: options,
		Release: &render.ReleaseOptions{}, // what comes out is for the record alone, and not for the cache
	})
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	for _, o := range result.Objects {
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", refOf(o), err)
		}
		out.WriteString("---\n" + string(text))
	}
	return release.Split(out.String())
}
