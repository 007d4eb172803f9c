package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The doors, tried from the outside: what is refused is refused with one clear
// sentence, and what dies comes back.

// TestLife is an instance's life: started twice, killed, broken, removed.
func TestLife(t *testing.T) {
	own := newInstance(shared.bin, filepath.Join(t.TempDir(), "data"))
	t.Cleanup(func() { _, _ = own.run(context.Background(), "down") })
	taken := httptest.NewServer(http.NotFoundHandler())
	defer taken.Close()
	busy := taken.URL[strings.LastIndex(taken.URL, ":")+1:]
	own.refused(t, "cannot be taken", "up", "--nodes", "kwok", "--port", busy)

	// What did not work is not remembered: this one would otherwise fail too.
	own.must(t, "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort()))
	own.must(t, "up")
	own.refused(t, "runs with other options", "up", "--port", fmt.Sprint(freePort()))

	before := own.status(t)
	kill(t, before.ClusterPID)
	eventually(t, func() string {
		if _, err := own.run(t.Context(), "kubectl", "get", "namespaces"); err != nil {
			return err.Error()
		}
		if now := own.status(t); now.ClusterPID == before.ClusterPID || now.PID != before.PID {
			return fmt.Sprintf("the processes are %d and %d", now.PID, now.ClusterPID)
		}
		return ""
	})
	kill(t, before.PID)
	own.must(t, "up")
	if now := own.status(t); now.GitURL == "" || now.PID == before.PID {
		t.Errorf("after the kill: %+v", now)
	}

	config := filepath.Join(own.data, "instance.yaml")
	if err := os.WriteFile(config, []byte("port: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	own.refused(t, "instance.yaml", "status")
	own.must(t, "down")
	own.must(t, "down", "--purge")
	if _, err := os.Stat(own.data); !os.IsNotExist(err) {
		t.Errorf("the data are still there: %v", err)
	}
	own.must(t, "down", "--purge")
}

func TestPurgeForeign(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "run", "precious")
	if err := os.MkdirAll(precious, 0o700); err != nil {
		t.Fatal(err)
	}
	shared.must(t, "--data", dir, "down")
	shared.refused(t, "is not an instance", "--data", dir, "down", "--purge")
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

// refused runs fairway, which must fail and say so.
func (i *instance) refused(t *testing.T, says string, args ...string) {
	t.Helper()
	if _, err := i.run(t.Context(), args...); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("fairway %s: got %v, want %q", strings.Join(args, " "), err, says)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if pid <= 0 {
		t.Fatalf("no process to kill: %d", pid)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// What a push is refused for is in the words of the one who pushes.
func TestPushRefused(t *testing.T) {
	shared.repository(t, "doors", map[string]string{"a.yaml": configMap("doors", "a")})
	as := func(name string, can string) string {
		token := strings.TrimSpace(shared.must(t, "token", "create", name, "--can", can))
		return strings.Replace(shared.status(t).UIURL, "://", "://x:"+token+"@", 1) + "git"
	}
	operator := shared.status(t).GitURL
	dir := t.TempDir()
	shared.git(t, dir, "init", "-q", "-b", "main")
	shared.commit(t, dir, map[string]string{"b.yaml": configMap("doors", "b")})
	for name, c := range map[string]struct{ url, ref, says string }{
		"without a token":           {shared.status(t).UIURL + "git/doors.git", "main:b", "could not read Username"},
		"no right to update":        {as("doors-reader", "pull:doors") + "/doors.git", "main:b", "may not update"},
		"no right to create":        {as("doors-maker", "push:doors-new") + "/doors-new.git", "main", "may not create"},
		"nothing there to update":   {as("doors-curious", "pull:doors-none") + "/doors-none.git", "main", "may not create"},
		"a namespace that is not":   {operator + "/no-such-tenant/web.git", "main", "namespace no-such-tenant does not exist"},
		"a name that leaves":        {operator + "/..%2f..%2fetc.git", "main", "invalid name"},
		"a reference of the server": {operator + "/doors.git", "main:refs/changes/1/head", "written by the server alone"},
		"a history that differs":    {operator + "/doors.git", "main", "rejected"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := shared.exec(t.Context(), dir, "git", "-c", "credential.helper=", "push", c.url, c.ref)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

// A robot that cannot be made whole is not made at all.
func TestTokenForNoNamespace(t *testing.T) {
	shared.refused(t, "namespace no-such-tenant does not exist", "token", "create", "doors-half", "--can", "push:no-such-tenant/web")
	shared.refused(t, "no such robot", "token", "revoke", "doors-half")
}

// A push to somebody else's server, told by its webhook, is applied; without
// the hook it would be at the next poll, minutes later.
func TestWebhooks(t *testing.T) {
	remote, url := externalRepository(t)
	work := t.TempDir()
	shared.git(t, work, "init", "-q", "-b", "main")
	shared.git(t, work, "remote", "add", "origin", remote)
	shared.push(t, work, map[string]string{"app/cm.yaml": configMap("hooked", "first")})
	shared.apply(t, application("hooked", url, "app", "hooked"))
	value := []string{"get", "configmap", "hooked", "-n", "hooked", "-o", "jsonpath={.data.key}"}
	shared.want(t, "first", value...)

	remove := func() {
		_, _ = shared.run(context.Background(), "kubectl", "delete", "secret", "fairway-webhooks", "-n", "fairway-system", "--ignore-not-found")
	}
	remove()
	t.Cleanup(remove)
	hub := fmt.Sprintf(`{"repository":{"clone_url":%q}}`, url)
	if code, said := post(t, "github", hub, map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": signature(hub, "one")}); code != http.StatusForbidden {
		t.Errorf("without a secret set up: %d %s", code, said)
	}
	shared.kubectl(t, "create", "secret", "generic", "fairway-webhooks", "-n", "fairway-system",
		"--from-literal=github=one", "--from-literal=gitlab=two", "--from-literal=gitea=three", "--from-literal=generic=four")
	date := shared.kubectl(t, "get", "configmap", "hooked", "-n", "hooked", "-o", "jsonpath={.metadata.creationTimestamp}")
	generic := fmt.Sprintf(`{"url":%q,"timestamp":%q}`, url, date)
	lab := fmt.Sprintf(`{"project":{"git_http_url":%q}}`, url)
	for _, c := range []struct {
		kind, body string
		header     map[string]string
	}{
		{"github", hub, map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": signature(hub, "one")}},
		{"gitlab", lab, map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "two"}},
		{"gitea", hub, map[string]string{"X-Gitea-Event": "push", "X-Gitea-Signature": signature(hub, "three")}},
		{"generic", generic, map[string]string{"X-Signature": signature(generic, "four")}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			if code, said := post(t, c.kind, c.body, nil); code != http.StatusForbidden || !strings.Contains(said, "signature") {
				t.Errorf("without a signature: %d %s", code, said)
			}
			if code, said := post(t, c.kind, strings.Repeat(" ", 26<<20), c.header); code != http.StatusRequestEntityTooLarge {
				t.Errorf("a giant body: %d %s", code, said)
			}
			shared.push(t, work, map[string]string{"app/cm.yaml": configMap("hooked", c.kind)})
			if code, said := post(t, c.kind, c.body, c.header); code != http.StatusAccepted {
				t.Fatalf("%d %s", code, said)
			}
			shared.want(t, c.kind, value...)
			if code, said := post(t, c.kind, c.body, c.header); code != http.StatusConflict {
				t.Errorf("a replay: %d %s", code, said)
			}
		})
	}
}

// externalRepository is a repository that git's own server serves.
func externalRepository(t *testing.T) (dir, url string) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	dir = filepath.Join(root, "external.git")
	shared.git(t, root, "init", "-q", "--bare", "-b", "main", dir)
	server := httptest.NewServer(&cgi.Handler{Path: git, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}})
	t.Cleanup(server.Close)
	return dir, server.URL + "/external.git"
}

func post(t *testing.T, kind, body string, header map[string]string) (code int, said string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, shared.status(t).UIURL+"hooks/"+kind, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

func signature(body, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
