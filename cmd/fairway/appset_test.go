package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/fairway-cd/fairway/api"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// TestAppSetCommands runs what needs only the Kubernetes API. What needs the
// engine is in test/e2e.
func TestAppSetCommands(t *testing.T) {
	cluster := testkit.StartCluster(t, testkit.ClusterOptions{KwokNodes: -1})
	if _, err := api.Install(t.Context(), cluster.Config); err != nil {
		t.Fatal(err)
	}
	config := func() (*rest.Config, string, error) { return cluster.Config, "default", nil }
	noServer := func(context.Context) (*apiClient, error) { return nil, errors.New("no server") }
	namespace := cluster.Namespace(t)
	run := func(args ...string) (string, error) {
		cmd := newAppSetCommand(config, noServer)
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(append(args, "-N", namespace))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	must := func(want string, args ...string) {
		t.Helper()
		if out, err := run(args...); err != nil || !strings.Contains(out, want) {
			t.Errorf("appset %v: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if out, err := run(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("appset %v: %v\n%s\nwant the error %q", args, err, out, want)
		}
	}
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const manifest = `apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: fleet}
spec:
  generators: [{list: {elements: [{a: b}]}}]
  syncPolicy: {applicationsSync: create-only}
  template:
    metadata: {name: 'x-{{a}}'}
    spec: {project: team, destination: {}, source: {repoURL: https://example.com/repo.git, path: x}}
`
	set := file("set.yaml", manifest)
	fails("there is no ApplicationSet "+namespace+"/fleet", "get", "fleet")
	must("applicationset 'fleet' created", "create", set)
	fails("is there", "create", set)
	must("unchanged", "create", set, "--upsert")
	must("updated", "create", file("other.yaml", strings.Replace(manifest, "x-{{a}}", "y-{{a}}", 1)), "--upsert")
	must("y-{{a}}", "get", "fleet", "-o", "yaml")
	must("create-only", "get", "fleet")
	must("team", "get", namespace+"/fleet")
	must("fleet", "list")
	must(`"policy": "create-only"`, "list", "-o", "json")
	fails("no server", "preview", set)
	for _, wrong := range [][]string{
		{"get"}, {"create"}, {"preview"}, {"preview", file("app.yaml", strings.Replace(manifest, "kind: ApplicationSet", "kind: Application", 1))},
		{"create", file("nameless.yaml", strings.Replace(manifest, "{name: fleet}", "{}", 1))}, {"preview", set, "--diff", "-o", "json"}, {"list", "-o", "xml"},
	} {
		var usage *exitError
		if out, err := run(wrong...); !errors.As(err, &usage) || usage.Code != exitUsage {
			t.Errorf("appset %v: %v\n%s", wrong, err, out)
		}
	}
	must("deleted", "delete", "fleet")
	fails("there is no ApplicationSet", "delete", "fleet")
}
