package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	t.Setenv("FAIRWAY_DATA", t.TempDir())
	for _, c := range []struct {
		line string
		code int
		says string
	}{
		{"", 0, "safe channel"},
		{"repo", 0, "Available Commands"},
		{"status", 0, "stopped"},
		{"bogus", exitUsage, `unknown command "fairway bogus"`},
		{"stat", exitUsage, "did you mean status?"},
		{"repo shw", exitUsage, "did you mean show?"},
		{"image bogus", exitUsage, "fairway image --help"},
		{"token bogus", exitUsage, "unknown command"},
		{"app bogus", exitUsage, "unknown command"},
		{"help", 0, "safe channel"},
		{"help repo show", 0, "fairway repo show NAME"},
		{"help bogus", exitUsage, `unknown command "fairway bogus"`},
		{"help repo shw", exitUsage, "did you mean show?"},
		{"completion", 0, "Available Commands"},
		{"completion bash", 0, "bash completion"},
		{"completion nosh", exitUsage, `unknown command "fairway completion nosh"`},
		{"up extra", exitUsage, "usage: fairway up"},
		{"repo show", exitUsage, "usage: fairway repo show NAME"},
		{"up --bogus", exitUsage, "unknown flag"},
		{"up --tls-cert x", exitUsage, "tls-key"},
		{"login --token x --token-stdin", exitUsage, "token-stdin"},
		{"up --nodes some", exitUsage, "auto, kwok or real"},
		{"up --port 0", exitUsage, "1 to 65535"},
		{"status -o xml", exitUsage, "json"},
		{"repo list", exitFailed, "is not up"},
		{"kubectl get pods", exitFailed, "is not up"},
	} {
		t.Run(c.line, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(t.Context(), strings.Fields(c.line), strings.NewReader(""), &out, &out); code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, out.String())
			}
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("it does not say %q: %s", c.says, out.String())
			}
			if strings.Contains(out.String(), "\x1b") {
				t.Errorf("there is a colour where there is no terminal: %q", out.String())
			}
		})
	}
}

// A cluster that is not there is named with what can be done about it.
func TestNothingListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: a}}]\nclusters: [{name: a, cluster: {server: 'http://%s'}}]\n", address)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"app", "list", "--kubeconfig", file}, strings.NewReader(""), &out, &out); code != exitFailed {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	if !strings.Contains(out.String(), "hint: nothing listens there") {
		t.Error(out.String())
	}
}
