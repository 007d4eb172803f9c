// Package e2e drives the whole path through the program that users have:
// bin/fairway, plain git, an API server, and where the machine allows it a
// real node. Nothing here reaches into the house.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// instance is a running Fairway.
type instance struct {
	bin  string
	data string
	env  []string
}

// status is what `fairway status -o json` promises.
type status struct {
	State, Version, UIURL, APIURL, GitURL, Registry, Kubeconfig, Data string
	PID, ClusterPID, NodePID                                          int
	Nodes                                                             []struct{ Name, Kind, Condition string }
	Degraded                                                          []string
}

// shared is the instance of this package's tests; TestMain starts it.
var shared *instance

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fairway-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = newInstance(bin, filepath.Join(dir, "data"))
	defer shared.run(context.Background(), "down")
	if out, err := shared.run(context.Background(), "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort())); err != nil {
		fmt.Fprintf(os.Stderr, "fairway up: %v\n%s\n", err, out)
		return 1
	}
	return m.Run()
}

// program finds a binary of ours: by the variable, else in the project's bin.
func program(variable, name string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run 'make build' first", err)
	}
	return path, nil
}

// newInstance is an instance with a home of its own, so that no test touches
// the user's git configuration or credentials.
func newInstance(bin, data string) *instance {
	home := data + "-home"
	_ = os.MkdirAll(home, 0o700)
	env := append(os.Environ(), "HOME="+home, "FAIRWAY_DATA="+data, "XDG_CONFIG_HOME="+home,
		"GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "DOCKER_CONFIG="+filepath.Join(home, ".docker"),
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com", "KUBECONFIG=")
	return &instance{bin: bin, data: data, env: env}
}

// run runs fairway and returns its standard output; the error has the rest.
func (i *instance) run(ctx context.Context, args ...string) (string, error) {
	return i.exec(ctx, "", i.bin, args...)
}

func (i *instance) exec(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, i.env
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), nil
}

// must runs fairway and fails the test where it fails.
func (i *instance) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := i.run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// git runs git in dir.
func (i *instance) git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := i.exec(t.Context(), dir, "git", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (i *instance) status(t *testing.T) status {
	t.Helper()
	var s status
	if err := json.Unmarshal([]byte(i.must(t, "status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// kubectl runs kubectl on the instance's cluster.
func (i *instance) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return strings.TrimSpace(i.must(t, append([]string{"kubectl"}, args...)...))
}

// apply gives a manifest to kubectl apply.
func (i *instance) apply(t *testing.T, manifest string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(path, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	i.kubectl(t, "apply", "-f", path)
}

// repository makes a work tree with these files, its remote the instance's
// repository of that name, and pushes it to main.
func (i *instance) repository(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	i.git(t, dir, "init", "-q", "-b", "main")
	i.git(t, dir, "remote", "add", "origin", i.status(t).GitURL+"/"+name+".git")
	i.push(t, dir, files)
	return dir
}

// push writes the files (an empty content removes one), commits and pushes.
func (i *instance) push(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	i.commit(t, dir, files)
	i.git(t, dir, "push", "-q", "-u", "origin", "HEAD")
}

func (i *instance) commit(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if content == "" {
			i.git(t, dir, "rm", "-q", name)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	i.git(t, dir, "add", "-A")
	i.git(t, dir, "commit", "-q", "-m", "change")
}

// patience bounds every wait; it says nothing about how fast things are.
const patience = 90 * time.Second

// eventually waits until check returns "", and fails with what it said last.
func eventually(t *testing.T, check func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		last := check()
		if last == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still: %s", patience, last)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// want waits until kubectl answers so.
func (i *instance) want(t *testing.T, want string, args ...string) {
	t.Helper()
	eventually(t, func() string {
		got, err := i.run(t.Context(), append([]string{"kubectl"}, args...)...)
		if err != nil {
			return err.Error()
		}
		if got = strings.TrimSpace(got); got != want {
			return fmt.Sprintf("kubectl %s: got %q, want %q", strings.Join(args, " "), got, want)
		}
		return ""
	})
}

func freePort() int { return testkit.FreePort() }

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  key: %s\n", name, value)
}

func application(name, repoURL, path, namespace string) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: %s
  namespace: argocd
spec:
  project: default
  source:
    repoURL: %s
    targetRevision: HEAD
    path: %s
  destination:
    server: https://kubernetes.default.svc
    namespace: %s
  syncPolicy:
    automated:
      prune: true
      selfHeal: true
    syncOptions:
    - CreateNamespace=true
`, name, repoURL, path, namespace)
}
