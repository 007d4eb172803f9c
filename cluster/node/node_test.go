package node_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/fairway-cd/fairway/cluster/node"
)

func architecture() string { return runtime.GOARCH }

// TestNode runs what a user's pods need on one node, and then ends the node in
// each way there is.
func TestNode(t *testing.T) {
	before := hostState(t)
	beyond := newBeyond(t)
	i := newInstance(t, beyond.resolvConf)
	i.loadProbe(t)
	i.apply(t, webManifest)
	i.wait(t, "pod/server", "condition=Ready")

	// Run on the real node without being told to.
	if on := i.get(t, "pod/server", "{.spec.nodeName}"); on != nodeName {
		t.Fatalf("the pod is on %s", on)
	}
	t.Run("pods", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T, *instance){
			"logs": testLogs, "port-forward": testPortForward, "liveness": testLiveness, "memory": testMemory,
			"service": testService, "volume": testVolume, "volume refused": testVolumeRefused,
			"registry": testRegistry,
			"egress":   beyond.testEgress,
			"names":    beyond.testNames,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, i)
			})
		}
	})
	t.Run("daemons start again", func(t *testing.T) { testDaemons(t, i) })
	t.Run("side by side", func(t *testing.T) { testSideBySide(t, i) })
	t.Run("killed", func(t *testing.T) { testKilled(t, i) })
	t.Run("stopped", func(t *testing.T) {
		if err := stop(i.node); err != nil {
			t.Errorf("the node did not end well: %v", err)
		}
		assertGone(t, i)
		if after := hostState(t); after != before {
			t.Errorf("the host was changed:\nbefore: %s\nafter: %s", before, after)
		}
	})
}

const webManifest = `
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: web}}
spec:
  containers:
    - name: probe
      image: example.test/probe:v1
      imagePullPolicy: Never
      readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers:
    - {name: probe, image: "example.test/probe:v1", imagePullPolicy: Never, args: [wait]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`

func testLogs(t *testing.T, i *instance) {
	if logs := i.kubectl(t, "logs", "server"); logs != "serving as server\n" {
		t.Errorf("logs: %q", logs)
	}
}

func testPortForward(t *testing.T, i *instance) {
	forward := exec.Command(i.program, "kubectl", "--kubeconfig", i.kubeconfig(), "port-forward", "pod/server", ":8080")
	out, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop(forward) }()
	// "Forwarding from 127.0.0.1:NNN -> 8080"
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address := strings.Fields(line)[2]
	if got := httpGet(t, "http://"+address+"/forwarded"); got != "server answers /forwarded\n" {
		t.Errorf("got %q", got)
	}
}

func testLiveness(t *testing.T, i *instance) {
	i.apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: unwell}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: probe
      image: example.test/probe:v1
      imagePullPolicy: Never
      livenessProbe: {httpGet: {path: /fail, port: 8080}, periodSeconds: 1, failureThreshold: 1}
`)
	i.wait(t, "pod/unwell", "jsonpath={.status.containerStatuses[0].restartCount}=1")
}

func testMemory(t *testing.T, i *instance) {
	i.apply(t, `
apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
    - name: probe
      image: example.test/probe:v1
      imagePullPolicy: Never
      args: [eat, "256"]
      resources: {limits: {memory: 64Mi}}
