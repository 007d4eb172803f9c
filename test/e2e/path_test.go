package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestStatusSaysWhereEverythingIs(t *testing.T) {
	s := shared.status(t)
	for name, value := range map[string]string{
		"version": s.Version, "uiURL": s.UIURL, "apiURL": s.APIURL, "gitURL": s.GitURL,
		"registry": s.Registry, "kubeconfig": s.Kubeconfig,
	} {
		if value == "" {
			t.Errorf("status has no %s", name)
		}
	}
	if s.State != "running" || s.PID == 0 || s.ClusterPID == 0 || len(s.Nodes) == 0 {
		t.Errorf("status is not of a running instance: %+v", s)
	}
}

func TestNothingIsAnonymous(t *testing.T) {
	base := strings.TrimSuffix(shared.status(t).UIURL, "/")
	for _, path := range []string{"/v2/", "/git/demo.git/info/refs?service=git-upload-pack",
		"/git/demo.git/info/refs?service=git-receive-pack", "/api/v1/deliveries", "/api/v1/repositories"} {
		answer, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("anonymous GET %s: %s, want 401", path, answer.Status)
		}
	}
}

// The main job: a push is applied, drift is healed, what leaves Git is
// pruned, and a rollback is a commit.
func TestFromPushToRollback(t *testing.T) {
	const app, ns = "path", "path"
	dir := shared.repository(t, app, map[string]string{
		"app/one.yaml": configMap("one", "first"),
		"app/two.yaml": configMap("two", "second"),
	})
	shared.apply(t, application(app, publicGitURL(t)+"/"+app+".git", "app", ns))
	value := []string{"get", "configmap", "one", "-n", ns, "-o", "jsonpath={.data.key}"}
	shared.want(t, "first", value...)

	shared.push(t, dir, map[string]string{"app/one.yaml": configMap("one", "changed")})
	shared.want(t, "changed", value...)

	shared.kubectl(t, "patch", "configmap", "one", "-n", ns, "--type=merge", "-p", `{"data":{"key":"by-hand"}}`)
	shared.want(t, "changed", value...)

	shared.kubectl(t, "delete", "configmap", "two", "-n", ns)
	shared.want(t, "second", "get", "configmap", "two", "-n", ns, "-o", "jsonpath={.data.key}")

	shared.push(t, dir, map[string]string{"app/two.yaml": ""})
	shared.want(t, "", "get", "configmap", "two", "-n", ns, "--ignore-not-found", "-o", "name")

	shared.must(t, "app", "rollback", app, "0")
	shared.want(t, "first", value...)
	shared.want(t, "second", "get", "configmap", "two", "-n", ns, "-o", "jsonpath={.data.key}")
	shared.git(t, dir, "pull", "-q")
	got, err := os.ReadFile(filepath.Join(dir, "app/one.yaml"))
	if err != nil || !strings.Contains(string(got), "first") {
		t.Errorf("Git does not have what was rolled back to: %q, %v", got, err)
	}
}

func publicGitURL(t *testing.T) string {
	return strings.TrimSuffix(shared.status(t).UIURL, "/") + "/git"
}

// killTimes is how often the server is killed; the issue asks for 100, which
// the soak does; here a few show that nothing has broken.
func killTimes() int {
	if os.Getenv("FAIRWAY_SOAK") != "" {
		return 100
	}
	return 5
}

// A server that is killed between the update of a reference and its effect
// has the effect after its restart, once.
func TestSoakKilledBetweenPushAndEffect(t *testing.T) {
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		t.Fatal(err)
	}
	own := newInstance(bin, filepath.Join(t.TempDir(), "data"))
	up := func() { own.must(t, "up", "--nodes", "kwok") }
	own.must(t, "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort()))
	t.Cleanup(func() { _, _ = own.run(context.Background(), "down") })
	dir := own.repository(t, "kill", map[string]string{"app/one.yaml": configMap("one", "v0")})
	base := strings.TrimSuffix(own.status(t).UIURL, "/")
	own.apply(t, application("kill", base+"/git/kill.git", "app", "kill"))
	value := []string{"get", "configmap", "one", "-n", "kill", "-o", "jsonpath={.data.key}"}
	own.want(t, "v0", value...)

	commits := []string{own.git(t, dir, "rev-parse", "HEAD")}
	for n := 1; n <= killTimes(); n++ {
		want := fmt.Sprintf("v%d", n)
		own.commit(t, dir, map[string]string{"app/one.yaml": configMap("one", want)})
		commits = append(commits, own.git(t, dir, "rev-parse", "HEAD"))
		pushAndKill(t, own, dir)
		up()
		own.want(t, want, value...)
		// Only what the history has is done with: a push before that may
		// overtake the sync that was interrupted.
		eventually(t, func() string { return historyIs(t, own, "kill", commits) })
	}
}

// pushAndKill pushes and kills the server as soon as the reference has moved.
func pushAndKill(t *testing.T, i *instance, dir string) {
	t.Helper()
	s := i.status(t)
	head := i.git(t, dir, "rev-parse", "HEAD")
	ref := filepath.Join(i.data, "git", "repos", "default", "kill.git", "refs", "heads", "main")
	push := exec.CommandContext(t.Context(), "git", "push", "-q", "origin", "HEAD")
	push.Dir, push.Env = dir, i.env
	if err := push.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		data, err := os.ReadFile(ref)
		if err == nil && strings.TrimSpace(string(data)) == head {
			break
		}
	}
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The push may or may not have been answered; the reference has moved.
	_ = push.Wait()
}

// historyIs compares the last entries of an app's history with commits: each
// once, in order.
func historyIs(t *testing.T, i *instance, app string, commits []string) string {
	t.Helper()
	var a struct {
		Status struct {
			History []struct {
				ID       int
				Revision string
			}
		}
	}
	if err := json.Unmarshal([]byte(i.kubectl(t, "get", "application", app, "-n", "argocd", "-o", "json")), &a); err != nil {
		t.Fatal(err)
	}
	// Of many only the last are kept, but they are counted through.
	if n := len(a.Status.History); n == 0 || a.Status.History[n-1].ID != len(commits)-1 {
		return fmt.Sprintf("the pushes of %v have left %+v", commits, a.Status.History)
	}
	got := make([]string, 0, len(a.Status.History))
	for _, h := range a.Status.History {
		got = append(got, h.Revision)
	}
	if len(commits) > len(got) {
		commits = commits[len(commits)-len(got):]
	}
	if strings.Join(got, " ") != strings.Join(commits, " ") {
		return fmt.Sprintf("history is %v, want %v", got, commits)
	}
	return ""
}
