package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// hookJob is a Job that is a hook. Its pod runs on the nodes that there are.
func hookJob(name, hook string, annotations ...string) string {
	more := ""
	for _, a := range annotations {
		more += "    " + a + "\n"
	}
	return fmt.Sprintf(`apiVersion: batch/v1
kind: Job
metadata:
  name: %s
  annotations:
    argocd.argoproj.io/hook: %s
%sspec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: main
        image: example.com/none:1
`, name, hook, more)
}

// annotated is a ConfigMap with an annotation.
func annotated(name, annotation string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  annotations:\n    %s\ndata:\n  key: %s\n", name, annotation, name)
}

// cascading is the application with the finalizer that deletes what it owns.
func cascading(manifest string) string {
	return strings.Replace(manifest, "  namespace: argocd\n", "  namespace: argocd\n  finalizers: [resources-finalizer.argocd.argoproj.io]\n", 1)
}

// approve confirms what the application waits for.
func (i *instance) approve(t *testing.T, app, when string) {
	t.Helper()
	i.kubectl(t, "annotate", "application", app, "-n", "argocd", "--overwrite", "argocd.argoproj.io/deletion-approved="+when)
}

func rightNow() string { return time.Now().UTC().Format(time.RFC3339) }

// names waits until there are these ConfigMaps in the namespace, and no other.
func (i *instance) names(t *testing.T, namespace string, want ...string) {
	t.Helper()
	eventually(t, func() string {
		got := configMaps(t, i, namespace)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			return fmt.Sprintf("there are %v, want %v", got, want)
		}
		return ""
	})
}

// configMaps are those of the namespace but what Kubernetes itself puts there.
func configMaps(t *testing.T, i *instance, namespace string) []string {
	t.Helper()
	var names []string
	for _, name := range strings.Fields(i.kubectl(t, "get", "configmaps", "-n", namespace, "-o", "jsonpath={.items[*].metadata.name}")) {
		if name != "kube-root-ca.crt" {
			names = append(names, name)
		}
	}
	return names
}

// says waits until a field of the application holds the text.
func (i *instance) says(t *testing.T, app, path, want string) {
	t.Helper()
	eventually(t, func() string {
		got, err := i.run(t.Context(), "kubectl", "get", "application", app, "-n", "argocd", "-o", "jsonpath="+path)
		if err != nil {
			return err.Error()
		}
		if !strings.Contains(got, want) {
			return fmt.Sprintf("%s of %s is %q, want %q", path, app, got, want)
		}
		return ""
	})
}

const (
	phase     = "{.status.operationState.phase}"
	message   = "{.status.operationState.message}"
	syncState = "{.status.sync.status}"
	problems  = "{.status.conditions[*].message}"
)

