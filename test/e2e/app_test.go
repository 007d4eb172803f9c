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

// TestAppCommands types what a user of Argo CD types, under our name, on a
// repository that a mirror rule puts where the commands say it is.
func TestAppCommands(t *testing.T) {
	dir := shared.repository(t, "gitops-cli", map[string]string{
		"apps/web-app/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: one}\n",
	})
	shared.must(t, "repo", "mirror", "https://github.com/myorg/gitops-repo", "gitops-cli")
	shared.must(t, "kubectl", "create", "namespace", "cli-production")
	create := "app create web-cli --repo https://github.com/myorg/gitops-repo --path apps/web-app --dest-server https://kubernetes.default.svc --dest-namespace cli-production --sync-policy automated"
	shared.must(t, strings.Fields(create)...)
	shared.must(t, "app", "wait", "web-cli", "--timeout", "60")
	if out := shared.must(t, "app", "diff", "web-cli"); out != "" {
		t.Errorf("a difference right after the sync: %s", out)
	}

	// A change by hand is a difference, and the exit code says so.
	shared.must(t, "kubectl", "-n", "cli-production", "patch", "configmap", "a", "--type=merge", "-p", `{"data":{"key":"hand"}}`)
	eventually(t, func() string {
		out, err := shared.run(t.Context(), "app", "diff", "web-cli")
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, "-  key: hand") || !strings.Contains(out, "+  key: one") {
			return "diff: " + out
		}
		return ""
	})
	shared.must(t, "app", "sync", "web-cli")
	if out := shared.must(t, "kubectl", "-n", "cli-production", "get", "configmap", "a", "-o", "jsonpath={.data.key}"); out != "one" {
		t.Errorf("after the sync the key is %q", out)
	}

	shared.push(t, dir, map[string]string{"apps/web-app/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: two}\n"})
	var history []struct {
		ID       int64
		Revision string
	}
	eventually(t, func() string {
		out := shared.must(t, "app", "history", "web-cli", "-o", "json")
		if err := json.Unmarshal([]byte(out), &history); err != nil || len(history) != 2 {
			return "history: " + out
		}
		return ""
	})
	if out := shared.must(t, "app", "render", "web-cli"); !strings.Contains(out, "key: two") {
		t.Errorf("render: %s", out)
	}
	if err := os.WriteFile(filepath.Join(dir, "apps/web-app/a.yaml"), []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: local}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := shared.must(t, "app", "render", "web-cli", "--local", dir); !strings.Contains(out, "key: local") {
		t.Errorf("render --local: %s", out)
	}

	if out := shared.must(t, "app", "rollback", "web-cli", history[0].Revision, "--reason", "two is bad"); !strings.Contains(out, "apps/web-app/a.yaml") {
		t.Errorf("rollback: %s", out)
	}
	eventually(t, func() string {
		out := shared.must(t, "kubectl", "-n", "cli-production", "get", "configmap", "a", "-o", "jsonpath={.data.key}")
		if out != "one" {
			return "after the rollback the key is " + out
		}
		return ""
	})
	shared.must(t, "app", "pin", "web-cli", "--reason", "a test")
	eventually(t, func() string {
		if out := shared.must(t, "app", "get", "web-cli"); !strings.Contains(out, "Pinned: pinned to") {
			return out
		}
		return ""
	})
	shared.must(t, "app", "unpin", "web-cli")
	if out := shared.must(t, "app", "list"); !strings.Contains(out, "web-cli") {
		t.Errorf("list: %s", out)
	}
	shared.must(t, "app", "delete", "web-cli")
	eventually(t, func() string {
		if out, err := shared.run(t.Context(), "kubectl", "-n", "cli-production", "get", "configmap", "a"); err == nil {
			return "still there: " + out
		}
		return ""
	})
}
