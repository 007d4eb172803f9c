package render

import (
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"

	release "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// helm renders the directory's chart as `helm template --include-crds` does:
// CRDs, then manifests in the order of installation, then hooks, with their
// annotations. NOTES.txt is left out. Where the output is another one each
// time, the result says by which function.
func (j *job) helm(result *Result) error {
	chrt, err := j.loadChart()
	if err != nil {
		return err
	}
	values, err := j.helmValues()
	if err != nil {
		return err
	}
	secrets := j.helmSecrets(chrt, values)
	render, err := j.renderValues(chrt, values)
	if err != nil {
		return j.chartError(err, secrets)
	}
	calls := &impureCalls{}
	funcs := calls.funcs()
	if j.req.looksUp() {
		funcs["lookup"] = j.lookup
	}
	files, err := engine.Engine{CustomTemplateFuncs: funcs}.Render(chrt, render)
	if err != nil {
		return j.chartError(err, secrets)
	}
	if j.req.Release != nil {
		result.Uncacheable = "a release"
		result.Release, err = j.release(chrt, files)
		return err
	}
	result.Objects, err = j.chartObjects(chrt, files, secrets)
	result.Uncacheable = calls.first()
	return err
}

// renderValues does what helm's install action does before it renders.
func (j *job) renderValues(chrt *chart.Chart, values map[string]any) (common.Values, error) {
	opts := j.req.Helm
	caps, err := j.capabilities()
	if err != nil {
		return nil, err
	}
	if v := chrt.Metadata.KubeVersion; v != "" && !chartutil.IsCompatibleRange(v, caps.KubeVersion.String()) {
		return nil, NewError(ChartFailed, path.Join(j.dir, "Chart.yaml"), 0,
			"the chart requires kubeVersion %s, the cluster is %s", v, caps.KubeVersion.Version)
	}
	if err := chartutil.ProcessDependencies(chrt, values); err != nil {
		return nil, err
	}
	if !opts.SkipSchemaValidation {
		if err := checkSchemas(chrt, j.dir); err != nil {
			return nil, err
		}
	}
	name := opts.ReleaseName
	if name == "" {
		name = "release-name" // helm template's default
	}
	namespace := opts.Namespace
	if namespace == "" {
		namespace = "default"
	}
	return util.ToRenderValuesWithSchemaValidation(chrt, values,
		j.releaseOptions(name, namespace), caps, opts.SkipSchemaValidation)
}

func (j *job) releaseOptions(name, namespace string) common.ReleaseOptions {
	o := common.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}
	if r := j.req.Release; r != nil {
		o.Revision, o.IsInstall, o.IsUpgrade = r.Revision, !r.Upgrade, r.Upgrade
	}
	return o
}

func (j *job) capabilities() (*common.Capabilities, error) {
	caps := common.DefaultCapabilities.Copy()
	if v := j.req.Helm.KubeVersion; v != "" {
		parsed, err := common.ParseKubeVersion(v)
		if err != nil {
			return nil, NewError(ChartFailed, "", 0, "the Kubernetes version %q is not one", v)
		}
		caps.KubeVersion = *parsed
	}
	caps.APIVersions = append(slices.Clone(caps.APIVersions), j.req.Helm.APIVersions...)
	return caps, nil
}

// chartObjects sorts what the templates wrote and decodes it.
func (j *job) chartObjects(chrt *chart.Chart, files map[string]string, secrets redactor) ([]*unstructured.Unstructured, error) {
	var size int64
	for name, text := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(files, name)
			continue
		}
		size += int64(len(text))
	}
	if size > j.limits.MaxOutputBytes {
		return nil, NewError(LimitExceeded, j.dir, 0, "the templates write %d bytes, the limit is %d", size, j.limits.MaxOutputBytes)
	}
	hooks, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, j.brokenManifest(files, err, secrets)
	}
	var objects []*unstructured.Unstructured
	add := func(file, text string) error {
		more, err := j.objects(j.inChart(chrt, file), []byte(text))
		if err != nil {
			return err
		}
		objects = append(objects, more...)
		return j.limitObjects(len(objects), j.dir)
	}
	if !j.req.Helm.SkipCRDs {
		for _, crd := range chrt.CRDObjects() {
			if err := add(crd.Filename, string(crd.File.Data)); err != nil {
				return nil, err
			}
		}
	}
	for _, m := range manifests {
		if err := add(m.Name, m.Content); err != nil {
			return nil, err
		}
	}
	for _, h := range hooks {
		if j.req.Helm.SkipTests && slices.Contains(h.Events, release.HookTest) {
			continue
		}
		if err := add(h.Path, h.Manifest); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// inChart is the path in the tree of a template or CRD, which helm names by
// its chart: "web/charts/db/templates/x.yaml" for "templates/x.yaml" in the
// dependency db of web.
func (j *job) inChart(chrt *chart.Chart, name string) string {
	if rest, ok := strings.CutPrefix(name, chrt.Name()+"/"); ok {
		return path.Join(j.dir, rest)
	}
	return path.Join(j.dir, name)
}

// brokenManifest finds the line that is no YAML in what the templates wrote.
// The line is the output's: helm does not know the template's.
func (j *job) brokenManifest(files map[string]string, err error, secrets redactor) error {
	for _, name := range sortedKeys(files) {
		if strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		for _, doc := range splitDocuments([]byte(files[name])) {
			if _, _, docErr := doc.decode(); docErr != nil {
				e := doc.at(name, docErr)
				return NewError(InvalidYAML, j.inTemplate(name), 0, "line %d of what the template writes: %s", e.Line, secrets.redact(e.Msg))
			}
		}
	}
	return j.chartError(err, secrets)
}

// inTemplate is inChart where only the name is at hand.
func (j *job) inTemplate(name string) string {
	if _, rest, ok := strings.Cut(name, "/"); ok {
		return path.Join(j.dir, rest)
	}
	return path.Join(j.dir, name)
}
