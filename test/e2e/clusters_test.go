package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// fleetOf is the three clusters of TestClusters: the instance's own, staging,
// and two of production.
type fleetOf struct {
	*testing.T
	us, eu *testkit.Cluster
}

// add has the instance know a cluster, as a user does.
func (f *fleetOf) add(name string, c *testkit.Cluster, more ...string) {
	f.Helper()
	config, err := clientcmd.LoadFromFile(c.Kubeconfig)
	if err != nil {
		f.Fatal(err)
	}
	shared.must(f.T, append([]string{"cluster", "add", config.CurrentContext, "--from", c.Kubeconfig, "--name", name, "--label", "stage=production"}, more...)...)
	f.Cleanup(func() { _, _ = shared.run(f.Context(), "cluster", "remove", name, "--force") })
}

// image is what the Deployment has in a cluster of production.
func (f *fleetOf) image(c *testkit.Cluster) string {
	d, err := c.Client.AppsV1().Deployments("clusters-web").Get(f.Context(), "web", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %d", d.Spec.Template.Spec.Containers[0].Image, *d.Spec.Replicas)
}

func (f *fleetOf) wantImage(c *testkit.Cluster, want string) {
	f.Helper()
	eventually(f.T, func() string {
		if got := f.image(c); got != want {
			return "it is " + got + ", want " + want
		}
		return ""
	})
}

// compare runs "app compare" and returns what differs, by row.
func (f *fleetOf) compare() map[string][]string {
	f.Helper()
	out, err := shared.run(f.Context(), "app", "compare", "--selector", "fleet=clusters-web", "-o", "json")
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		f.Fatal(err)
	}
	var answer struct {
		Columns   []struct{ Cluster, Away string }
		Different bool
		Rows      []struct {
			Object, What string
			Values       []string
		}
	}
	if jsonErr := json.Unmarshal([]byte(out), &answer); jsonErr != nil {
		f.Fatalf("compare: %v: %s: %v", jsonErr, out, err)
	}
	if answer.Different != (err != nil) {
		f.Errorf("compare: different is %v, and the exit %v", answer.Different, err)
	}
	rows := map[string][]string{}
	for _, r := range answer.Rows {
		rows[strings.TrimSpace(r.Object+" "+r.What)] = r.Values
	}
	return rows
}

// stateOf is the state of a cluster, as it is listed.
func (f *fleetOf) stateOf(name string) string {
	f.Helper()
	return shared.must(f.T, "cluster", "list", "-o", fmt.Sprintf("jsonpath={.items[?(@.name==%q)].state}", name))
}

