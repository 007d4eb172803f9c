package controller

import (
	"path"
	"regexp"
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/render"
)

// capabilities are what charts are told of the cluster.
type capabilities = kube.Capabilities

// applicationSource is the model of one source; at is its path in the spec.
func applicationSource(app *argo.Application, s argo.ApplicationSource, at string, caps capabilities, refused *SpecError) source {
	if s.RepoURL == "" {
		refused.add(at+".repoURL", "is required")
	}
	single := len(app.Spec.Sources) == 0
	switch {
	case s.Path != "" && s.Chart != "":
		refused.add(at, "path and chart must not both be set")
	case path.IsAbs(s.Path):
		refused.add(at+".path", "%q is absolute; want a path below the repository's root", s.Path)
	case s.Path == "" && s.Chart == "" && (single || s.Ref == ""):
		refused.add(at, "path or chart is required")
	}
	if n := countSet(s.Helm != nil, s.Kustomize != nil, s.Directory != nil); n > 1 {
		refused.add(at, "only one of helm, kustomize and directory can be set")
	}
	out := source{
		name: strings.TrimPrefix(s.Ref, "$"),
		from: SourceRequest{Namespace: app.Namespace, URL: s.RepoURL, Chart: s.Chart, Ref: SourceRef{Revision: s.TargetRevision}},
	}
	if s.Path == "" && s.Chart == "" {
		return out
	}
	out.render = sourceRender(app, s, at, caps, refused)
	return out
}

func countSet(flags ...bool) (n int) {
	for _, f := range flags {
		if f {
			n++
		}
	}
	return n
}

func sourceRender(app *argo.Application, s argo.ApplicationSource, at string, caps capabilities, refused *SpecError) *render.Request {
	req := &render.Request{Path: path.Clean(s.Path), Helm: helmDefaults(app, caps)}
	env := newBuildEnv(app, s, refused)
	if s.Chart != "" {
		req.Path, req.Tool = ".", render.Helm
	}
	switch {
	case s.Helm != nil:
		helmOptions(&req.Helm, s.Helm, at+".helm", env)
		req.Tool = render.Helm
	case s.Kustomize != nil:
		req.Kustomize = kustomizeOptions(s.Kustomize, at+".kustomize", env)
		req.Tool = render.Kustomize
	case s.Directory != nil:
		req.Plain = directoryOptions(s.Directory, at+".directory", env)
		if !req.Plain.IsZero() {
			req.Tool = render.Plain
		}
	}
	return req
}

func directoryOptions(d *argo.SourceDirectory, at string, env buildEnv) render.PlainOptions {
	o := render.PlainOptions{Recurse: d.Recurse, Include: d.Include, Exclude: d.Exclude}
	if j := d.Jsonnet; j != nil {
		o.ExtVars = jsonnetVars(j.ExtVars, at+".jsonnet.extVars", env)
		o.TLAs = jsonnetVars(j.TLAs, at+".jsonnet.tlas", env)
		o.Libs = j.Libs
	}
	return o
}

func jsonnetVars(vars []argo.JsonnetVar, at string, env buildEnv) []render.JsonnetVar {
	var out []render.JsonnetVar
	for i, v := range vars {
		out = append(out, render.JsonnetVar{Name: v.Name, Value: env.expand(v.Value, indexed(at, i)+".value"), Code: v.Code})
	}
	return out
}

func helmDefaults(app *argo.Application, caps capabilities) render.HelmOptions {
	return render.HelmOptions{
		ReleaseName: app.Name,
		Namespace:   app.Spec.Destination.Namespace,
		KubeVersion: caps.KubeVersion,
		APIVersions: caps.APIVersions,
	}
}