// What has Prune=confirm is pruned when somebody confirms it, after it was
// asked for; all else goes on. What has Delete=confirm holds a deletion, of
// which nothing is done before.
func TestConfirm(t *testing.T) {
	const app = "confirm"
	dir := shared.repository(t, app, map[string]string{
		"app/precious.yaml": annotated("precious", "argocd.argoproj.io/sync-options: Prune=confirm"),
		"app/dear.yaml":     annotated("dear", "argocd.argoproj.io/sync-options: Delete=confirm"),
		"app/plain.yaml":    configMap("plain", "one"),
		"app/other.yaml":    configMap("other", "one"),
		"app/last.yaml":     hookJob("last", "PostSync", "argocd.argoproj.io/hook-delete-policy: HookSucceeded"),
	})
	shared.apply(t, cascading(application(app, publicGitURL(t)+"/"+app+".git", "app", app)))
	shared.names(t, app, "dear", "other", "plain", "precious")
	shared.says(t, app, syncState, "Synced")

	// A confirmation from before is none.
	shared.approve(t, app, "2020-01-01T00:00:00Z")
	shared.push(t, dir, map[string]string{"app/precious.yaml": "", "app/plain.yaml": "", "app/new.yaml": configMap("new", "one")})
	shared.names(t, app, "dear", "new", "other", "precious")
	shared.says(t, app, message, "waiting for pruning confirmation of ConfigMap confirm/precious")
	shared.says(t, app, message, "2020-01-01")
	shared.says(t, app, phase, "Running")
	shared.says(t, app, `{.status.resources[?(@.name=="precious")].requiresDeletionConfirmation}`, "true")

	// A later commit is not held by it.
	shared.push(t, dir, map[string]string{"app/newer.yaml": configMap("newer", "one")})
	shared.names(t, app, "dear", "new", "newer", "other", "precious")
	shared.says(t, app, phase, "Running")

	shared.approve(t, app, rightNow())
	shared.names(t, app, "dear", "new", "newer", "other")
	shared.says(t, app, phase, "Succeeded")
	shared.says(t, app, syncState, "Synced")

	time.Sleep(1100 * time.Millisecond) // times have seconds: the deletion is to be after the confirmation
	shared.kubectl(t, "delete", "application", app, "-n", "argocd", "--wait=false")
	shared.says(t, app, problems, "waiting for deletion confirmation of ConfigMap confirm/dear")
	if got := configMaps(t, shared, app); len(got) != 4 {
		t.Errorf("before the confirmation only %v are left", got)
	}
	shared.approve(t, app, rightNow())
	shared.names(t, app)
	shared.want(t, "", "get", "application", app, "-n", "argocd", "--ignore-not-found", "-o", "name")
}

// The whole application can ask for confirmations; an object's own word wins.
func TestConfirmWholeApplication(t *testing.T) {
	const app = "confirm-all"
	dir := shared.repository(t, app, map[string]string{
		"app/free.yaml": annotated("free", "argocd.argoproj.io/sync-options: Prune=true"),
		"app/held.yaml": configMap("held", "one"),
		"app/rest.yaml": configMap("rest", "one"),
	})
	manifest := cascading(application(app, publicGitURL(t)+"/"+app+".git", "app", app))
	shared.apply(t, strings.Replace(manifest, "    - CreateNamespace=true\n", "    - CreateNamespace=true\n    - Prune=confirm\n    - Delete=confirm\n", 1))
	shared.names(t, app, "free", "held", "rest")
	shared.says(t, app, phase, "Succeeded")
	shared.push(t, dir, map[string]string{"app/free.yaml": "", "app/held.yaml": ""})
	shared.names(t, app, "held", "rest")
	shared.says(t, app, message, "waiting for pruning confirmation of ConfigMap confirm-all/held")

	// Who takes the option back is not asked any more.
	shared.apply(t, strings.Replace(manifest, "    - CreateNamespace=true\n", "    - CreateNamespace=true\n    - Delete=confirm\n", 1))
	shared.names(t, app, "rest")
	shared.says(t, app, phase, "Succeeded")

	shared.kubectl(t, "delete", "application", app, "-n", "argocd", "--wait=false")
	shared.says(t, app, problems, "waiting for deletion confirmation of ConfigMap confirm-all/rest")
	shared.approve(t, app, rightNow())
	shared.want(t, "", "get", "application", app, "-n", "argocd", "--ignore-not-found", "-o", "name")
	shared.names(t, app)
}

