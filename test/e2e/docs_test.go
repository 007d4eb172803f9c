package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Commands of the guides and references do what they say, on a machine that
// has an instance and nothing else.
func TestCommandsOfTheDocumentation(t *testing.T) {
	ran := 0
	for _, page := range pages(t) {
		blocks := slices.DeleteFunc(readPage(t, page), func(b block) bool { return b.name == "" })
		if len(blocks) == 0 {
			continue
		}
		t.Run(strings.TrimSuffix(filepath.Base(page), ".md"), func(t *testing.T) {
			r := newReader(t, shared)
			for _, b := range blocks {
				r.run(t, page, b)
				ran++
			}
		})
	}
	if ran == 0 {
		t.Error("no page has commands that are run")
	}
	t.Logf("%d blocks", ran)
}

// Objects in the documentation are accepted by the API server.
func TestObjectsOfTheDocumentation(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		for _, b := range readPage(t, page) {
			if b.language != "yaml" {
				continue
			}
			checked += dryRun(t, page, b)
		}
	}
	if checked == 0 {
		t.Error("the documentation has no objects")
	}
}

// dryRun has the API server look at the objects of a block, and returns how
// many there are. What has no kind is a part of an object, or another file.
func dryRun(t *testing.T, page string, b block) int {
	t.Helper()
	checked := 0
	for _, document := range strings.Split(b.text, "\n---\n") {
		var object unstructured.Unstructured
		if err := yaml.UnmarshalStrict([]byte(document), &object.Object); err != nil {
			t.Errorf("%s:%d: %v", page, b.line, err)
			continue
		}
		if object.GetKind() == "" {
			continue
		}
		checked++
		if namespace := object.GetNamespace(); namespace != "" {
			ensureNamespace(t, namespace)
		}
		path := filepath.Join(t.TempDir(), "object.yaml")
		if err := os.WriteFile(path, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := shared.run(t.Context(), "kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", path); err != nil {
			t.Errorf("%s:%d: %v", page, b.line, err)
		}
	}
	return checked
}

func ensureNamespace(t *testing.T, name string) {
	t.Helper()
	if shared.kubectl(t, "get", "namespace", name, "--ignore-not-found", "-o", "name") == "" {
		shared.kubectl(t, "create", "namespace", name)
	}
}

// Every direct dependency is explained.
func TestDependenciesAreExplained(t *testing.T) {
	root := projectRoot(t)
	page, err := os.ReadFile(filepath.Join(root, "docs/design/dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"go.mod", "cluster/go.mod"} {
		modules := directDependencies(t, filepath.Join(root, file))
		if len(modules) == 0 {
			t.Errorf("%s has no direct dependencies", file)
		}
		for _, module := range modules {
			if !strings.Contains(string(page), "`"+module+"`") {
				t.Errorf("docs/design/dependencies.md does not say what %s of %s is for", module, file)
			}
		}
	}
}

// directDependencies are the modules that a go.mod requires for itself.
func directDependencies(t *testing.T, path string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &file); err != nil {
		t.Fatal(err)
	}
	var modules []string
	for _, r := range file.Require {
		if !r.Indirect {
			modules = append(modules, r.Path)
		}
	}
	return modules
}