func helmOptions(o *render.HelmOptions, h *argo.SourceHelm, at string, env buildEnv) {
	if h.Version != "" && h.Version != "v3" {
		env.refused.add(at+".version", "%q is not supported", h.Version)
	}
	if h.ReleaseName != "" {
		o.ReleaseName = h.ReleaseName
	}
	if h.Namespace != "" {
		o.Namespace = h.Namespace
	}
	if h.KubeVersion != "" {
		o.KubeVersion = h.KubeVersion
	}
	if len(h.APIVersions) > 0 {
		o.APIVersions = h.APIVersions
	}
	o.ValueFiles, o.IgnoreMissingValueFiles = valueFiles(h.ValueFiles, at+".valueFiles", env), h.IgnoreMissingValueFiles
	// valuesObject wins over values, as in Argo CD. JSON is YAML.
	o.Values = h.Values
	if h.ValuesObject != nil && len(h.ValuesObject.Raw) > 0 {
		o.Values = string(h.ValuesObject.Raw)
	}
	for i, p := range h.Parameters {
		value := env.expand(p.Value, indexed(at+".parameters", i)+".value")
		o.Parameters = append(o.Parameters, render.HelmParameter{Name: p.Name, Value: value, ForceString: p.ForceString})
	}
	for i, p := range h.FileParameters {
		file := env.expand(p.Path, indexed(at+".fileParameters", i)+".path")
		o.FileParameters = append(o.FileParameters, render.HelmParameter{Name: p.Name, Value: file})
	}
	o.SkipCRDs, o.SkipTests, o.SkipSchemaValidation = h.SkipCrds, h.SkipTests, h.SkipSchemaValidation
}

// refName is how a value file names another source.
var refName = regexp.MustCompile(`^\$[A-Za-z0-9_-]+$`)

// valueFiles expands all but the $NAME in front of a file of another source.
func valueFiles(files []string, at string, env buildEnv) []string {
	var out []string
	for i, file := range files {
		name, _, _ := strings.Cut(file, "/")
		if _, variable := env.values[strings.TrimPrefix(name, "$")]; variable || !refName.MatchString(name) {
			name = ""
		}
		out = append(out, name+env.expand(file[len(name):], indexed(at, i)))
	}
	return out
}

func kustomizeOptions(k *argo.SourceKustomize, at string, env buildEnv) render.KustomizeOptions {
	o := render.KustomizeOptions{
		NamePrefix: k.NamePrefix, NameSuffix: k.NameSuffix, Namespace: k.Namespace,
		CommonLabels: k.CommonLabels, LabelWithoutSelector: k.LabelWithoutSelector, LabelIncludeTemplates: k.LabelIncludeTemplates,
		ForceCommonLabels: k.ForceCommonLabels, CommonAnnotations: k.CommonAnnotations, ForceCommonAnnotations: k.ForceCommonAnnotations,
		Components: k.Components, IgnoreMissingComponents: k.IgnoreMissingComponents,
	}
	if k.CommonAnnotationsEnvsubst {
		o.CommonAnnotations = env.expandMap(k.CommonAnnotations, at+".commonAnnotations")
	}
	for i, image := range k.Images {
		o.Images = append(o.Images, parseKustomizeImage(env.expand(image, indexed(at+".images", i))))
	}
	for i, r := range k.Replicas {
		count := int64(r.Count.IntValue())
		if r.Count.String() != "0" && count == 0 {
			env.refused.add(indexed(at+".replicas", i)+".count", "%q is not a number", r.Count.String())
		}
		o.Replicas = append(o.Replicas, render.KustomizeReplicas{Name: r.Name, Count: count})
	}
	for _, p := range k.Patches {
		patch := render.KustomizePatch{Patch: p.Patch, Options: p.Options}
		if t := p.Target; t != nil {
			patch.Target = &render.KustomizeTarget{Group: t.Group, Version: t.Version, Kind: t.Kind, Name: t.Name, Namespace: t.Namespace,
				LabelSelector: t.LabelSelector, AnnotationSelector: t.AnnotationSelector}
		}
		o.Patches = append(o.Patches, patch)
	}
	return o
}

// parseKustomizeImage reads [NAME=]NEWNAME[:TAG|@DIGEST], as `kustomize edit
// set image` does. A NEWNAME of "*" keeps the name.
func parseKustomizeImage(s string) render.KustomizeImage {
	name, image, renamed := strings.Cut(s, "=")
	if !renamed {
		image = s
	}
	base, tag, dig := image, "", ""
	if before, after, ok := strings.Cut(image, "@"); ok {
		base, dig = before, after
	} else if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		base, tag = image[:i], image[i+1:]
	}
	out := render.KustomizeImage{Name: base, NewTag: tag, Digest: dig}
	if renamed {
		out.Name = name
		if base != "*" {
			out.NewName = base
		}
	}
	return out
}