// PreDelete hooks run before anything is deleted, and one that fails holds the
// deletion; PostDelete hooks run when all is gone.
func TestDeleteHooks(t *testing.T) {
	const app = "delete-hooks"
	stuck := strings.Replace(hookJob("before", "PreDelete"), "  backoffLimit: 0\n", "  backoffLimit: 0\n  activeDeadlineSeconds: 1\n", 1)
	stuck = strings.Replace(stuck, "      restartPolicy: Never\n", "      restartPolicy: Never\n      nodeSelector: {no: where}\n", 1)
	dir := shared.repository(t, app, map[string]string{
		"app/one.yaml":    configMap("one", "one"),
		"app/before.yaml": stuck,
		"app/after.yaml":  hookJob("after", "PostDelete"),
	})
	shared.apply(t, cascading(application(app, publicGitURL(t)+"/"+app+".git", "app", app)))
	shared.names(t, app, "one")
	shared.says(t, app, syncState, "Synced")
	shared.want(t, "", "get", "jobs", "-n", app, "-o", "name")

	shared.kubectl(t, "delete", "application", app, "-n", "argocd", "--wait=false")
	shared.says(t, app, problems, "before")
	shared.names(t, app, "one")
	shared.want(t, "", "get", "job", "after", "-n", app, "-o", "name", "--ignore-not-found")

	// What is right now is run in place of what had failed.
	shared.push(t, dir, map[string]string{"app/before.yaml": hookJob("before", "PreDelete")})
	shared.want(t, "", "get", "application", app, "-n", "argocd", "--ignore-not-found", "-o", "name")
	shared.names(t, app)
	shared.want(t, "1", "get", "job", "after", "-n", app, "-o", "jsonpath={.status.succeeded}")
	shared.want(t, "", "get", "job", "before", "-n", app, "-o", "name", "--ignore-not-found")
}

// While a Kustomization or its GitRepository is suspended nothing of it moves
// and nothing is healed; when it is resumed, what was missed is made good.
func TestSuspend(t *testing.T) {
	const app = "suspend"
	dir := shared.repository(t, app, map[string]string{"app/cm.yaml": configMap("cm", "one")})
	shared.kubectl(t, "create", "namespace", app)
	shared.apply(t, flux(app, app, publicGitURL(t)+"/"+app+".git", "./app", ""))
	value := []string{"get", "configmap", "cm", "-n", app, "-o", "jsonpath={.data.key}"}
	shared.want(t, "one", value...)
	revision := []string{"get", "gitrepository", app, "-n", "default", "-o", "jsonpath={.status.artifact.revision}"}
	suspend := func(kind string, on bool) {
		t.Helper()
		shared.kubectl(t, "patch", kind, app, "-n", "default", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"suspend":%t}}`, on))
	}

	suspend("kustomization", true)
	shared.push(t, dir, map[string]string{"app/cm.yaml": configMap("cm", "two")})
	shared.want(t, "main@sha1:"+shared.git(t, dir, "rev-parse", "HEAD"), revision...)
	shared.kubectl(t, "patch", "configmap", "cm", "-n", app, "--type=merge", "-p", `{"data":{"key":"by-hand"}}`)
	shared.marker(t)
	if got := shared.kubectl(t, value...); got != "by-hand" {
		t.Errorf("while the Kustomization is suspended the key has become %q", got)
	}
	suspend("kustomization", false)
	shared.want(t, "two", value...)

	suspend("gitrepository", true)
	shared.push(t, dir, map[string]string{"app/cm.yaml": configMap("cm", "three")})
	shared.marker(t)
	if got := shared.kubectl(t, value...); got != "two" {
		t.Errorf("while the GitRepository is suspended the key has become %q", got)
	}
	shared.kubectl(t, "patch", "configmap", "cm", "-n", app, "--type=merge", "-p", `{"data":{"key":"by-hand"}}`)
	shared.want(t, "two", value...) // its Kustomization goes on
	suspend("gitrepository", false)
	shared.want(t, "three", value...)
}

// marker waits until a push that was made just now was delivered: the engine
// has had the time for what was pushed before.
func (i *instance) marker(t *testing.T) {
	t.Helper()
	name := fmt.Sprintf("marker-%d", time.Now().UnixNano())
	i.repository(t, name, map[string]string{"app/cm.yaml": configMap("cm", "one")})
	i.apply(t, application(name, publicGitURL(t)+"/"+name+".git", "app", name))
	i.want(t, "one", "get", "configmap", "cm", "-n", name, "-o", "jsonpath={.data.key}")
	i.kubectl(t, "delete", "application", name, "-n", "argocd")
}

// An Application of several sources: a chart in one repository, its values in
// another, plain manifests in a third. Each moves it by itself.
func TestSeveralSources(t *testing.T) {
	const app = "several"
	shared.repository(t, app+"-chart", map[string]string{
		"chart/Chart.yaml":        "apiVersion: v2\nname: several\nversion: 1.0.0\n",
		"chart/values.yaml":       "colour: none\nsize: small\n",
		"chart/templates/cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: chart}\ndata: {key: '{{ .Values.colour }} {{ .Values.size }}'}\n",
	})
	values := shared.repository(t, app+"-values", map[string]string{"production/values.yaml": "colour: red\n"})
	plain := shared.repository(t, app+"-plain", map[string]string{"app/plain.yaml": configMap("plain", "one")})
	base := publicGitURL(t) + "/" + app
	shared.apply(t, fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: %[1]s, namespace: argocd}
spec:
  project: default
  sources:
  - repoURL: %[2]s-chart.git
    targetRevision: HEAD
    path: chart
    helm: {valueFiles: [$values/production/values.yaml]}
  - {repoURL: %[2]s-values.git, targetRevision: HEAD, ref: values}
  - {repoURL: %[2]s-plain.git, targetRevision: HEAD, path: app}
  destination: {server: https://kubernetes.default.svc, namespace: %[1]s}
  syncPolicy:
    automated: {prune: true, selfHeal: true}
    syncOptions: [CreateNamespace=true]
`, app, base))
	key := func(name string) []string {
		return []string{"get", "configmap", name, "-n", app, "-o", "jsonpath={.data.key}"}
	}
	shared.want(t, "red small", key("chart")...)
	shared.want(t, "one", key("plain")...)
	shared.push(t, values, map[string]string{"production/values.yaml": "colour: blue\nsize: large\n"})
	shared.want(t, "blue large", key("chart")...)
	shared.push(t, plain, map[string]string{"app/plain.yaml": configMap("plain", "two")})
	shared.want(t, "two", key("plain")...)
	shared.says(t, app, "{.status.sync.revisions[1]}", shared.git(t, values, "rev-parse", "HEAD"))
	shared.says(t, app, "{.status.history[*].id}", "0 1 2")
	shared.push(t, values, map[string]string{"production/values.yaml": ""})
	shared.says(t, app, problems, "production/values.yaml")
	shared.says(t, app, syncState, "Unknown")
	shared.want(t, "blue large", key("chart")...)
}

