package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A copy that was restored paused delivers nothing and writes no status, until
// it is resumed; and it stays so over a restart.
func TestRestorePaused(t *testing.T) {
	own := newInstance(shared.bin, filepath.Join(t.TempDir(), "data"))
	t.Cleanup(func() { _, _ = own.run(context.Background(), "down") })
	own.must(t, "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort()), "--no-cross-namespace-refs")
	dir := own.repository(t, "held", map[string]string{"app/a.yaml": configMap("a", "one")})
	own.apply(t, application("held", own.publicGit(t)+"/held.git", "app", "held"))
	own.key(t, "held", "a", "one")
	file := filepath.Join(t.TempDir(), "monday.fairway")
	own.must(t, "backup", file, "--without-secrets")
	own.refused(t, "is not paused", "resume")
	own.must(t, "down")

	again := newInstance(shared.bin, filepath.Join(t.TempDir(), "copy"))
	t.Cleanup(func() { _, _ = again.run(context.Background(), "down") })
	again.must(t, "restore", file, "--port", fmt.Sprint(freePort()), "--paused")
	if out := again.must(t, "status"); !strings.Contains(out, "paused") || !strings.Contains(out, "fairway resume") {
		t.Errorf("status: %s", out)
	}
	config, err := os.ReadFile(filepath.Join(again.data, "instance.yaml"))
	if err != nil || !strings.Contains(string(config), "noCrossNamespaceRefs: true") {
		t.Errorf("the lockdown is not restored: %v\n%s", err, config)
	}
	revision := again.kubectl(t, "get", "application", "held", "-n", "argocd", "-o", "jsonpath="+syncRevision)
	again.git(t, dir, "remote", "set-url", "origin", again.status(t).GitURL+"/held.git")
	again.push(t, dir, map[string]string{"app/a.yaml": configMap("a", "two")})
	again.apply(t, application("fresh", again.publicGit(t)+"/held.git", "app", "fresh"))
	again.must(t, "down")
	again.must(t, "up")
	again.hasLooked(t, "application")
	held := func() {
		t.Helper()
		if got := again.kubectl(t, "get", "configmap", "a", "-n", "held", "-o", "jsonpath={.data.key}"); got != "one" {
			t.Errorf("delivered although paused: %s", got)
		}
		if got := again.kubectl(t, "get", "application", "held", "-n", "argocd", "-o", "jsonpath="+syncRevision); got != revision {
			t.Errorf("the status was written: %s, was %s", got, revision)
		}
		if got := again.kubectl(t, "get", "application", "fresh", "-n", "argocd", "-o", "jsonpath={.status}{.metadata.finalizers}"); got != "" {
			t.Errorf("a new Application was touched: %s", got)
		}
	}
	held()
	if out, err := again.run(t.Context(), "app", "diff", "held"); err == nil || !strings.Contains(out, "+  key: two") {
		t.Errorf("diff: %v\n%s", err, out)
	}
	held()

	again.must(t, "resume")
	again.key(t, "held", "a", "two")
	again.key(t, "fresh", "a", "two")
	if out := again.must(t, "status"); strings.Contains(out, "paused") {
		t.Errorf("status after it was resumed: %s", out)
	}
	again.must(t, "down")
	if out := again.must(t, "status"); strings.Contains(out, "paused") {
		t.Errorf("status after it was resumed and stopped: %s", out)
	}
}

const syncRevision = "{.status.sync.revision}"

// hasLooked waits until the controller has looked at something.
func (i *instance) hasLooked(t *testing.T, controller string) {
	t.Helper()
	eventually(t, func() string {
		s := i.status(t)
		u, err := url.Parse(s.GitURL)
		if err != nil {
			return err.Error()
		}
		token, _ := u.User.Password()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.UIURL+"metrics", nil)
		if err != nil {
			return err.Error()
		}
		req.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			return err.Error()
		}
		for line := range strings.Lines(string(body)) {
			name, count, _ := strings.Cut(strings.TrimSpace(line), "} ")
			if strings.HasPrefix(name, `controller_runtime_reconcile_total{controller="`+controller+`",result="success"`) && count != "0" {
				return ""
			}
		}
		return "the " + controller + " controller has looked at nothing"
	})
}
