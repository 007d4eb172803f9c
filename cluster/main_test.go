package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-cd/fairway/cluster/controlplane"
)

// asProgram makes the test binary be fairway-cluster, so that the tests run
// this source in processes of its own, and not what bin happens to hold.
const asProgram = "FAIRWAY_CLUSTER_TEST_AS_PROGRAM"

// shared is a control plane that the tests which do not harm theirs use.
var shared *instance

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(run(os.Args))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fairway-cluster-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	// A socket's whole path would not fit into the kernel's 107 bytes here.
	long := filepath.Join(dir, "a-directory-with-a-name-that-is-much-longer-than-what-a-unix-socket-may-have-as-its-path-in-linux")
	shared, err = startInstance(long, "--also-listen=127.0.0.2,192.0.2.77:6443", "--kwok-nodes=2", "--service-socket=default/beside=beside.sock")
	if err != nil {
		panic(err)
	}
	defer shared.kill()
	return m.Run()
}

func program(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// instance is a control plane in a process of its own.
type instance struct {
	cmd    *exec.Cmd
	dir    string
	ready  controlplane.Ready
	config *rest.Config
	client kubernetes.Interface
}

func startInstance(dir string, args ...string) (*instance, error) {
	cmd := program(append([]string{"control-plane", "--data=" + dir, "--unsafe-no-fsync", "--die-with-parent"}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	i := &instance{cmd: cmd, dir: dir}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		err = errors.Join(err, cmd.Wait())
		return nil, errors.Join(err, errors.New(log.String()))
	}
	if err = json.Unmarshal(line, &i.ready); err == nil {
		i.config, err = clientcmd.BuildConfigFromFlags("", i.ready.Kubeconfig)
	}
	if err == nil {
		i.config.QPS = -1
		i.client, err = kubernetes.NewForConfig(i.config)
	}
	if err != nil {
		i.kill()
		return nil, err
	}
	return i, nil
}

func (i *instance) kill() {
	_ = i.cmd.Process.Kill()
	_ = i.cmd.Wait()
}

func startTestInstance(t *testing.T, dir string, args ...string) *instance {
	t.Helper()
	i, err := startInstance(dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.kill)
	return i
}

// exitCode runs a command and returns its code and what it printed.
func exitCode(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// eventually fails the test where check does not come true within a minute.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !check(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// unlocked says whether no process has the data directory.
func unlocked(t *testing.T, dir string) bool {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
