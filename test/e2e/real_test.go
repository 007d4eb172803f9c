package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a new user sees: a real node, an image of the demo pulled by the name
// that it was pushed to, a pod that answers. Two instances beside each other,
// and nothing left when they are down.
func TestRealNode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a real node needs root; it is optional where there is none")
	}
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		t.Fatal(err)
	}
	clusterProgram, err := program("FAIRWAY_CLUSTER", "fairway-cluster")
	if err != nil {
		t.Fatal(err)
	}
	var all []*instance
	for n := range 2 {
		i := newInstance(bin, filepath.Join(t.TempDir(), fmt.Sprint("data", n)))
		t.Cleanup(func() { _, _ = i.run(context.Background(), "down") })
		i.must(t, "up", "--nodes", "real", "--port", fmt.Sprint(freePort()))
		all = append(all, i)
	}
	for _, i := range all {
		s := i.status(t)
		image := buildWebApp(t, i, s.Registry)
		base := strings.TrimSuffix(s.UIURL, "/")
		i.repository(t, "real", map[string]string{"app/web.yaml": webAppPod(s.Registry + "/" + image),
			"app/service.yaml": "apiVersion: v1\nkind: Service\nmetadata:\n  name: web-app\nspec:\n  selector:\n    app: web-app\n  ports:\n  - port: 80\n    targetPort: 8080\n"})
		i.apply(t, application("real", base+"/git/real.git", "app", "real"))
		i.want(t, "True", "get", "pod", "web-app", "-n", "real", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		ip := i.kubectl(t, "get", "service", "web-app", "-n", "real", "-o", "jsonpath={.spec.clusterIP}")
		eventually(t, func() string { return answers("http://"+ip+"/", "Hello") })
	}
	var plans []map[string]string
	for _, i := range all {
		plans = append(plans, nodePlan(t, clusterProgram, "node", "plan", "--data", filepath.Join(i.data, "node")))
		i.must(t, "down")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for n, i := range all {
		if strings.Contains(string(mounts), i.data) {
			t.Errorf("a mount of %s is left", i.data)
		}
		if link := plans[n]["link"]; exec.Command("ip", "link", "show", link).Run() == nil {
			t.Errorf("the link %s is left", link)
		}
		if left, err := filepath.Glob("/sys/fs/cgroup/*/" + plans[n]["cgroup"]); err != nil || len(left) > 0 {
			t.Errorf("control groups are left: %v, %v", left, err)
		}
	}
}

// answers asks an URL and returns "" where the answer begins so.
func answers(url, want string) string {
	client := &http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err != nil {
		return err.Error()
	}
	if !strings.HasPrefix(string(body), want) {
		return fmt.Sprintf("%s answered %q", url, body)
	}
	return ""
}
