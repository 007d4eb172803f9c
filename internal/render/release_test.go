package render_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	helmchart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// TestRelease renders as Helm records a release, in this process and in a
// worker, whose lookups come back to who asked.
func TestRelease(t *testing.T) {
	tree := memtree.New(map[string]string{
		"Chart.yaml":          "apiVersion: v2\nname: web\nversion: 1.2.3\nappVersion: \"7\"\n",
		"values.yaml":         "color: red\n",
		"crds/crd.yaml":       "kind: CustomResourceDefinition\n",
		"templates/NOTES.txt": "Hello {{ .Release.Name }}\n",
		"templates/_x.tpl":    "{{ define \"x\" }}x{{ end }}",
		"templates/a.yaml": "kind: ConfigMap # kept\nmetadata: {name: {{ .Release.Name }}-{{ .Release.Revision }}}\n" +
			"data: {up: \"{{ .Release.IsUpgrade }}\", color: {{ .Values.color }}, found: {{ (lookup \"v1\" \"Secret\" \"ns\" \"old\").kind }}}\n",
	})
	pool := render.NewPool(render.PoolOptions{})
	defer pool.Close()
	cached, err := render.NewCached(pool, t.TempDir(), render.CacheLimits{})
	if err != nil {
		t.Fatal(err)
	}
	var asked render.Lookup
	req := render.Request{Tree: tree, Path: ".", Tool: render.Helm,
		Helm: render.HelmOptions{ReleaseName: "mine", Values: "color: blue"},
		Release: &render.ReleaseOptions{Revision: 4, Upgrade: true, Lookup: func(_ context.Context, l render.Lookup) (map[string]any, error) {
			asked = l
			return map[string]any{"kind": "Found"}, nil
		}},
	}
	for name, r := range map[string]render.Renderer{"engine": render.NewEngine(render.Limits{}), "worker": cached} {
		asked = render.Lookup{}
		result, err := r.Render(t.Context(), req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		rel := result.Release
		if result.Key != "" || rel == nil || len(result.Objects) != 0 || len(rel.Files) != 1 || len(rel.CRDs) != 1 || rel.Notes != "Hello mine\n" {
			t.Fatalf("%s: %+v", name, result)
		}
		if want := (render.Lookup{APIVersion: "v1", Kind: "Secret", Namespace: "ns", Name: "old"}); asked != want {
			t.Errorf("%s: asked for %+v", name, asked)
		}
		f := rel.Files[0]
		for _, want := range []string{"# kept", "mine-4", `up: "true"`, "color: blue", "found: Found"} {
			if f.Path != "web/templates/a.yaml" || !strings.Contains(f.Text, want) {
				t.Errorf("%s: %s has no %q: %s", name, f.Path, want, f.Text)
			}
		}
		var c helmchart.Chart
		if err := json.Unmarshal(rel.Chart, &c); err != nil || c.Name() != "web" || c.Values["color"] != "red" || len(c.Templates) != 3 {
			t.Errorf("%s: the chart is %+v, %v", name, c.Metadata, err)
		}
	}
	req.Release.Lookup = func(context.Context, render.Lookup) (map[string]any, error) {
		return nil, errors.New("the API server is away")
	}
	if _, err := cached.Render(t.Context(), req); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("a failed lookup is %v", err)
	}
	req.Release = nil
	again, err := cached.Render(t.Context(), req)
	if err == nil && again.Release != nil {
		t.Error("what was a release's comes from the cache")
	}
}
