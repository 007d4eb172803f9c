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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/api"
	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// TestAppCommands runs what needs only the Kubernetes API: an object is
// created, shown, held, rendered from local files and deleted. What needs the
// engine is in test/e2e.
func TestAppCommands(t *testing.T) {
	cluster := testkit.StartCluster(t, testkit.ClusterOptions{KwokNodes: -1})
	if _, err := api.Install(t.Context(), cluster.Config); err != nil {
		t.Fatal(err)
	}
	config := func() (*rest.Config, string, error) { return cluster.Config, "default", nil }
	noServer := func(context.Context) (*apiClient, error) { return nil, errors.New("no server") }
	o := &appOptions{config: config, namespace: cluster.Namespace(t)}
	c, err := o.client()
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := newAppCommand(config, noServer)
		var out bytes.Buffer
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(append(args, "-N", o.namespace))
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	must := func(want string, args ...string) {
		t.Helper()
		if out, err := run(args...); err != nil || !strings.Contains(out, want) {
			t.Errorf("app %v: %v\n%s\nwant %q", args, err, out, want)
		}
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if out, err := run(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("app %v: %v\n%s\nwant the error %q", args, err, out, want)
		}
	}
	create := []string{"create", "web-app", "--repo", "https://github.com/myorg/gitops-repo", "--path", "apps/web-app",
		"--dest-server", "https://kubernetes.default.svc", "--dest-namespace", "production", "--sync-policy", "automated"}
	must("application 'web-app' created", create...)
	must("unchanged", create...)
	heal := append(create, "--self-heal", "--auto-prune", "--sync-option", "CreateNamespace=true", "--helm-set", "a=b")
	fails("with another spec", heal...)
	must("updated", append(heal, "--upsert")...)
	app := &argo.Application{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: o.namespace, Name: "web-app"}, app); err != nil {
		t.Fatal(err)
	}
	if p := app.Spec.SyncPolicy; !p.Automated.Prune || !p.Automated.SelfHeal || p.SyncOptions[0] != "CreateNamespace=true" || app.Spec.Source.Helm.Parameters[0].Name != "a" {
		t.Errorf("spec %+v", app.Spec)
	}
	must("Automated (Prune) (SelfHeal)", "get", "web-app")
	must(`"kind": "Application"`, "list", "-o", "json")
	must("Unknown", "list")
	must("ID", "history", "web-app")
	must("pinned to 0123456", "pin", "web-app", "--revision", "0123456789012345678901234567890123456789", "--reason", "incident")
	must("incident", "get", "web-app", "-o", "yaml")
	must("follows its source again", "unpin", "web-app")
	must("is not pinned", "unpin", "web-app")
	must("asked for", "sync", "web-app", "--async", "--prune")
	fails("in progress", "sync", "web-app", "--async")
	fails("after 1s", "wait", "web-app", "--timeout", "1")
	fails("no server", "diff", "web-app")

	dir := t.TempDir()
	chart := map[string]string{
		"apps/web-app/Chart.yaml":        "apiVersion: v2\nname: c\nversion: 1.0.0\n",
		"apps/web-app/templates/cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: \"{{ .Values.a }}\"}\n",
	}
	for name, content := range chart {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must("a: b", "render", "web-app", "--local", dir)

	for _, wrong := range [][]string{
		{"get"}, {"create", "x"}, {"create", "x", "--repo", "r", "--path", "p", "--sync-policy", "perhaps"},
		{"create", "x", "--repo", "r", "--path", "p", "--self-heal"}, {"sync", "web-app", "--resource", "x"}, {"list", "-o", "xml"},
	} {
		var usage *exitError
		if out, err := run(wrong...); !errors.As(err, &usage) || usage.Code != exitUsage {
			t.Errorf("app %v: %v\n%s", wrong, err, out)
		}
	}
	must("deleted", "delete", "web-app", "--cascade=false")
	fails("there is no Application", "get", "web-app")
}
