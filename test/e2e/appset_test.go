package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestApplicationSet types what a user of ApplicationSets does: look before,
// create, push, and look again. Templates run in the server's workers.
func TestApplicationSet(t *testing.T) {
	dir := shared.repository(t, "appset-fleet", map[string]string{
		"apps/one/a.yaml":      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fleet-one}\ndata: {key: one}\n",
		"apps/one/config.json": `{"name": "one", "namespace": "appset-fleet"}`,
	})
	shared.must(t, "kubectl", "create", "namespace", "appset-fleet")
	file := filepath.Join(t.TempDir(), "fleet.yaml")
	const url = "https://git.example/appset-fleet"
	shared.must(t, "repo", "mirror", url, "appset-fleet")
	manifest := strings.ReplaceAll(`apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: appset-fleet, namespace: argocd}
spec:
  goTemplate: true
  goTemplateOptions: [missingkey=error]
  generators:
  - git: {repoURL: 'THERE', revision: HEAD, files: [{path: 'apps/**/config.json'}]}
  template:
    metadata: {name: 'fleet-{{ .name }}'}
    spec:
      project: default
      source: {repoURL: 'THERE', path: '{{ .path.path }}', directory: {include: '*.yaml'}}
      destination: {server: https://kubernetes.default.svc, namespace: '{{ .namespace }}'}
      syncPolicy: {automated: {prune: true}}
`, "THERE", url)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// preview returns what would be done, and checks the exit code.
	preview := func(want int) string {
		t.Helper()
		out, failure := shared.run(t.Context(), "appset", "preview", file, "-o", "json")
		code := 0
		var exit *exec.ExitError
		if errors.As(failure, &exit) {
			code = exit.ExitCode()
		}
		if code != want {
			t.Errorf("preview: exit code %d, want %d: %v", code, want, failure)
		}
		var items []struct{ Action, Name string }
		if err := json.Unmarshal([]byte(out), &items); err != nil {
			t.Fatalf("preview: %v: %s: %v", err, out, failure)
		}
		var all []string
		for _, item := range items {
			all = append(all, item.Action+" "+item.Name)
		}
		return strings.Join(all, ", ")
	}
	write(manifest)
	if got := preview(1); got != "Create fleet-one" {
		t.Errorf("preview: %s", got)
	}
	shared.must(t, "appset", "create", file)
	waitFor := func(name, value string) {
		t.Helper()
		eventually(t, func() string {
			out, err := shared.run(t.Context(), "kubectl", "-n", "appset-fleet", "get", "configmap", name, "-o", "jsonpath={.data.key}")
			if err != nil || out != value {
				return name + " is " + out + "\n" + shared.must(t, "appset", "get", "appset-fleet")
			}
			return ""
		})
	}
	waitFor("fleet-one", "one")
	if got := preview(0); got != "Keep fleet-one" {
		t.Errorf("preview: %s", got)
	}
	shared.push(t, dir, map[string]string{
		"apps/two/a.yaml":      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fleet-two}\ndata: {key: two}\n",
		"apps/two/config.json": `{"name": "two", "namespace": "appset-fleet"}`,
	})
	waitFor("fleet-two", "two")

	// What is wrong is said, by the preview and by the object, and deletes nothing.
	write(strings.Replace(manifest, "{{ .name }}", "{{ .nickname }}", 1))
	if out, err := shared.run(t.Context(), "appset", "preview", file); err == nil || !strings.Contains(err.Error()+out, "nickname") {
		t.Errorf("preview of a wrong template: %v %s", err, out)
	}
	shared.push(t, dir, map[string]string{"apps/two/config.json": `{"name": `})
	eventually(t, func() string {
		out := shared.must(t, "appset", "get", "appset-fleet")
		if !strings.Contains(out, "apps/two/config.json") || !strings.Contains(out, "fleet-two") {
			return out
		}
		return ""
	})
	waitFor("fleet-two", "two")
	if out := shared.must(t, "appset", "list"); !strings.Contains(out, "appset-fleet") || !strings.Contains(out, "Error") {
		t.Errorf("list: %s", out)
	}
	shared.must(t, "appset", "delete", "appset-fleet")
	eventually(t, func() string {
		if out, err := shared.run(t.Context(), "kubectl", "-n", "appset-fleet", "get", "configmap", "fleet-one"); err == nil {
			return "still there: " + out
		}
		return ""
	})
}
