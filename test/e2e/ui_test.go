package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// The UI in a real browser: without a credential it asks for one, with the
// link of `fairway ui` it shows what is delivered.
func TestUI(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed: hack/deps.sh test installs it")
	}
	page := func(url string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu",
			"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
			"--user-data-dir="+t.TempDir(), "--virtual-time-budget=8000", "--dump-dom", url).Output()
		if err != nil {
			t.Fatalf("chromium: %v", err)
		}
		return string(out)
	}
	shared.repository(t, "ui", map[string]string{"app/one.yaml": configMap("one", "first")})
	shared.apply(t, application("shown-in-the-ui", publicGitURL(t)+"/ui.git", "app", "ui"))
	shared.want(t, "Synced", "get", "application", "shown-in-the-ui", "-n", "argocd", "-o", "jsonpath={.status.sync.status}")

	shared.apply(t, "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: source-in-the-ui, namespace: default}\n"+
		"spec: {interval: 1h, url: \""+publicGitURL(t)+"/no-such-repository.git\"}\n")
	eventually(t, func() string {
		out := shared.must(t, "source", "list", "--kind", "gitrepository", "-n", "default", "--not-ready")
		if !containsAll(out, []string{"source-in-the-ui", "False", "no-such-repository.git"}) {
			return out
		}
		return ""
	})
	if out := shared.must(t, "source", "list", "--kind", "HelmChart", "-n", "default"); strings.Contains(out, "source-in-the-ui") {
		t.Errorf("charts: %s", out)
	}
	shared.refused(t, "want GitRepository, OCIRepository", "source", "list", "--kind", "Bucket")

	if anonymous := page(shared.status(t).UIURL); strings.Contains(anonymous, "shown-in-the-ui") || !strings.Contains(anonymous, "Log in") {
		t.Error("without a credential the UI does not ask for one")
	}
	link := strings.TrimSpace(shared.must(t, "ui"))
	eventually(t, func() string {
		if !strings.Contains(page(link), ">shown-in-the-ui<") {
			return "the UI does not show the application"
		}
		if !containsAll(page(link), []string{"source-in-the-ui", "Failed"}) {
			return "the UI does not show the source"
		}
		return ""
	})
}
