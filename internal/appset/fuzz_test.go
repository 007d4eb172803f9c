package appset_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/core/memtree"
)

// FuzzFile reads any file as parameters: it is parameters, or it is an error
// that names the file, and what comes out can be encoded.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"a: b\nc: {d: [1, 2.5, null, true]}\n", "[{a: 1}, {b: 2}]", "{}", "", "[", "- 1", "a: &a [*a]", "a: &x [1]\nb: [*x, *x]\n", "? [a]\n: b\n", "\xff", "{{ .a }}", "path: x\n", "1: 2\n",
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, content []byte, goTemplate bool) {
		set := &argo.ApplicationSet{}
		set.Namespace = "argocd"
		set.Spec.GoTemplate = goTemplate
		set.Spec.Generators = []argo.ApplicationSetGenerator{{Git: &argo.GitGenerator{RepoURL: "x", Files: []argo.GitFileItem{{Path: "*"}}}}}
		set.Spec.Template.Name = "a"
		w := &world{tree: memtree.New(map[string][]byte{"dir/file": content})}
		apps, err := appset.Generate(t.Context(), set, inputs{w}, appset.Direct{}, appset.Limits{Applications: 10})
		if err != nil {
			var file *appset.FileError
			var app *appset.ApplicationError
			if errors.As(err, &file) && file.Path != "dir/file" || errors.As(err, &app) && app.Name != "a" {
				t.Errorf("error %v", err)
			}
			return
		}
		if _, err := json.Marshal(apps); err != nil {
			t.Error(err)
		}
	})
}

// FuzzTemplate fills in any template: it is a string, or a *TemplateError, and
// both ways of running it agree.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{
		"{{ .a }}", "{{a}}-{{ b.c }}", "{{", "}}", "{{ .a | upper }}", "{{ range $k, $v := . }}{{ $k }}{{ end }}", "{{ define \"x\" }}{{ . }}{{ end }}{{ template \"x\" .a }}",
		"{{ .b.c.d }}", "{{ index .list 9 }}", "{{ printf \"%d\" .a }}", "{{ slugify 3 true .a }}", "{{ toYaml . }}", "{{ fromYaml \"a: [\" }}", "{{ normalize .a }}", "{{/* */}}", "{{ .a", "{{{a}}}",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	params := []appset.Params{{"a": "x", "b": map[string]any{"c": "y"}, "list": []any{"1", 2.0}, "b.c": "flat"}, {}}
	f.Fuzz(func(t *testing.T, text string, goTemplate bool) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		job := appset.Job{At: "at", Value: map[string]any{"field": text}, Params: params, Go: goTemplate}
		here, err := appset.Direct{}.Fill(ctx, job)
		var wrong *appset.TemplateError
		if err != nil && !errors.As(err, &wrong) && ctx.Err() == nil {
			t.Fatalf("error %T %v", err, err)
		}
		if err == nil && len(here) != len(params) {
			t.Errorf("%d values", len(here))
		}
	})
}

// FuzzPatch applies any patch to an Application: what comes out is one, of the
// same project, or an error.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{
		"spec: {source: {path: x}}", "{}", "", "[]", "spec:\n", "metadata: {name: b}", "spec: {project: evil}", "$patch: delete", "$patch: replace\nspec: {}", "spec: {$patch: replace, project: evil}",
		"spec: {$retainKeys: [project]}", "spec: {sources: [{$patch: delete, path: x}]}", "spec: null", "metadata: null", "spec: {$setElementOrder/sources: []}", "metadata: {finalizers: [a], $deleteFromPrimitiveList/finalizers: [b]}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, patch string) {
		set := &argo.ApplicationSet{}
		set.Namespace = "argocd"
		set.Spec.Generators = []argo.ApplicationSetGenerator{{List: &argo.ListGenerator{ElementsYaml: "- {}"}}}
		set.Spec.Template.Name, set.Spec.Template.Spec.Project, set.Spec.TemplatePatch = "a", "mine", &patch
		apps, err := appset.Generate(t.Context(), set, inputs{&world{}}, appset.Direct{}, appset.Limits{})
		if err != nil {
			return
		}
		spec, ok := apps[0].Object["spec"].(map[string]any)
		if len(apps) != 1 || apps[0].GetNamespace() != "argocd" || ok && spec["project"] != "mine" {
			t.Errorf("made %v", apps[0].Object)
		}
	})
}
