package render_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/fairway-cd/fairway/internal/render"
)

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n"
}

func names(r *render.Result) []string {
	var out []string
	for _, o := range r.Objects {
		out = append(out, o.GetName())
	}
	return out
}

func TestPlainFollowsArgoCD(t *testing.T) {
	files := map[string]string{
		"a.yaml":      configMap("a") + "---\n# nothing\n---\n" + configMap("a2"),
		"b.json":      `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}`,
		"list.yml":    "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l1}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l2}}\n",
		"empty.yaml":  "apiVersion: v1\nkind: ConfigMapList\nitems: null\n",
		"skip.yaml":   "# +argocd:skip-file-rendering\n" + configMap("skip"),
		"values.yaml": "some: values\n",
		"broken.yaml": "a: [\n",
		"notes.txt":   configMap("no"),
		"sub/c.yaml":  configMap("c"),
		"sub/d.yml":   configMap("d"),
	}
	for name, c := range map[string]struct {
		opts render.PlainOptions
		want []string
	}{
		"flat":            {render.PlainOptions{}, []string{"a", "a2", "b", "l1", "l2"}},
		"recurse":         {render.PlainOptions{Recurse: true}, []string{"a", "a2", "b", "l1", "l2", "c", "d"}},
		"include":         {render.PlainOptions{Recurse: true, Include: "{a*,sub/*}.yaml"}, []string{"a", "a2", "c"}},
		"star and slash":  {render.PlainOptions{Recurse: true, Include: "*.yml"}, []string{"l1", "l2", "d"}},
		"exclude":         {render.PlainOptions{Recurse: true, Exclude: "{b.json,sub/*}"}, []string{"a", "a2", "l1", "l2"}},
		"exclude is last": {render.PlainOptions{Include: "*.json", Exclude: "b*"}, nil},
	} {
		result, err := renderFiles(t, files, render.Request{Plain: c.opts})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := names(result); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

func TestPlainErrorsNameTheLine(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       render.Error
	}{
		"broken manifest":        {"a.yaml", configMap("a") + "---\n" + configMap("b") + "data:\n  x: y\n z: [\n", render.Error{Reason: render.InvalidYAML, Path: "a.yaml", Line: 11}},
		"broken after an object": {"a.yaml", configMap("a") + "---\nx: [\n", render.Error{Reason: render.InvalidYAML, Path: "a.yaml", Line: 6}},
		"no apiVersion":          {"a.yaml", "kind: A\nmetadata: {name: a}\n", render.Error{Reason: render.InvalidObject, Path: "a.yaml", Line: 1}},
		"no name":                {"a.yaml", "\n---\napiVersion: v1\nkind: A\nmetadata: {}\n", render.Error{Reason: render.InvalidObject, Path: "a.yaml", Line: 2}},
		"no object in json":      {"a.json", "{}", render.Error{Reason: render.InvalidObject, Path: "a.json", Line: 1}},
	} {
		_, err := renderFiles(t, map[string]string{c.file: c.text}, render.Request{Tool: render.Plain})
		var e *render.Error
		if !errors.As(err, &e) || e.Reason != c.want.Reason || e.Path != c.want.Path || e.Line != c.want.Line {
			t.Errorf("%s: got %v, want %s at %s:%d", name, err, c.want.Reason, c.want.Path, c.want.Line)
		}
	}
}

func TestKustomizeErrorsNameTheLine(t *testing.T) {
	_, err := renderFiles(t, map[string]string{
		"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": configMap("a") + "data:\n  x: y\n z: w\n",
	}, render.Request{})
	var e *render.Error
	if !errors.As(err, &e) || e.Reason != render.InvalidYAML || e.Path != "a.yaml" || e.Line < 5 {
		t.Errorf("got %v, want InvalidYAML at a.yaml:6", err)
	}
}
