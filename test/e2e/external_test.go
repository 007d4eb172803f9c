package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A cluster that was there before, on another host: a network namespace of
// its own with a control plane and a real node in it. Fairway starts none,
// reaches it by its kubeconfig over the link, and the node pulls from
// Fairway's registry over TLS, with a robot's credential.
func TestExternalCluster(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a second host needs root: network namespaces are optional where there is none")
	}
	far := newHost(t)
	cluster := far.startCluster(t)
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		t.Fatal(err)
	}
	port := freePort()
	own := newInstance(bin, filepath.Join(t.TempDir(), "data"))
	t.Cleanup(func() { _, _ = own.run(context.Background(), "down") })
	listen := fmt.Sprintf("%s:%d", far.here, port+1)
	own.must(t, "up", "--kubeconfig", filepath.Join(cluster, "admin.kubeconfig"), "--port", fmt.Sprint(port), "--listen", listen)
	s := own.status(t)
	if s.ClusterPID != 0 {
		t.Errorf("a cluster was started although one was given: %d", s.ClusterPID)
	}

	if given := filepath.Join(cluster, "admin.kubeconfig"); s.Kubeconfig != given {
		t.Errorf("the kubeconfig is %s, want the given one, %s", s.Kubeconfig, given)
	}
	wantNoAdmin(t, own)
	sealsWithItsCertificate(t, own)

	image := buildWebApp(t, own, s.Registry)
	robot := strings.TrimSpace(own.must(t, "token", "create", "puller", "--can", "pull:web-app"))
	far.startNode(t, cluster, []map[string]any{{
		"names": []string{listen}, "endpoint": "https://" + listen, "caFile": filepath.Join(own.data, "tls", "ca.crt"),
		"username": "robot", "password": robot,
	}})
	own.repository(t, "external", map[string]string{"app/web.yaml": webAppPod(listen + "/" + image)})
	own.apply(t, application("external", strings.TrimSuffix(s.UIURL, "/")+"/git/external.git", "app", "external"))
	own.want(t, "Running", "get", "pod", "web-app", "-n", "external", "-o", "jsonpath={.status.phase}")
	if out := own.must(t, "app", "render", "external"); !strings.Contains(out, "name: web-app") {
		t.Errorf("render: %s", out)
	}

	// This kubeconfig has a certificate, which only the Kubernetes API takes; a
	// token is its user for us too.
	own.refused(t, "may not update applications", "app", "rollback", "external")
	own.kubectl(t, "create", "serviceaccount", "ada")
	own.kubectl(t, "create", "clusterrolebinding", "ada", "--clusterrole=cluster-admin", "--serviceaccount=default:ada")
	ada := elsewhere(t)
	named := ada.kubeconfig(t, own, own.kubectl(t, "create", "token", "ada"))
	own.refused(t, "nothing to go back to", "app", "rollback", "external", "--kubeconfig", named)
	ada.refused(t, "nothing to go back to", "app", "rollback", "external", "--server", s.UIURL)
}

// sealsWithItsCertificate fails where kubeseal is led to a Service that nobody
// serves, or does not seal with the certificate that it is given.
func sealsWithItsCertificate(t *testing.T, own *instance) {
	t.Helper()
	s := newSealer(t, own.status(t).Kubeconfig)
	if _, err := s.run(t, "", "--fetch-cert"); err == nil || !strings.Contains(err.Error(), `services "sealed-secrets-controller" not found`) {
		t.Errorf("the certificate of a cluster that is somebody else's: %v", err)
	}
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: default}\nstringData: {password: x}\n"
	sealed := s.must(t, secret, "--cert", strings.TrimSpace(own.must(t, "secrets", "cert", "--url")))
	file := filepath.Join(t.TempDir(), "sealed.json")
	if err := os.WriteFile(file, []byte(sealed), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := own.must(t, "secrets", "verify", file); !strings.Contains(out, "It opens") {
		t.Error(out)
	}
}

// wantNoAdmin fails where the instance has given itself more in somebody
// else's cluster than repositories, images, and a look at what is delivered.
func wantNoAdmin(t *testing.T, own *instance) {
	t.Helper()
	var bindings struct {
		Items []struct {
			RoleRef  struct{ Name string }
			Subjects []struct{ Namespace, Name string }
		}
	}
	if err := json.Unmarshal([]byte(own.kubectl(t, "get", "clusterrolebindings", "-o", "json")), &bindings); err != nil {
		t.Fatal(err)
	}
	accounts := map[string]string{}
	for _, b := range bindings.Items {
		for _, subject := range b.Subjects {
			if subject.Namespace == "fairway-system" {
				accounts[subject.Name] = b.RoleRef.Name
			}
		}
	}
	if len(accounts) != 1 || accounts["local"] != "fairway-local" {
		t.Errorf("accounts of the instance in somebody else's cluster: %v", accounts)
	}
	for _, what := range [][]string{{"get", "secrets"}, {"update", "applications.argoproj.io"}, {"create", "pods"}, {"impersonate", "users"}} {
		args := append([]string{"kubectl", "auth", "can-i", "-A", "--as", "system:serviceaccount:fairway-system:local"}, what...)
		if out, err := own.run(t.Context(), args...); err == nil || strings.TrimSpace(out) != "no" {
			t.Errorf("may the account %v: %s", what, out)
		}
	}
}

