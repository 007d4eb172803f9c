package render_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// TestKustomizeOptionsEqualEdit compares options with `kustomize edit`, by
// which Argo CD lays them over a kustomization.
func TestKustomizeOptionsEqualEdit(t *testing.T) {
	kustomize := oracle(t, "kustomize")
	for name, c := range map[string]struct {
		opts  render.KustomizeOptions
		edits [][]string
	}{
		"names": {render.KustomizeOptions{NamePrefix: "x-", NameSuffix: "-y", Namespace: "n"},
			[][]string{{"set", "nameprefix", "--", "x-"}, {"set", "namesuffix", "--", "-y"}, {"set", "namespace", "n"}}},
		"images": {render.KustomizeOptions{Images: []render.KustomizeImage{{Name: "example/app", NewTag: "7"}, {Name: "example/side", NewName: "other/side", Digest: "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}}},
			[][]string{{"set", "image", "example/app:7", "example/side=other/side@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}}},
		"replicas": {render.KustomizeOptions{Replicas: []render.KustomizeReplicas{{Name: "app", Count: 6}}},
			[][]string{{"set", "replicas", "app=6"}}},
		"labels": {render.KustomizeOptions{CommonLabels: map[string]string{"a": "b", "c": "d"}, CommonAnnotations: map[string]string{"owner": "other"}, ForceCommonAnnotations: true},
			[][]string{{"add", "label", "a:b"}, {"add", "label", "c:d"}, {"add", "annotation", "-f", "owner:other"}}},
		"without selector": {render.KustomizeOptions{CommonLabels: map[string]string{"a": "b"}, LabelWithoutSelector: true},
			[][]string{{"add", "label", "--without-selector", "a:b"}}},
		"templates": {render.KustomizeOptions{CommonLabels: map[string]string{"a": "b"}, LabelWithoutSelector: true, LabelIncludeTemplates: true},
			[][]string{{"add", "label", "--without-selector", "--include-templates", "a:b"}}},
		"components": {render.KustomizeOptions{Components: []string{"../component", "../none"}, IgnoreMissingComponents: true},
			[][]string{{"add", "component", "../component"}}},
		"patch": {render.KustomizeOptions{Patches: []render.KustomizePatch{{Patch: "- {op: add, path: /metadata/annotations/p, value: q}", Target: &render.KustomizeTarget{Kind: "Service"}}}},
			[][]string{{"add", "patch", "--kind", "Service", "--patch", "- {op: add, path: /metadata/annotations/p, value: q}"}}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "kustomize"))); err != nil {
				t.Fatal(err)
			}
			for _, edit := range c.edits {
				cmd := exec.Command(kustomize, append([]string{"edit"}, edit...)...)
				cmd.Dir = filepath.Join(dir, "overlay")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("kustomize edit %v: %v: %s", edit, err, out)
				}
			}
			want, err := run(t, kustomize, "build", "--load-restrictor", "LoadRestrictionsNone", filepath.Join(dir, "overlay"))
			if err != nil {
				t.Fatal(err)
			}
			tree, err := memtree.Load(filepath.Join("testdata", "kustomize"))
			if err != nil {
				t.Fatal(err)
			}
			got := mustRender(t, render.NewEngine(render.Limits{}), render.Request{Tree: tree, Path: "overlay", Kustomize: c.opts})
			compare(t, encodeAll(t, got), decodeAll(t, want))
		})
	}
}

func TestGenerateCollectsAsFlux(t *testing.T) {
	files := map[string]string{
		"apps/a.yaml":                    configMap("a"),
		"apps/deep/er/b.yml":             configMap("b"),
		"apps/own/kustomization.yaml":    "resources: [in.yaml]\nnamePrefix: own-\n",
		"apps/own/in.yaml":               configMap("in"),
		"apps/own/not-listed.yaml":       configMap("no"),
		"apps/own/below/not-listed.yaml": configMap("no"),
		"apps/readme.json":               "{}",
	}
	opts := render.KustomizeOptions{Generate: true, Namespace: "n", MetadataLabels: map[string]string{"team": "x"}}
	result, err := renderFiles(t, files, render.Request{Path: "apps", Kustomize: opts})
	if err != nil {
		t.Fatal(err)
	}
	got := names(result)
	slices.Sort(got)
	if want := []string{"a", "b", "own-in"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, o := range result.Objects {
		if o.GetNamespace() != "n" || o.GetLabels()["team"] != "x" {
			t.Errorf("%s: namespace %q, labels %v", o.GetName(), o.GetNamespace(), o.GetLabels())
		}
	}
	files["apps/values.yaml"] = "a: b\n"
	if _, err := renderFiles(t, files, render.Request{Path: "apps", Kustomize: opts}); reasonOf(err) != string(render.InvalidObject) {
		t.Errorf("a file that is no object: %v", err)
	}
}

// TestGenerateSaysWhatIsWrong: a chart, and an object that two files have.
func TestGenerateSaysWhatIsWrong(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"app/Chart.yaml: it is a Helm chart, which a Kustomization does not deliver": {
			"app/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "app/values.yaml": "a: b\n",
		},
		"app/b.yaml: ConfigMap same is in app/a.yaml too": {"app/a.yaml": configMap("same"), "app/b.yaml": configMap("same")},
		"app/two.yaml: ConfigMap same is in app/one.yaml too": {
			"app/one.yaml": configMap("same"), "app/two.yaml": configMap("same"), "app/kustomization.yaml": "resources: [one.yaml, two.yaml]\n",
		},
	} {
		_, err := renderFiles(t, files, render.Request{Path: "app", Kustomize: render.KustomizeOptions{Generate: true}})
		if err == nil || err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
		var hinted core.Hinted
		if !errors.As(err, &hinted) || hinted.Hint() == "" {
			t.Errorf("%v has no hint", err)
		}
	}
}

func TestHelmSources(t *testing.T) {
	request := render.Request{
		Tree: memtree.New(map[string]string{
			"global.yaml":                     "a: root\n",
			"charts/app/Chart.yaml":           "apiVersion: v2\nname: app\nversion: 1.0.0\ndependencies: [{name: lib, version: 1.x.x, repository: \"file://../lib\"}]\n",
			"charts/app/values.yaml":          "a: chart\nb: chart\nc: chart\nd: chart\n",
			"charts/app/templates/a.yaml":     `{{ include "lib.cm" . }}`,
			"charts/lib/Chart.yaml":           "apiVersion: v2\nname: lib\ntype: library\nversion: 1.0.0\n",
			"charts/lib/templates/_helps.tpl": "{{ define \"lib.cm\" }}apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: '{{ .Values.a }} {{ .Values.b }} {{ .Values.c }} {{ .Values.d }}'}{{ end }}",
		}),
		Path: "charts/app",
		Refs: map[string]core.Tree{"env": memtree.New(map[string]string{"prod/values.yaml": "b: ref\n"})},
		Helm: render.HelmOptions{
			ValueFiles: []string{"/global.yaml", "$env/prod/values.yaml", "none.yaml"}, IgnoreMissingValueFiles: true,
			Values: "c: inline\n", Parameters: []render.HelmParameter{{Name: "d", Value: "x,y"}},
		},
	}
	for _, r := range []render.Renderer{render.NewEngine(render.Limits{}), newPool(t, render.PoolOptions{Workers: 1})} {
		result := mustRender(t, r, request)
		if got, _, _ := unstructured.NestedString(result.Objects[0].Object, "data", "v"); got != "root ref inline x,y" {
			t.Errorf("got %q", got)
		}
		if !slices.Contains(result.Inputs, render.Input{Source: "env", Path: "prod/values.yaml", Kind: render.InputFile, Hash: hashOf(t, request.Refs["env"], "prod/values.yaml")}) {
			t.Error("the values file of the other source is not recorded")
		}
	}
}

func hashOf(t *testing.T, tree core.Tree, path string) string {
	t.Helper()
	entry, err := tree.Entry(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return entry.Hash
}