`)
	i.wait(t, "pod/hungry", "jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled")
}

func testService(t *testing.T, i *instance) {
	clusterIP := i.get(t, "service/web", "{.spec.clusterIP}")
	podIP := i.get(t, "pod/server", "{.status.podIP}")
	nodePort := i.get(t, "service/web", "{.spec.ports[0].nodePort}")
	for _, address := range []string{clusterIP, podIP + ":8080", i.ready.NodeAddress + ":" + nodePort} {
		if got := httpGet(t, "http://"+address+"/host"); got != "server answers /host\n" {
			t.Errorf("from the host, %s: %q", address, got)
		}
		// The server asks for itself, too: that its Service sends it back to.
		for _, pod := range []string{"client", "server"} {
			if got := i.exec(t, pod, "get", "http://"+address+"/pod"); got != "server answers /pod\n" {
				t.Errorf("from pod %s, %s: %q", pod, address, got)
			}
		}
	}
}

const volumeManifest = `
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000, fsGroup: 2000}
  containers:
    - name: probe
      image: example.test/probe:v1
      imagePullPolicy: Never
      args: [wait]
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
`

func testVolume(t *testing.T, i *instance) {
	i.apply(t, fmt.Sprintf(volumeManifest, "writer"))
	i.wait(t, "pod/writer", "condition=Ready")
	i.exec(t, "writer", "write", "/data/file", "kept")
	i.kubectl(t, "delete", "pod", "writer")

	i.apply(t, fmt.Sprintf(volumeManifest, "reader"))
	i.wait(t, "pod/reader", "condition=Ready")
	if got := i.exec(t, "reader", "read", "/data/file"); got != "kept" {
		t.Errorf("read %q", got)
	}
	volume := i.get(t, "pvc/data", "{.spec.volumeName}")
	dir := filepath.Join(i.nodeData(), "volumes", volume)
	if !exists(filepath.Join(dir, "file")) {
		t.Errorf("the file is not in %s", dir)
	}
	i.kubectl(t, "delete", "pod/reader", "pvc/data")
	i.wait(t, "pv/"+volume, "delete")
	if exists(dir) {
		t.Errorf("%s is left", dir)
	}
}

func testVolumeRefused(t *testing.T, i *instance) {
	i.apply(t, strings.NewReplacer("name: data", "name: shared", "claimName: data", "claimName: shared", "ReadWriteOnce", "ReadWriteMany").
		Replace(fmt.Sprintf(volumeManifest, "sharer")))
	eventually(t, "an event says why", func() bool {
		events, err := i.tryKubectl(nil, "get", "events", "--field-selector", "involvedObject.name=shared,reason=ProvisioningFailed", "-o", "jsonpath={.items[*].message}")
		return err == nil && strings.Contains(events, "access mode ReadWriteMany is not supported")
	})
}

// testDaemons kills each daemon and sees the next pod run all the same.
func testDaemons(t *testing.T, i *instance) {
	for _, name := range []string{"containerd", "kubelet", "kube-proxy"} {
		old := i.processes(t)[name]
		kill(t, old)
		eventually(t, name+" runs again", func() bool {
			pid := i.processes(t)[name]
			return pid != 0 && pid != old
		})
	}
	i.apply(t, strings.NewReplacer("name: server", "name: second", "app: web", "app: second").Replace(webManifest))
	i.wait(t, "pod/second", "condition=Ready")
	i.apply(t, webManifest) // Its Service selects the first one again.
	if restarts := i.get(t, "pod/server", "{.status.containerStatuses[0].restartCount}"); restarts != "0" {
		t.Errorf("the pod was started again %s times, though only the daemons had ended", restarts)
	}
}

// testSideBySide runs a second cluster beside the first.
func testSideBySide(t *testing.T, first *instance) {
	second := newInstance(t, "/etc/resolv.conf")
	if other, conflict := first.plan.Conflict(nil); conflict || first.plan.Link == second.plan.Link {
		t.Fatalf("both have %s", other)
	}
	second.loadProbe(t)
	second.apply(t, webManifest)
	second.wait(t, "pod/server", "condition=Ready")
	testService(t, second)
	testService(t, first)
}

// testKilled ends the node as a crash would and starts it again.
func testKilled(t *testing.T, i *instance) {
	i.apply(t, fmt.Sprintf(volumeManifest, "survivor"))
	i.wait(t, "pod/survivor", "condition=Ready")
	i.exec(t, "survivor", "write", "/data/file", "survived")
	kill(t, i.node.Process.Pid)
	_ = i.node.Wait()

	for range 2 {
		if err := node.Cleanup(i.nodeData()); err != nil {
			t.Fatal(err)
		}
		assertGone(t, i)
	}
	i.startNode(t)
	for _, pod := range []string{"survivor", "server"} {
		i.wait(t, "pod/"+pod, "jsonpath={.status.containerStatuses[0].restartCount}=1")
		i.wait(t, "pod/"+pod, "condition=Ready")
	}
	if got := i.exec(t, "survivor", "read", "/data/file"); got != "survived" {
		t.Errorf("read %q", got)
	}
	testService(t, i)
}

// assertGone checks that nothing on the host bears the instance's name.
func assertGone(t *testing.T, i *instance) {
	t.Helper()
	if _, err := netlink.LinkByName(i.plan.LinkName()); err == nil {
		t.Errorf("link %s is left", i.plan.LinkName())
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + i.plan.CgroupName())
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) > 0 || exists("/sys/fs/cgroup/"+i.plan.CgroupName()) {
		t.Errorf("cgroups are left: %v", groups)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), i.nodeData()) {
		t.Errorf("mounts are left in %s", i.nodeData())
	}
	// All of its processes have its directory or programs in their arguments.
	arguments, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range arguments {
		if content, _ := os.ReadFile(file); strings.Contains(string(content), i.nodeData()) {
			t.Errorf("a process is left: %s", content)
		}
	}
}

// hostState is what belongs to the whole machine and a node must not touch.
func hostState(t *testing.T) string {
	t.Helper()
	var state strings.Builder
	for _, file := range []string{
		"net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/all/route_localnet",
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "kernel/hostname",
	} {
		content, err := os.ReadFile("/proc/sys/" + file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&state, "%s=%s", file, content)
	}
	// Not there where nft is not, and then there is no node either.
	rules, _ := exec.Command("nft", "list", "ruleset").Output()
	state.Write(rules)
	return state.String()
}

func httpGet(t *testing.T, url string) string {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
