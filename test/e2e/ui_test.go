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

	if anonymous := page(shared.status(t).UIURL); strings.Contains(anonymous, "shown-in-the-ui") || !strings.Contains(anonymous, "Log in") {
		t.Error("without a credential the UI does not ask for one")
	}
	link := strings.TrimSpace(shared.must(t, "ui"))
	eventually(t, func() string {
		if !strings.Contains(page(link), ">shown-in-the-ui<") {
			return "the UI does not show the application"
		}
		return ""
	})
}
