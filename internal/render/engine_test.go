package render_test

import (
	"context"
	"errors"
	"testing"

	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// renderFiles renders files in this process.
func renderFiles(t testing.TB, files map[string]string, req render.Request) (*render.Result, error) {
	t.Helper()
	req.Tree = memtree.New(files)
	if req.Path == "" {
		req.Path = "."
	}
	return render.NewEngine(render.Limits{}).Render(context.Background(), req)
}

// overlayFiles are a small base and overlay.
func overlayFiles() map[string]string {
	return map[string]string{
		"README.md":               "nobody reads this",
		"base/kustomization.yaml": "resources: [cm.yaml]\n",
		"base/cm.yaml":            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1'}\n",
		"over/kustomization.yaml": "resources: [../base]\nnamePrefix: x-\n",
	}
}

func TestKustomizeRecordsWhatItRead(t *testing.T) {
	result, err := renderFiles(t, overlayFiles(), render.Request{Path: "over"})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Objects) != 1 || result.Objects[0].GetName() != "x-a" || result.Tool != render.Kustomize {
		t.Fatalf("rendered %v with %s", result.Objects, result.Tool)
	}
	read := map[string]render.InputKind{}
	for _, in := range result.Inputs {
		read[in.Path] = in.Kind
	}
	for path, kind := range map[string]render.InputKind{
		"over/kustomization.yaml": render.InputFile,
		"over/kustomization.yml":  render.InputMissing,
		"base/kustomization.yaml": render.InputFile,
		"base/cm.yaml":            render.InputFile,
		"base":                    render.InputType,
	} {
		if read[path] != kind {
			t.Errorf("%s was recorded as %q, want %q", path, read[path], kind)
		}
	}
	if _, ok := read["README.md"]; ok {
		t.Error("README.md was not read, but is recorded")
	}
}

func TestKeyFollowsWhatWasRead(t *testing.T) {
	keyOf := func(change func(map[string]string)) string {
		files := overlayFiles()
		change(files)
		result, err := renderFiles(t, files, render.Request{Path: "over"})
		if err != nil {
			t.Fatal(err)
		}
		return result.Key
	}
	same := keyOf(func(map[string]string) {})
	if same == "" {
		t.Fatal("no key")
	}
	for name, change := range map[string]func(map[string]string){
		"unrelated file":     func(f map[string]string) { f["README.md"] = "changed" },
		"new unrelated file": func(f map[string]string) { f["base/other.yaml"] = "a: 1" },
	} {
		if keyOf(change) != same {
			t.Errorf("%s: the key changed", name)
		}
	}
	for name, change := range map[string]func(map[string]string){
		"content": func(f map[string]string) { f["base/cm.yaml"] += "# more\n" },
		"overlay": func(f map[string]string) { f["over/kustomization.yaml"] += "nameSuffix: -y\n" },
	} {
		if keyOf(change) == same {
			t.Errorf("%s: the key did not change", name)
		}
	}
}

func TestValuesFileThatIsADirectoryIsTheSourcesFault(t *testing.T) {
	_, err := renderFiles(t, map[string]string{
		"Chart.yaml":        "apiVersion: v2\nname: a\nversion: 1.0.0\n",
		"templates/cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
	}, render.Request{Helm: render.HelmOptions{ValueFiles: []string{"templates"}}})
	var renderErr *render.Error
	if !errors.As(err, &renderErr) || renderErr.Reason != render.PathNotFound {
		t.Errorf("got %v, want the reason %s", err, render.PathNotFound)
	}
}
