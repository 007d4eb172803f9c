package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestStateSurvivesKillAndStop(t *testing.T) {
	dir := t.TempDir()
	ready := filepath.Join(t.TempDir(), "ready")
	i := startTestInstance(t, dir, "--ready-file="+ready)
	server := i.ready.Server
	written := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "written"}, Data: map[string]string{"by": "the first run"}}
	if _, err := i.client.CoreV1().ConfigMaps("default").Create(t.Context(), written, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	first := i.client

	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		if err := i.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		err := i.cmd.Wait()
		if signal == syscall.SIGTERM && err != nil {
			t.Errorf("after %s: %v, want exit code 0", signal, err)
		}
		if err := os.Remove(ready); err != nil {
			t.Fatal(err)
		}
		i = startTestInstance(t, dir, "--ready-file="+ready)
		if i.ready.Server != server {
			t.Errorf("after %s the server is %s, was %s", signal, i.ready.Server, server)
		}
		// With the client of the first run: its certificate stays good.
		read, err := first.CoreV1().ConfigMaps("default").Get(t.Context(), "written", metav1.GetOptions{})
		if err != nil || read.Data["by"] != "the first run" {
			t.Errorf("after %s: read %v, %v", signal, read.Data, err)
		}
		if content, err := os.ReadFile(ready); err != nil || !strings.Contains(string(content), strconv.Itoa(i.cmd.Process.Pid)) {
			t.Errorf("after %s the ready file holds %q, %v", signal, content, err)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	code, stdout, stderr := exitCode(t, program("control-plane", "--data="+shared.dir))
	if code != exitInUse || stdout != "" {
		t.Errorf("exit code %d, printed %q", code, stdout)
	}
	if !strings.Contains(stderr, shared.dir) || !strings.Contains(stderr, "process "+strconv.Itoa(shared.cmd.Process.Pid)) {
		t.Errorf("the error names neither directory nor process: %s", stderr)
	}
}

func TestInstancesStandSideBySide(t *testing.T) {
	other := startTestInstance(t, t.TempDir())
	if other.ready.Server == shared.ready.Server {
		t.Fatalf("both are at %s", other.ready.Server)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "of-the-other"}}
	if _, err := other.client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.client.CoreV1().Namespaces().Get(t.Context(), "of-the-other", metav1.GetOptions{}); err == nil {
		t.Error("the instances share their state")
	}
	code, _, stderr := exitCode(t, program("kubectl", "--kubeconfig="+shared.ready.Kubeconfig, "--server="+other.ready.Server, "get", "nodes"))
	if code == 0 || !strings.Contains(stderr, "certificate") {
		t.Errorf("one's administrator at the other: exit code %d, %s", code, stderr)
	}
}

func TestDiesWithItsParent(t *testing.T) {
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready")
	shell := program()
	shell.Path = "/bin/sh"
	self := shell.Args[0]
	shell.Args = []string{"sh", "-c", `"$0" control-plane --data="$1" --unsafe-no-fsync --die-with-parent --ready-file="$2" & wait`, self, dir, ready}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the control plane to be ready", func() bool {
		_, err := os.Stat(ready)
		return err == nil
	})
	if unlocked(t, dir) {
		t.Fatal("it runs without the lock")
	}
	_ = shell.Process.Kill()
	_ = shell.Wait()
	eventually(t, "the control plane to end", func() bool { return unlocked(t, dir) })
}

func TestReadyLineIsTrue(t *testing.T) {
	r := shared.ready
	if r.PID != shared.cmd.Process.Pid || r.Server != shared.config.Host {
		t.Errorf("%+v", r)
	}
	server, err := url.Parse(r.Server)
	if err != nil {
		t.Fatal(err)
	}
	want := "127.0.0.1:" + server.Port() + " 127.0.0.2:" + server.Port() + " 192.0.2.77:6443"
	if got := strings.Join(r.Listen, " "); got != want {
		t.Errorf("listens at %s, want %s", got, want)
	}
	info, err := os.Stat(r.Kubeconfig)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info, err)
	}
	info, err = os.Stat(shared.dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v", info, err)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{}, {"nonsense"}, {"control-plane", "--nonsense"}, {"control-plane", "argument"}, {"control-plane", "--kwok-taint=sometimes"},
	} {
		if code, stdout, stderr := exitCode(t, program(args...)); code != exitUsage || stdout != "" || stderr == "" {
			t.Errorf("%v: exit code %d, printed %q and %q", args, code, stdout, stderr)
		}
	}
}
