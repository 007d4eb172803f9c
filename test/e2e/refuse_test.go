package e2e

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
)

// What is refused, from the outside: by git, by the command line, by the plain
// protocol. Each refusal is one clear sentence, and costs the others nothing.

// permitReading lets deliveries of a namespace read the repositories of
// namespace default.
func (i *instance) permitReading(t *testing.T, namespace string) {
	t.Helper()
	i.kubectl(t, "create", "rolebinding", "fairway-read-by-"+namespace, "-n", "default",
		"--clusterrole=fairway-reader", "--serviceaccount="+namespace+":default")
}

// A tenant reads its own repositories. Another's it reads when the condition's
// own command was given, and no more when that was taken back. The namespaces
// of Flux and Argo CD read all.
func TestTenants(t *testing.T) {
	url := publicGitURL(t)
	for _, ns := range []string{"tenant-a", "tenant-b"} {
		shared.kubectl(t, "create", "namespace", ns)
	}
	work := shared.repository(t, "tenant-a/private", map[string]string{"app/cm.yaml": configMap("private", "one")})
	source := func(namespace, name string) string {
		return fmt.Sprintf(`---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: %s, namespace: %s}
spec: {interval: 2s, url: %s/tenant-a/private.git, ref: {branch: main}}
`, name, namespace, url)
	}
	shared.apply(t, source("tenant-a", "own")+source("flux-system", "tenants-central")+source("tenant-b", "others")+`---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: others, namespace: tenant-b}
spec: {interval: 1m, prune: true, path: ./app, targetNamespace: tenant-b, sourceRef: {kind: GitRepository, name: others}}
`)
	ready := func(namespace, name, field string) []string {
		return []string{"get", "gitrepositories.source.toolkit.fluxcd.io", name, "-n", namespace, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].` + field + `}`}
	}
	value := []string{"get", "configmap", "private", "-n", "tenant-b", "-o", "jsonpath={.data.key}"}
	shared.want(t, "True", ready("tenant-a", "own", "status")...)
	shared.want(t, "True", ready("flux-system", "tenants-central", "status")...)
	shared.want(t, "AccessDenied", ready("tenant-b", "others", "reason")...)
	message := shared.kubectl(t, ready("tenant-b", "others", "message")...)
	if !strings.Contains(message, "namespace tenant-b may not read repository tenant-a/private") {
		t.Errorf("the condition says %q", message)
	}
	if out, err := shared.run(t.Context(), append([]string{"kubectl"}, value...)...); err == nil {
		t.Errorf("it was delivered: %s", out)
	}
	_, grant, found := strings.Cut(message, "grant it with: kubectl ")
	if !found {
		t.Fatalf("the condition names no grant: %q", message)
	}
	shared.kubectl(t, strings.Fields(strings.TrimSuffix(grant, ")"))...)
	shared.want(t, "one", value...)

	shared.kubectl(t, "delete", "rolebinding", "fairway-read-by-tenant-b", "-n", "tenant-a")
	shared.want(t, "AccessDenied", ready("tenant-b", "others", "reason")...)
	shared.push(t, work, map[string]string{"app/cm.yaml": configMap("private", "two")})
	own := shared.git(t, work, "rev-parse", "HEAD")
	shared.want(t, "main@sha1:"+own, "get", "gitrepositories.source.toolkit.fluxcd.io", "own", "-n", "tenant-a", "-o", "jsonpath={.status.artifact.revision}")
	if got := shared.kubectl(t, value...); got != "one" {
		t.Errorf("what was applied has become %q", got)
	}
}

// An Application outside of the control plane's namespace needs its project's
// permission, and that of who owns the repository.
func TestTenantApplication(t *testing.T) {
	const ns = "tenant-apps"
	shared.kubectl(t, "create", "namespace", ns)
	shared.repository(t, "tenant-apps-source", map[string]string{"app/cm.yaml": configMap("c", "one")})
	manifest := strings.Replace(application("outside", publicGitURL(t)+"/tenant-apps-source.git", "app", ns), "namespace: argocd", "namespace: "+ns, 1)
	shared.apply(t, `apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: tenant-apps, namespace: argocd}
spec: {sourceNamespaces: [tenant-apps], sourceRepos: ["*"], destinations: [{server: "*", namespace: tenant-apps}], clusterResourceWhitelist: [{group: "", kind: Namespace}]}
---
`+strings.Replace(manifest, "project: default", "project: tenant-apps", 1))
	eventually(t, func() string {
		got := shared.kubectl(t, "get", "application", "outside", "-n", ns, "-o", "jsonpath={.status.conditions[*].message}")
		if !strings.Contains(got, "namespace tenant-apps may not read repository default/tenant-apps-source") {
			return "its conditions are " + got
		}
		return ""
	})
	shared.permitReading(t, ns)
	shared.want(t, "one", "get", "configmap", "c", "-n", ns, "-o", "jsonpath={.data.key}")
}

// A repository's own limits: the refusal is one line of git's report.
func TestPushOverTheLimit(t *testing.T) {
	work := shared.repository(t, "refuse-limits", map[string]string{"a.yaml": configMap("a", "one")})
	shared.kubectl(t, "patch", "repositories.fairway-cd.io", "refuse-limits", "--type=merge", "-p", `{"spec":{"limits":{"pushSize":"64Ki","refs":2}}}`)
	object := []string{"get", "repositories.fairway-cd.io", "refuse-limits", "-o"}
	generation := shared.kubectl(t, append(object, "jsonpath={.metadata.generation}")...)
	shared.want(t, generation, append(object, "jsonpath={.status.observedGeneration}")...)
	noise := make([]byte, 256<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	shared.commit(t, work, map[string]string{"noise": string(noise)})
	const line = " ! [remote rejected] HEAD -> main (the push is larger than this repository's limit of 64 KiB)"
	_, err := shared.exec(t.Context(), work, "git", "push", "-q", "origin", "HEAD:main")
	if err == nil || !strings.Contains(err.Error(), line) || strings.Contains(err.Error(), "unpack") || strings.Contains(err.Error(), "fatal") {
		t.Errorf("want the line %q and no other reason: %v", line, err)
	}
	shared.git(t, work, "reset", "-q", "--hard", "HEAD~1")
	shared.git(t, work, "push", "-q", "origin", "HEAD:refs/heads/second")
	_, err = shared.exec(t.Context(), work, "git", "push", "-q", "origin", "HEAD:refs/heads/third")
	if err == nil || !strings.Contains(err.Error(), "the repository would have 3 references, the limit is 2") {
		t.Errorf("a reference too many: %v", err)
	}
	if _, err := shared.run(t.Context(), "kubectl", "patch", "repositories.fairway-cd.io", "refuse-limits", "--type=merge", "-p", `{"spec":{"limits":{"pushSize":"-1"}}}`); err == nil || !strings.Contains(err.Error(), "want more than 0") {
		t.Errorf("a negative limit: %v", err)
	}
}
