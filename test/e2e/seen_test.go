package e2e

import "testing"

// A pipeline waits for its commit with all applications of a repository, those
// that it changes nothing for, too.
func TestWaitForACommitThatChangesNothing(t *testing.T) {
	cm := func(name, value string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {key: v" + value + "}\n"
	}
	dir := shared.repository(t, "seen", map[string]string{"one/a.yaml": cm("one", "1"), "two/a.yaml": cm("two", "1"), "three/a.yaml": cm("three", "1")})
	url := shared.status(t).GitURL + "/seen.git"
	for _, name := range []string{"one", "two"} {
		shared.must(t, "app", "create", "seen-"+name, "--repo", url, "--path", name, "--dest-server", "https://kubernetes.default.svc",
			"--dest-namespace", "seen", "--sync-policy", "automated", "--sync-option", "CreateNamespace=true")
	}
	shared.apply(t, `apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: seen, namespace: default}
spec: {url: "`+url+`", ref: {branch: main}, interval: 1h}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: seen-three, namespace: default}
spec: {path: three, prune: true, interval: 1h, targetNamespace: default, sourceRef: {kind: GitRepository, name: seen}}
`)
	wait := func() {
		t.Helper()
		head := shared.git(t, dir, "rev-parse", "HEAD")
		shared.must(t, "app", "wait", "seen-one", "seen-two", "seen-three", "--revision", head, "--timeout", "60")
		if out, err := shared.run(t.Context(), "app", "wait", "seen-two", "--revision", "0123456789", "--timeout", "1"); err == nil {
			t.Errorf("a commit that is not there was waited for: %s", out)
		}
	}
	wait()
	for _, name := range []string{"one", "two", "three", "none"} {
		shared.push(t, dir, map[string]string{name + "/a.yaml": cm(name, "2")})
		wait()
	}
}
