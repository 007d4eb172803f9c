package e2e

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// releaseOf is a HelmRelease of the chart web, and its HelmRepository in our
// own registry.
const releaseOf = `apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: charts, namespace: NAMESPACE}
spec: {type: oci, interval: 1h, url: "oci://REGISTRY/helm-e2e"}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: web, namespace: NAMESPACE}
spec:
  interval: 1h
  chart: {spec: {chart: web, version: 1.x, sourceRef: {kind: HelmRepository, name: charts}}}
  values: {word: mine}
`

// helmChart is a chart whose password is kept by looking it up.
func helmChart(version string) map[string]string {
	return map[string]string{
		"web/Chart.yaml":  "apiVersion: v2\nname: web\nversion: " + version + "\n",
		"web/values.yaml": "word: none\n",
		"web/templates/word.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: word}\ndata: {key: \"{{ .Values.word }} {{ .Chart.Version }} {{ .Release.Revision }}\"}\n" +
			"---\n{{ $old := lookup \"v1\" \"Secret\" .Release.Namespace \"password\" }}\napiVersion: v1\nkind: Secret\nmetadata: {name: password}\n" +
			"stringData: {password: {{ if $old }}{{ $old.data.password | b64dec }}{{ else }}{{ randAlphaNum 16 }}{{ end }}}\n",
	}
}