// TestClusters delivers to three clusters, loses one of them, compares them and
// rolls all of them back by one commit.
func TestClusters(t *testing.T) {
	f := &fleetOf{t, testkit.StartCluster(t, testkit.ClusterOptions{}), testkit.StartCluster(t, testkit.ClusterOptions{})}
	f.add("prod-us", f.us)
	f.add("prod-eu", f.eu)
	web := func(image string) string {
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  selector: {matchLabels: {app: web}}\n" +
			"  template:\n    metadata: {labels: {app: web}}\n    spec: {containers: [{name: web, image: " + image + "}]}\n"
	}
	overlay := func(replicas int) string {
		return fmt.Sprintf("resources: [../base]\nreplicas: [{name: web, count: %d}]\n", replicas)
	}
	dir := shared.repository(t, "clusters-web", map[string]string{
		"base/web.yaml": web("web:1"), "base/kustomization.yaml": "resources: [web.yaml]\n",
		"staging/kustomization.yaml": overlay(1), "prod-us/kustomization.yaml": overlay(2), "prod-eu/kustomization.yaml": overlay(2),
	})
	url := shared.status(t).GitURL + "/clusters-web.git"
	apps := map[string]string{"staging": "in-cluster", "prod-us": "prod-us", "prod-eu": "prod-eu"}
	for path, cluster := range apps {
		shared.must(t, "app", "create", "clusters-"+path, "--repo", url, "--path", path, "--dest-name", cluster, "--dest-namespace", "clusters-web",
			"--sync-policy", "automated", "--self-heal", "--auto-prune", "--sync-option", "CreateNamespace=true", "--label", "fleet=clusters-web")
	}
	wait := func(names ...string) {
		t.Helper()
		head := shared.git(t, dir, "rev-parse", "HEAD")
		for _, name := range names {
			shared.must(t, "app", "wait", "clusters-"+name, "--revision", head, "--timeout", "90")
		}
	}
	wait("staging", "prod-us", "prod-eu")
	f.wantImage(f.us, "web:1 2")
	f.wantImage(f.eu, "web:1 2")
	good := shared.git(t, dir, "rev-parse", "HEAD")

	// The same revision everywhere; what differs is what was meant to.
	if rows := f.compare(); len(rows) != 1 || strings.Join(rows["Deployment/web replicas"], " ") != "2 2 1" {
		t.Errorf("compare: %v", rows)
	}

	// Drift is healed in another cluster.
	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"by-hand:1"}]}}}}`)
	if _, err := f.eu.Client.AppsV1().Deployments("clusters-web").Patch(t.Context(), "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	f.wantImage(f.eu, "web:1 2")

	f.loses(dir, web, wait)

	// One rollback for all: one commit, made by the user.
	shared.must(t, "app", "rollback", "--selector", "fleet=clusters-web", "--to", good, "--reason", "two is bad")
	before := shared.git(t, dir, "rev-parse", "HEAD")
	shared.git(t, dir, "pull", "-q")
	if parent := shared.git(t, dir, "rev-parse", "HEAD^"); parent != before {
		t.Errorf("the rollback is more than one commit: %s", shared.git(t, dir, "log", "--oneline"))
	}
	wait("staging", "prod-us", "prod-eu")
	f.wantImage(f.us, "web:1 2")
	f.wantImage(f.eu, "web:1 2")

	f.generates(url)
	f.leaves()
}

// generates makes an Application for each cluster of production by an
// ApplicationSet, and none for the others.
func (f *fleetOf) generates(url string) {
	f.Helper()
	shared.apply(f.T, `apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata: {name: clusters-set, namespace: argocd}
spec:
  goTemplate: true
  generators: [{clusters: {selector: {matchLabels: {stage: production}}}}]
  template:
    metadata: {name: 'clusters-set-{{ .name }}'}
    spec:
      project: default
      source: {repoURL: '`+url+`', path: '{{ .name }}'}
      destination: {server: '{{ .server }}', namespace: clusters-set}
      syncPolicy: {automated: {prune: true}, syncOptions: [CreateNamespace=true]}
`)
	for name, c := range map[string]*testkit.Cluster{"prod-us": f.us, "prod-eu": f.eu} {
		eventually(f.T, func() string {
			if _, err := c.Client.AppsV1().Deployments("clusters-set").Get(f.Context(), "web", metav1.GetOptions{}); err != nil {
				return name + ": " + err.Error()
			}
			return ""
		})
	}
	if out := shared.must(f.T, "app", "list", "-o", "json"); strings.Count(out, `"name": "clusters-set-`) != 2 {
		f.Errorf("applications of the set: %s", out)
	}
	shared.must(f.T, "app", "wait", "clusters-set-prod-us", "clusters-set-prod-eu", "--timeout", "90")
	if out := shared.must(f.T, "app", "compare", "--appset", "clusters-set"); !strings.Contains(out, "no difference") {
		f.Errorf("compare: %s", out)
	}
	shared.must(f.T, "appset", "delete", "clusters-set")
	eventually(f.T, func() string {
		if out := shared.must(f.T, "app", "list", "-o", "json"); strings.Contains(out, `"name": "clusters-set-`) {
			return out
		}
		return ""
	})
}

