package release

import (
	"slices"
	"strings"
	"testing"
	"text/template"
)

// FuzzInert: whatever templates wrote, what Helm makes of it is the same.
func FuzzInert(f *testing.F) {
	for _, s := range []string{"a: {{ .x }}", "{{{", "{{- /* c */ -}}", "}} {{\"", "{{\"{{\"}}", "{ {{", "plain"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := template.New("x").Option("missingkey=zero").Parse(inert(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var out strings.Builder
		if err := parsed.Execute(&out, nil); err != nil || out.String() != text {
			t.Errorf("%q became %q, %v", text, out.String(), err)
		}
	})
}

const twoDocuments = `# a comment
apiVersion: v1
kind: ConfigMap
metadata:
  name: a
  labels: {have: it}
---
apiVersion: v1
kind: Pod
metadata:
  name: hook
  annotations:
    helm.sh/hook: test
`

func TestHooks(t *testing.T) {
	hooks, rest, err := Hooks([]File{{"web/templates/x.yaml", twoDocuments}, {"web/templates/y.yaml", "kind: Secret\nmetadata: {name: s}\n"}})
	if err != nil || len(hooks) != 1 || len(rest) != 2 || !strings.Contains(hooks[0].Text, "kind: Pod") || strings.Contains(rest[0].Text, "kind: Pod") {
		t.Errorf("hooks %+v, rest %+v, %v", hooks, rest, err)
	}
	joined := Join(rest, hooks)
	if len(joined) != 2 || !strings.Contains(joined[0].Text, "ConfigMap") || !strings.Contains(joined[0].Text, "kind: Pod") {
		t.Errorf("joined %+v", joined)
	}
}

func TestLabel(t *testing.T) {
	files, err := Label([]File{{"x", twoDocuments}}, map[string]string{"team": "a", "have": "mine"}, map[string]string{"note": "b"})
	if err != nil || len(files) != 1 {
		t.Fatalf("%+v, %v", files, err)
	}
	for _, want := range []string{"# a comment", "team: a", "note: b", "have: mine", "helm.sh/hook: test"} {
		if !strings.Contains(files[0].Text, want) {
			t.Errorf("no %q in\n%s", want, files[0].Text)
		}
	}
	if strings.Count(files[0].Text, "team: a") != 2 {
		t.Errorf("not on both:\n%s", files[0].Text)
	}
	if _, err := Label([]File{{"web/templates/x.yaml", "a: [\n"}}, map[string]string{"a": "b"}, nil); err == nil || !strings.Contains(err.Error(), "web/templates/x.yaml") {
		t.Errorf("what is no YAML: %v", err)
	}
}

func TestMergeAndSplit(t *testing.T) {
	in := []File{{"web/templates/x.yaml", twoDocuments}, {"web/templates/y.yaml", "kind: Secret\nmetadata: {name: s}\n"}}
	stream, err := Merge(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Split(stream)
	if err != nil {
		t.Fatal(err)
	}
	paths := make([]string, len(out))
	for i, f := range out {
		paths[i] = f.Path
		if strings.Contains(f.Text, annotationFile) || strings.Contains(f.Text, "annotations: {}") {
			t.Errorf("%s still has its mark:\n%s", f.Path, f.Text)
		}
	}
	if !slices.Equal(paths, []string{"web/templates/x.yaml", "web/templates/y.yaml"}) || !strings.Contains(out[0].Text, "kind: Pod") {
		t.Errorf("%+v", out)
	}
}