// A HelmRelease of a chart in our own registry is installed and upgraded by
// workers, and the helm command works on the same release. A namespace without
// permission is told which one it needs.
func TestHelmRelease(t *testing.T) {
	helm, err := program("FAIRWAY_HELM", "oracle/helm")
	if err != nil {
		t.Fatal("no helm, with which charts are pushed: 'make oracle' builds it")
	}
	for _, namespace := range []string{"helm-e2e", "helm-stranger"} {
		shared.kubectl(t, "create", "namespace", namespace)
	}
	push := func(version string) {
		t.Helper()
		dir := t.TempDir()
		for name, content := range helmChart(version) {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		token := strings.TrimSpace(shared.must(t, "token", "create", "helm-e2e", "--can", "push:helm-e2e/web"))
		for _, line := range [][]string{{"package", "web"}, {"push", "web-" + version + ".tgz", "oci://" + shared.status(t).Registry + "/helm-e2e",
			"--plain-http", "--username", "robot", "--password", token}} {
			if _, err := shared.exec(t.Context(), dir, helm, line...); err != nil {
				t.Fatal(err)
			}
		}
	}
	apply := func(namespace string) {
		shared.apply(t, strings.NewReplacer("NAMESPACE", namespace, "REGISTRY", shared.status(t).Registry).Replace(releaseOf))
	}
	ready := func(namespace string) []string {
		return []string{"get", "helmrelease", "web", "-n", namespace, "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].message}"}
	}
	push("1.0.0")
	apply("helm-e2e")
	shared.want(t, "Helm install succeeded for release helm-e2e/web.v1 with chart web@1.0.0", ready("helm-e2e")...)
	shared.key(t, "helm-e2e", "word", "mine 1.0.0 1")
	password := func() string {
		return shared.kubectl(t, "get", "secret", "password", "-n", "helm-e2e", "-o", "jsonpath={.data.password}")
	}
	first := password()

	push("1.1.0") // is an event
	shared.want(t, "Helm upgrade succeeded for release helm-e2e/web.v2 with chart web@1.1.0", ready("helm-e2e")...)
	shared.key(t, "helm-e2e", "word", "mine 1.1.0 2")
	if first == "" || password() != first {
		t.Errorf("the password was %q and is %q", first, password())
	}

	// It is a delivery as the others are, to the command line and to the API.
	if out := shared.must(t, "app", "list"); !regexp.MustCompile(`HelmRelease +helm-e2e +web +Synced +Healthy +1\.1\.0 +HelmRepository/charts +web`).MatchString(out) {
		t.Errorf("app list: %s", out)
	}
	if out := shared.must(t, "source", "list", "-n", "helm-e2e"); !regexp.MustCompile(`HelmChart +helm-e2e +helm-e2e-web +True +1\.1\.0 +\S+ +HelmRepository/charts web`).MatchString(out) ||
		!regexp.MustCompile(`HelmRepository +helm-e2e +charts +True`).MatchString(out) {
		t.Errorf("source list: %s", out)
	}
	if out := shared.must(t, "app", "get", "helm-e2e/web"); !containsAll(out, []string{"helm-e2e/web", "v2, chart web@1.1.0", "Delivered=True", "inputs sha256:", "rendered in", "_word__ConfigMap"}) {
		t.Errorf("app get: %s", out)
	}
	if out := shared.must(t, "app", "history", "helm-e2e/web"); !containsAll(out, []string{"1.0.0", "superseded", "1.1.0", "deployed"}) {
		t.Errorf("app history: %s", out)
	}
	if out := shared.must(t, "app", "sync", "helm-e2e/web"); !strings.Contains(out, "web@1.1.0") {
		t.Errorf("app sync: %s", out)
	}
	shared.must(t, "app", "wait", "helm-e2e/web", "--timeout", "60")
	shared.refused(t, "cannot be pinned", "app", "pin", "helm-e2e/web")
	shared.refused(t, "cannot be rolled back by commit", "app", "rollback", "helm-e2e/web")
	shared.refused(t, "helm list -n helm-e2e", "app", "rollback", "helm-e2e/web", "--to", "1")
	shared.refused(t, "there is no --revision, --prune", "app", "sync", "helm-e2e/web", "--prune", "--revision", "1")
	shared.refused(t, "spec.suspend", "app", "delete", "helm-e2e/web", "--cascade=false")
	shared.refused(t, "rendered from a work tree", "app", "render", "helm-e2e/web", "--local", ".")
	if out := shared.must(t, "app", "render", "helm-e2e/web"); !containsAll(out, []string{"key: mine 1.1.0 2", "password: ++++++++"}) {
		t.Errorf("app render: %s", out)
	}
	if out := shared.must(t, "app", "diff", "helm-e2e/web"); out != "" {
		t.Errorf("a difference right after the upgrade: %s", out)
	}
	if out := shared.must(t, "app", "list", "-o", "json"); !strings.Contains(out, `"kind": "HelmRelease"`) {
		t.Errorf("app list -o json: %s", out)
	}

	// People's own command: a rollback stays while the HelmRelease is suspended.
	command := func(args ...string) string {
		t.Helper()
		out, err := shared.exec(t.Context(), t.TempDir(), helm, append(args, "-n", "helm-e2e", "--kubeconfig", shared.status(t).Kubeconfig)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := command("list"); !containsAll(out, []string{"web-1.1.0", "deployed"}) {
		t.Errorf("helm list: %s", out)
	}
	shared.kubectl(t, "patch", "helmrelease", "web", "-n", "helm-e2e", "--type=merge", "-p", `{"spec":{"suspend":true}}`)
	command("rollback", "web", "1")
	if out := command("history", "web"); !containsAll(out, []string{"web-1.0.0", "web-1.1.0", "Rollback to 1"}) {
		t.Errorf("helm history: %s", out)
	}
	shared.key(t, "helm-e2e", "word", "mine 1.0.0 1")
	shared.refused(t, "is suspended", "app", "sync", "helm-e2e/web")
	if out, err := shared.run(t.Context(), "app", "diff", "helm-e2e/web"); err == nil || !containsAll(out, []string{"ConfigMap helm-e2e/word (Modified)", "-  key: mine 1.0.0 1", "+  key: mine 1.1.0 4"}) {
		t.Errorf("app diff of what helm has rolled back: %s %v", out, err)
	}
	shared.kubectl(t, "patch", "helmrelease", "web", "-n", "helm-e2e", "--type=merge", "-p", `{"spec":{"suspend":false}}`)
	shared.want(t, "Helm upgrade succeeded for release helm-e2e/web.v4 with chart web@1.1.0", ready("helm-e2e")...)
	shared.key(t, "helm-e2e", "word", "mine 1.1.0 4")

	apply("helm-stranger")
	eventually(t, func() string {
		if out := shared.kubectl(t, ready("helm-stranger")...); !strings.Contains(out, "no permission") {
			return out
		}
		return ""
	})
	shared.kubectl(t, "delete", "helmrelease", "web", "-n", "helm-e2e")
	if out := command("list"); strings.Contains(out, "web") {
		t.Errorf("helm list after the end: %s", out)
	}
}

// An Application delivers a chart of a Helm repository over HTTP.
func TestApplicationOfHelmRepository(t *testing.T) {
	helm, err := program("FAIRWAY_HELM", "oracle/helm")
	if err != nil {
		t.Fatal("no helm, with which the repository is made: 'make oracle' builds it")
	}
	dir := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	publish := func(version, word string) {
		t.Helper()
		work := t.TempDir()
		for name, content := range chartFiles("web", version, word) {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(work, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, line := range [][]string{{"package", "web", "-d", dir}, {"repo", "index", dir}} {
			if _, err := shared.exec(t.Context(), work, helm, line...); err != nil {
				t.Fatal(err)
			}
		}
	}
	const app = "helm-http"
	publish("1.0.0", "one")
	shared.apply(t, replaced("    path: x\n", "    chart: web\n")(replaced("targetRevision: HEAD", "targetRevision: 1.x")(application(app, server.URL, "x", app))))
	shared.key(t, app, "word", "one none")
	shared.history(t, app, 1)
	publish("1.1.0", "two")
	shared.must(t, "app", "get", app, "--refresh")
	shared.key(t, app, "word", "two none")
	shared.history(t, app, 2)
	if result := shared.rollback(t, app); !result.Pinned || !strings.HasPrefix(result.Revision, "sha256:") {
		t.Fatalf("rollback: %+v", result)
	}
	shared.key(t, app, "word", "one none")
	shared.must(t, "app", "unpin", app)
	shared.key(t, app, "word", "two none")
}