// loses kills a cluster: it is shown as away, the others are delivered to, and
// when it is back it has what was committed meanwhile.
func (f *fleetOf) loses(dir string, web func(string) string, wait func(...string)) {
	f.Helper()
	if err := f.eu.Kill(); err != nil {
		f.Fatal(err)
	}
	shared.push(f.T, dir, map[string]string{"base/web.yaml": web("web:2")})
	wait("staging", "prod-us")
	f.wantImage(f.us, "web:2 2")
	eventually(f.T, func() string {
		if state := f.stateOf("prod-eu"); state != "Away" {
			return "prod-eu is " + state
		}
		return ""
	})
	if state := f.stateOf("prod-us"); state != "Connected" {
		f.Errorf("prod-us is %s", state)
	}
	eventually(f.T, func() string {
		out := shared.must(f.T, "app", "get", "clusters-prod-eu")
		if !strings.Contains(out, `cluster "prod-eu"`) || !strings.Contains(out, "is away since") {
			return out
		}
		return ""
	})
	if rows := f.compare(); strings.Join(rows["Deployment/web replicas"], " ") != "? 2 1" {
		f.Errorf("compare with one away: %v", rows)
	}
	if err := f.eu.Restart(); err != nil {
		f.Fatal(err)
	}
	f.wantImage(f.eu, "web:2 2")
	wait("prod-eu")
}

// leaves removes clusters: one that Applications are for is not removed, and
// no credential was ever shown.
func (f *fleetOf) leaves() {
	f.Helper()
	if _, err := shared.run(f.Context(), "cluster", "remove", "prod-eu"); err == nil || !strings.Contains(err.Error(), "clusters-prod-eu") {
		f.Errorf("a cluster with Applications is removed: %v", err)
	}
	token := shared.kubectl(f.T, "-n", "argocd", "get", "secrets", "-l", "argocd.argoproj.io/secret-type=cluster", "-o", "jsonpath={.items[0].data.config}")
	if len(token) < 100 {
		f.Fatalf("the Secret has no credential: %s", token)
	}
	secret, err := f.us.Client.CoreV1().Secrets("kube-system").Get(f.Context(), "fairway-manager-token", metav1.GetOptions{})
	if err != nil {
		f.Fatal(err)
	}
	shown := shared.must(f.T, "cluster", "list", "-o", "yaml") + shared.must(f.T, "app", "list", "-o", "yaml") + shared.must(f.T, "app", "get", "clusters-prod-us", "-o", "yaml")
	if text, err := os.ReadFile(shared.data + "/log/fairway.log"); err == nil {
		shown += string(text)
	}
	if strings.Contains(shown, string(secret.Data["token"])) {
		f.Error("a token is shown")
	}
	for _, name := range []string{"staging", "prod-us", "prod-eu"} {
		shared.must(f.T, "app", "delete", "clusters-"+name)
	}
	eventually(f.T, func() string {
		if out := shared.must(f.T, "app", "list", "--selector", "fleet=clusters-web", "-o", "json"); strings.TrimSpace(out) != "[]" {
			return "still there: " + out
		}
		return ""
	})
	if got := f.image(f.us); !strings.Contains(got, "not found") {
		f.Errorf("the Deployment of prod-us is still there: %s", got)
	}
	shared.must(f.T, "cluster", "remove", "prod-eu")
	if out := shared.must(f.T, "cluster", "list"); strings.Contains(out, "prod-eu") || !strings.Contains(out, "prod-us") {
		f.Errorf("after the removal: %s", out)
	}

	// One for some namespaces, and a name for the instance's own.
	f.add("narrow", f.eu, "--namespace", "default", "--rotate")
	if _, err := f.eu.Client.RbacV1().RoleBindings("default").Get(f.Context(), "fairway-manager", metav1.GetOptions{}); err != nil {
		f.Error(err)
	}
	eventually(f.T, func() string {
		if state := f.stateOf("narrow"); state != "Connected" {
			return "narrow is " + state
		}
		return ""
	})
	shared.must(f.T, "cluster", "add", "--in-cluster", "--name", "staging", "--label", "stage=test")
	eventually(f.T, func() string {
		if state := f.stateOf("staging"); state != "Connected" {
			return shared.must(f.T, "cluster", "list")
		}
		return ""
	})
	shared.must(f.T, "cluster", "remove", "staging", "--force")
}
