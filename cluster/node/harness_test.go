package node_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/cluster/node"
	"github.com/fairway-cd/fairway/cluster/node/image"
	"github.com/fairway-cd/fairway/cluster/node/network"
)

const (
	// patience is for what happens in a second or two, on a machine that may be
	// busy with all the other tests. It says when to give up, not how fast it is.
	patience = 2 * time.Minute
	poll     = 50 * time.Millisecond

	// exitUnsupported is how `fairway-cluster node check` says that this machine
	// cannot run a real node.
	exitUnsupported = 4

	probeImage = "example.test/probe:v1"
	nodeName   = "fairway-node"
)

// instance is one embedded cluster with a real node.
type instance struct {
	// owner is the test at whose end everything stops.
	owner      *testing.T
	dir        string
	program    string
	programs   string
	resolvConf string
	plan       network.Plan
	control    *exec.Cmd
	node       *exec.Cmd
	ready      node.Ready
}

// newInstance starts a control plane and a node, or skips the test where there
// can be no real node.
func newInstance(t *testing.T, resolvConf string) *instance {
	t.Helper()
	i := &instance{owner: t, dir: t.TempDir(), resolvConf: resolvConf}
	i.program, i.programs = built(t)
	check := exec.Command(i.program, "node", "check", "--programs", i.programs)
	out, err := check.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitUnsupported {
		t.Skipf("a real node is optional: %s", out)
	}
	if err != nil {
		t.Fatalf("node check: %v: %s", err, out)
	}
	if i.plan, err = node.Plan(i.nodeData()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.tail(t) })
	i.startControlPlane(t)
	i.startNode(t)
	return i
}

// built returns the program under test and the directory of the node's programs.
func built(t *testing.T) (program, programs string) {
	t.Helper()
	program = os.Getenv("FAIRWAY_CLUSTER")
	if program == "" {
		program = filepath.Join("..", "..", "bin", "fairway-cluster")
	}
	program, err := filepath.Abs(program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run `make build` first, or name the program in FAIRWAY_CLUSTER", err)
	}
	if programs, err = filepath.Abs(filepath.Join("..", "..", "bin", "node")); err != nil {
		t.Fatal(err)
	}
	return program, programs
}

func (i *instance) nodeData() string   { return filepath.Join(i.dir, "node") }
func (i *instance) kubeconfig() string { return filepath.Join(i.dir, "cluster", "admin.kubeconfig") }

func (i *instance) startControlPlane(t *testing.T) {
	t.Helper()
	ready := filepath.Join(i.dir, "cluster.ready")
	i.control = i.start(t, "cluster.log", "control-plane", "--data", filepath.Join(i.dir, "cluster"),
		"--also-listen", i.plan.HostAddress().String(),
		"--cluster-cidr", i.plan.ClusterCIDR.String(), "--service-cidr", i.plan.ServiceCIDR.String(),
		"--kwok-taint", "always", "--unsafe-no-fsync", "--ready-file", ready, "--die-with-parent")
	eventually(t, "the control plane is ready", func() bool { return exists(ready) })
}

func (i *instance) startNode(t *testing.T) {
	t.Helper()
	ready := filepath.Join(i.dir, "node.ready")
	i.node = i.start(t, "node.log", "node", "--data", i.nodeData(), "--kubeconfig", i.kubeconfig(),
		"--programs", i.programs, "--name", nodeName, "--resolv-conf", i.resolvConf,
		"--ready-file", ready, "--die-with-parent")
	eventually(t, "the node is ready", func() bool {
		content, err := os.ReadFile(ready)
		return err == nil && json.Unmarshal(content, &i.ready) == nil
	})
}

// start runs the program until the owner ends.
func (i *instance) start(t *testing.T, log string, args ...string) *exec.Cmd {
	t.Helper()
	out, err := os.OpenFile(filepath.Join(i.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(i.program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	i.owner.Cleanup(func() { _ = stop(cmd) })
	return cmd
}

// stop ends a process as `fairway down` does and returns how it ended.
func stop(cmd *exec.Cmd) error {
	if cmd.ProcessState != nil {
		return nil
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	return cmd.Wait()
}

// tail shows what the parts said, where the test failed.
func (i *instance) tail(t *testing.T) {
	if !t.Failed() {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(i.nodeData(), "log", "*.log"))
	for _, log := range append(logs, filepath.Join(i.dir, "node.log")) {
		content, _ := os.ReadFile(log)
		t.Logf("%s:\n%s", filepath.Base(log), content[max(0, len(content)-2000):])
	}
}

// kubectl runs kubectl and returns what it printed.
func (i *instance) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := i.tryKubectl(nil, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (i *instance) tryKubectl(in []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, i.program, append([]string{"kubectl", "--kubeconfig", i.kubeconfig()}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (i *instance) apply(t *testing.T, manifest string) {
	t.Helper()
	if out, err := i.tryKubectl([]byte(manifest), "apply", "-f", "-"); err != nil {
		t.Fatalf("kubectl apply: %v: %s", err, out)
	}
}

// wait waits for a condition in the words of `kubectl wait --for`.
func (i *instance) wait(t *testing.T, object, condition string) {
	t.Helper()
	i.kubectl(t, "wait", object, "--for="+condition, "--timeout="+patience.String())
}

// get returns the object's field at a JSON path.
func (i *instance) get(t *testing.T, object, path string) string {
	t.Helper()
	return i.kubectl(t, "get", object, "-o", "jsonpath="+path)
}

// exec runs the probe with these arguments in a pod.
func (i *instance) exec(t *testing.T, pod string, args ...string) string {
	t.Helper()
	return i.kubectl(t, append([]string{"exec", pod, "--", "/probe"}, args...)...)
}

// loadProbe gives the node the image that the tests' pods run.
func (i *instance) loadProbe(t *testing.T) {
	t.Helper()
	archive := filepath.Join(i.dir, "probe.tar")
	img, err := image.Build(probeSpec(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := image.WriteArchive(archive, probeImage, img); err != nil {
		t.Fatal(err)
	}
	if err := node.LoadImage(t.Context(), i.nodeData(), i.programs, archive); err != nil {
		t.Fatal(err)
	}
}

// probeSpec builds the probe and says what its image is.
func probeSpec(t *testing.T) image.Spec {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-o", binary, "./testdata/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the probe: %v: %s", err, out)
	}
	return image.Spec{
		Architecture: architecture(),
		Files:        []image.File{{From: binary, To: "/probe", Mode: 0o755}},
		Entrypoint:   []string{"/probe"},
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(poll) {
		if time.Now().After(deadline) {
			t.Fatalf("not so in time: %s", what)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// processes returns the node's daemons by their program's name.
func (i *instance) processes(t *testing.T) map[string]int {
	t.Helper()
	pids := map[string]int{}
	for _, hierarchy := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/pids"} {
		content, err := os.ReadFile(filepath.Join(hierarchy, i.plan.CgroupName(), "system", "cgroup.procs"))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(content)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			// A daemon that is this program again is named by its first argument.
			args, _ := os.ReadFile(filepath.Join("/proc", field, "cmdline"))
			words := strings.Split(string(args), "\x00")
			if name := filepath.Base(words[0]); name == "exe" && len(words) > 1 {
				pids[words[1]] = pid
			} else {
				pids[name] = pid
			}
		}
	}
	return pids
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if pid <= 1 {
		t.Fatal("no such process")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