// An Application of Applications makes them, follows a new one, and deletes
// with what it owned the one that is removed from Git.
func TestAppOfApps(t *testing.T) {
	const app = "parent"
	url := publicGitURL(t) + "/" + app + ".git"
	child := func(name string) string { return cascading(application(name, url, name, name)) }
	dir := shared.repository(t, app, map[string]string{
		"apps/first.yaml": child("first-child"), "first-child/cm.yaml": configMap("cm", "first"),
		"second-child/cm.yaml": configMap("cm", "second"),
	})
	shared.apply(t, cascading(application(app, url, "apps", "argocd")))
	shared.want(t, "first", "get", "configmap", "cm", "-n", "first-child", "-o", "jsonpath={.data.key}")
	shared.says(t, app, syncState, "Synced")
	shared.push(t, dir, map[string]string{"apps/second.yaml": child("second-child")})
	shared.want(t, "second", "get", "configmap", "cm", "-n", "second-child", "-o", "jsonpath={.data.key}")
	shared.push(t, dir, map[string]string{"apps/first.yaml": ""})
	shared.want(t, "", "get", "application", "first-child", "-n", "argocd", "--ignore-not-found", "-o", "name")
	shared.names(t, "first-child")
	shared.kubectl(t, "delete", "application", app, "-n", "argocd")
	shared.want(t, "", "get", "application", "second-child", "-n", "argocd", "--ignore-not-found", "-o", "name")
	shared.names(t, "second-child")
}