// host is a network namespace, joined to ours by a link with TLS on it.
type host struct {
	name        string
	here, there string
	dir         string
	program     string
}

func newHost(t *testing.T) *host {
	t.Helper()
	program, err := program("FAIRWAY_CLUSTER", "fairway-cluster")
	if err != nil {
		t.Fatal(err)
	}
	n := os.Getpid() % 200
	h := &host{name: fmt.Sprintf("fwe2e%d", n), here: fmt.Sprintf("10.99.%d.1", n), there: fmt.Sprintf("10.99.%d.2", n),
		dir: t.TempDir(), program: program}
	remove := func() {
		_ = exec.Command("ip", "netns", "delete", h.name).Run()
		_ = exec.Command("ip", "link", "delete", h.name+"a").Run()
	}
	remove() // what a killed run has left
	t.Cleanup(remove)
	for _, line := range []string{
		"netns add " + h.name,
		fmt.Sprintf("link add %sa type veth peer name %sb netns %s", h.name, h.name, h.name),
		fmt.Sprintf("addr add %s/30 dev %sa", h.here, h.name),
		fmt.Sprintf("link set %sa up", h.name),
		fmt.Sprintf("-n %s addr add %s/30 dev %sb", h.name, h.there, h.name),
		fmt.Sprintf("-n %s link set %sb up", h.name, h.name),
		fmt.Sprintf("-n %s link set lo up", h.name),
		fmt.Sprintf("-n %s route add default via %s", h.name, h.here),
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	return h
}

// start runs fairway-cluster in the namespace until the test ends, and waits
// for its ready file.
func (h *host) start(t *testing.T, ready string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(h.dir, args[0]+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", append([]string{"--net=/run/netns/" + h.name, h.program}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			<-exited
		}
		log.Close()
	})
	eventually(t, func() string {
		if _, err := os.Stat(ready); err == nil {
			return ""
		}
		select {
		case <-exited:
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("fairway-cluster %s ended: %s", args[0], said)
		default:
		}
		return "fairway-cluster " + args[0] + " is not ready"
	})
}

func (h *host) startCluster(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(h.dir, "cluster")
	plan := h.plan(t)
	h.start(t, filepath.Join(h.dir, "cluster-ready"), "control-plane", "--data", dir, "--address", h.there,
		"--also-listen", plan["hostAddress"], "--advertise-address", plan["hostAddress"],
		"--cluster-cidr", plan["clusterCIDR"], "--service-cidr", plan["serviceCIDR"],
		"--kwok-taint", "always", "--ready-file", filepath.Join(h.dir, "cluster-ready"), "--unsafe-no-fsync")
	return dir
}

func (h *host) plan(t *testing.T) map[string]string {
	t.Helper()
	return nodePlan(t, "nsenter", "--net=/run/netns/"+h.name, h.program, "node", "plan", "--data", filepath.Join(h.dir, "node"))
}

// nodePlan runs `fairway-cluster node plan`.
func nodePlan(t *testing.T, name string, args ...string) map[string]string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var plan map[string]string
	if err := json.Unmarshal(out, &plan); err != nil {
		t.Fatal(err)
	}
	return plan
}

func (h *host) startNode(t *testing.T, cluster string, registries []map[string]any) {
	t.Helper()
	data := filepath.Join(h.dir, "node")
	content, err := json.Marshal(registries)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "registry.json"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("nsenter", "--net=/run/netns/"+h.name, h.program, "node", "cleanup", "--data", data).Run()
	})
	h.start(t, filepath.Join(h.dir, "node-ready"), "node", "--data", data,
		"--kubeconfig", filepath.Join(cluster, "admin.kubeconfig"), "--ready-file", filepath.Join(h.dir, "node-ready"), "--die-with-parent")
}

// buildWebApp makes the demo's image with our own tool, pushes it, and
// returns its name without the registry.
func buildWebApp(t *testing.T, i *instance, registry string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "web-app")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-s -w", "-o", bin, "../../examples/web-app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the demo: %v: %s", err, out)
	}
	i.must(t, "image", "create", "-t", registry+"/web-app:v1", "--add", bin+":/web-app", "--entrypoint", "/web-app", "--port", "8080")
	return "web-app:v1"
}

func webAppPod(image string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata:
  name: web-app
  labels:
    app: web-app
spec:
  containers:
  - name: web-app
    image: %s
    env:
    - name: GREETING
      value: Hello
`, image)
}
