package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKubectlGetsItsArgumentsUntouched(t *testing.T) {
	kubeconfig := "--kubeconfig=" + shared.ready.Kubeconfig
	value := `two words, "quotes", $HOME, --data=x and a
line`
	code, _, stderr := exitCode(t, program("kubectl", kubeconfig, "create", "configmap", "passed", "--from-literal=key="+value))
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	code, stdout, stderr := exitCode(t, program("kubectl", kubeconfig, "get", "configmap", "passed", "-o", "jsonpath={.data.key}"))
	if code != 0 || stdout != value {
		t.Errorf("exit code %d, printed %q, %s", code, stdout, stderr)
	}
}

func TestKubectlKeepsItsExitCode(t *testing.T) {
	kubeconfig := "--kubeconfig=" + shared.ready.Kubeconfig
	manifest := filepath.Join(t.TempDir(), "configmap.yaml")
	if err := os.WriteFile(manifest, []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: not-there, namespace: default}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"get", "namespace", "default"}, 0, ""},
		{[]string{"get", "namespace", "absent"}, 1, `namespaces "absent" not found`},
		{[]string{"diff", "-f", manifest}, 1, ""},
		{[]string{"diff", "-f", "/absent"}, 2, "does not exist"},
		{[]string{"get", "--nonsense"}, 1, "unknown flag"},
	} {
		code, _, stderr := exitCode(t, program(append([]string{"kubectl", kubeconfig}, test.args...)...))
		if code != test.code || !strings.Contains(stderr, test.stderr) {
			t.Errorf("%v: exit code %d, want %d: %s", test.args, code, test.code, stderr)
		}
	}
}

func TestProgramIsChosenByItsName(t *testing.T) {
	cmd := program("version", "--client")
	link := filepath.Join(t.TempDir(), "kubectl")
	if err := os.Symlink(cmd.Path, link); err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Args[0] = link, link
	code, stdout, stderr := exitCode(t, cmd)
	if code != 0 || !strings.Contains(stdout, "Client Version") {
		t.Errorf("exit code %d, printed %q, %s", code, stdout, stderr)
	}
}

func TestNodeDaemonsAreInTheBinary(t *testing.T) {
	for _, name := range []string{"kubelet", "kube-proxy"} {
		code, stdout, stderr := exitCode(t, program(name, "--version"))
		if code != 0 || !strings.HasPrefix(stdout, "Kubernetes v") {
			t.Errorf("%s: exit code %d, printed %q, %s", name, code, stdout, stderr)
		}
	}
}
