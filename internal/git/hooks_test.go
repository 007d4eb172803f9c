package git

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func sign(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, body)
	return hex.EncodeToString(mac.Sum(nil))
}

type hookCase struct {
	kind   string
	body   string
	header map[string]string
}

func post(t *testing.T, url string, h hookCase) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/hooks/"+h.kind, strings.NewReader(h.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range h.header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestHooks(t *testing.T) {
	remote, c, _ := forge(t)
	w := newWorld(t)
	secrets := func(_ context.Context, kind string) ([][]byte, error) {
		if kind == "none" {
			return nil, nil
		}
		return [][]byte{nil, []byte("new-" + kind), []byte("old-" + kind)}, nil
	}
	serve := func() *httptest.Server {
		h, err := w.Hooks(secrets)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s
	}
	hooks := serve()
	if _, err := w.Fetch(t.Context(), remote.url+"/git/web", aliceAuth); err != nil {
		t.Fatal(err)
	}
	w.got.wait(t, 1)

	url := remote.url + "/git/web.git"
	now := time.Now()
	github := fmt.Sprintf(`{"ref":"refs/heads/main","repository":{"clone_url":%q,"ssh_url":"git@elsewhere:x/y.git","pushed_at":%d}}`, url, now.Unix())
	gitea := fmt.Sprintf(`{"repository":{"clone_url":"https://public.example/web.git","html_url":%q}}`, remote.url+"/git/web")
	gitlab := fmt.Sprintf(`{"project":{"git_http_url":%q}}`, url)
	generic := fmt.Sprintf(`{"url":%q,"timestamp":%q}`, url, now.Format(time.RFC3339))
	good := []hookCase{
		{"github", github, map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=" + sign("new-github", github)}},
		{"gitea", gitea, map[string]string{"X-Gitea-Event": "push", "X-Gitea-Signature": sign("old-gitea", gitea)}},
		{"gitlab", gitlab, map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "new-gitlab", "Idempotency-Key": "1"}},
		{"generic", generic, map[string]string{"X-Signature": "sha256=" + sign("new-generic", generic)}},
	}
	for i, h := range good {
		c.commit("a.yaml", fmt.Sprintf("v: hook %d\n", i))
		c.git("push", "-q", remote.as("alice", "web"), "main")
		if code := post(t, hooks.URL, h); code != http.StatusAccepted {
			t.Fatalf("%s: %d", h.kind, code)
		}
		w.got.wait(t, 2+i)
	}
	again := serve() // after a restart
	for _, h := range good {
		for _, s := range []*httptest.Server{hooks, again} {
			if code := post(t, s.URL, h); code != http.StatusConflict {
				t.Errorf("%s again: %d", h.kind, code)
			}
		}
	}
	old := fmt.Sprintf(`{"repository":{"clone_url":%q,"pushed_at":%d}}`, url, now.Add(-48*time.Hour).Unix())
	undated := fmt.Sprintf(`{"url":%q}`, url)
	for _, h := range []struct {
		hookCase
		code int
	}{
		{hookCase{"github", github + " ", good[0].header}, 403},
		{hookCase{"github", github, map[string]string{"X-GitHub-Event": "push"}}, 403},
		{hookCase{"github", github, map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=" + sign("", github)}}, 403},
		{hookCase{"github", old, map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=" + sign("new-github", old)}}, 409},
		{hookCase{"github", "{}", map[string]string{"X-GitHub-Event": "ping", "X-Hub-Signature-256": "sha256=" + sign("new-github", "{}")}}, 202},
		{hookCase{"github", "{}", map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=" + sign("new-github", "{}")}}, 400},
		{hookCase{"github", "not json", map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": "sha256=" + sign("new-github", "not json")}}, 400},
		{hookCase{"gitlab", gitlab, map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "wrong"}}, 403},
		{hookCase{"gitlab", gitlab, map[string]string{"X-Gitlab-Event": "Push Hook"}}, 403},
		{hookCase{"generic", undated, map[string]string{"X-Signature": "sha256=" + sign("new-generic", undated)}}, 400},
		{hookCase{"none", github, good[0].header}, 404},
		{hookCase{"github", strings.Repeat(" ", maxHookBody+1), good[0].header}, 413},
	} {
		if code := post(t, hooks.URL, h.hookCase); code != h.code {
			t.Errorf("%s %s: %d, want %d", h.kind, h.body[:min(80, len(h.body))], code, h.code)
		}
	}
	w.got.wait(t, 5)
}

// A change request brings no commit, and yet news: who generates of a
// repository's change requests is told its name, as its forge has it.
func TestHooksOfChangeRequestsAreNoticed(t *testing.T) {
	var noticed []string
	w := newWorld(t, func(o *Options) {
		o.Noticed = func(kind, repository string) { noticed = append(noticed, kind+" "+repository) }
	})
	handler, err := w.Hooks(func(context.Context, string) ([][]byte, error) { return [][]byte{[]byte("secret")}, nil })
	if err != nil {
		t.Fatal(err)
	}
	hooks := httptest.NewServer(handler)
	defer hooks.Close()

	const github = `{"action":"opened","number":7,"pull_request":{"number":7},"repository":{"full_name":"Acme/shop",
		"clone_url":"https://github.com/acme/shop.git","ssh_url":"git@github.com:acme/shop.git","html_url":"https://github.com/acme/shop","pushed_at":"2026-03-01T10:00:00Z"}}`
	const gitea = `{"action":"opened","repository":{"clone_url":"https://git.example.com/acme/web.git","html_url":"https://git.example.com/acme/web"}}`
	const gitlab = `{"object_kind":"merge_request","project":{"git_http_url":"https://gitlab.com/acme/team/api.git","git_ssh_url":"git@gitlab.com:acme/team/api.git","web_url":"https://gitlab.com/acme/team/api"}}`
	for _, h := range []struct {
		hookCase
		code int
		want string
	}{
		{hookCase{"github", github, map[string]string{"X-GitHub-Event": "pull_request", "X-Hub-Signature-256": "sha256=" + sign("secret", github)}}, 202, "github acme/shop"},
		{hookCase{"gitea", gitea, map[string]string{"X-Gitea-Event": "pull_request", "X-Gitea-Signature": sign("secret", gitea)}}, 202, "gitea acme/web"},
		{hookCase{"gitlab", gitlab, map[string]string{"X-Gitlab-Event": "Merge Request Hook", "X-Gitlab-Token": "secret", "Idempotency-Key": "1"}}, 202, "gitlab acme/team/api"},
		// Again, by somebody else, and what is no news.
		{hookCase{"github", github, map[string]string{"X-GitHub-Event": "pull_request", "X-Hub-Signature-256": "sha256=" + sign("secret", github)}}, 409, ""},
		{hookCase{"github", github, map[string]string{"X-GitHub-Event": "pull_request", "X-Hub-Signature-256": "sha256=" + sign("wrong", github)}}, 403, ""},
		{hookCase{"github", github, map[string]string{"X-GitHub-Event": "star", "X-Hub-Signature-256": "sha256=" + sign("secret", github)}}, 202, ""},
	} {
		noticed = nil
		if code := post(t, hooks.URL, h.hookCase); code != h.code {
			t.Errorf("%s %v: %d, want %d", h.kind, h.header, code, h.code)
		}
		if got := strings.Join(noticed, ", "); got != h.want {
			t.Errorf("%s %v: noticed %q, want %q", h.kind, h.header, got, h.want)
		}
	}
}
