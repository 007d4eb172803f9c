package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// Who may not commit holds several Applications at what was good, all of them
// or none, and is told what to do.
func TestRollbackOfSeveralByPins(t *testing.T) {
	dir := shared.repository(t, "pins-many", map[string]string{
		"base/kustomization.yaml": "resources: [cm.yaml]\n", "base/cm.yaml": configMap("settings", "good"),
		"one/kustomization.yaml": "resources: [../base]\n", "two/kustomization.yaml": "resources: [../base]\n",
	})
	good := shared.git(t, dir, "rev-parse", "HEAD")
	for _, name := range []string{"one", "two"} {
		shared.apply(t, application("pins-"+name, publicGitURL(t)+"/pins-many.git", name, "pins-"+name))
		shared.key(t, "pins-"+name, "settings", "good")
		shared.history(t, "pins-"+name, 1)
	}
	shared.push(t, dir, map[string]string{"base/cm.yaml": configMap("settings", "bad")})
	bad := shared.git(t, dir, "rev-parse", "HEAD")
	for _, name := range []string{"one", "two"} {
		shared.key(t, "pins-"+name, "settings", "bad")
		shared.history(t, "pins-"+name, 2)
	}
	shared.kubectl(t, "create", "serviceaccount", "pins-operator", "-n", "default")
	shared.kubectl(t, "create", "role", "pins-operator", "-n", "argocd", "--verb=get,update", "--resource=applications.argoproj.io", "--resource-name=pins-one")
	shared.kubectl(t, "create", "rolebinding", "pins-operator", "-n", "argocd", "--role=pins-operator", "--serviceaccount=default:pins-operator")
	const both = `{"deliveries": [{"kind": "Application", "namespace": "argocd", "name": "pins-one"}, {"kind": "Application", "namespace": "argocd", "name": "pins-two"}], "reason": "it is bad"}`
	roll := func(into any) int { return postAs(t, "pins-operator", "/api/v1/rollbacks", both, into) }

	// One of them is not his to hold.
	var refused struct{ Error string }
	if code := roll(&refused); code != http.StatusForbidden || !strings.Contains(refused.Error, "pins-two") {
		t.Fatalf("%d %s", code, refused.Error)
	}
	shared.notPinned(t, "pins-one")

	shared.kubectl(t, "delete", "role", "pins-operator", "-n", "argocd")
	shared.kubectl(t, "create", "role", "pins-operator", "-n", "argocd", "--verb=get,update", "--resource=applications.argoproj.io")
	var result struct{ Items []rolledBack }
	eventually(t, func() string { // a role that was just made is not in every answer yet
		if code := roll(&result); code != http.StatusOK {
			return http.StatusText(code)
		}
		return ""
	})
	if len(result.Items) != 2 {
		t.Fatalf("%+v", result)
	}
	for i, name := range []string{"pins-one", "pins-two"} {
		if r := result.Items[i]; !r.Pinned || r.Commit != "" || r.Revision != good || !containsAll(r.ToDo, []string{"may not update repositories", "git checkout " + good, "fairway app unpin " + name}) {
			t.Errorf("%s: %+v", name, r)
		}
		shared.isPinned(t, name, good, "pins-operator", "it is bad")
		shared.key(t, name, "settings", "good")
	}
	if head := shared.git(t, dir, "ls-remote", "origin", "refs/heads/main"); !strings.HasPrefix(head, bad) {
		t.Errorf("the branch is at %s, want %s", head, bad)
	}

	// Somebody who may commits: it is one commit for both. A pin that was there
	// before stays, and that is said.
	out := shared.must(t, "app", "rollback", "pins-one", "pins-two", "--to", good, "--reason", "for good")
	if !containsAll(out, []string{"base/cm.yaml", "fairway app unpin pins-one", "fairway app unpin pins-two"}) {
		t.Errorf("rollback: %s", out)
	}
	if head := shared.git(t, dir, "ls-remote", "origin", "refs/heads/main"); strings.HasPrefix(head, bad) {
		t.Errorf("the branch is still at %s", head)
	}
	for _, name := range []string{"pins-one", "pins-two"} {
		shared.isPinned(t, name, good)
		shared.must(t, "app", "unpin", name)
		shared.synced(t, name)
		shared.key(t, name, "settings", "good")
		shared.notPinned(t, name)
	}
}

// What a sync window forbids is said by the commands that meet it.
func TestSyncWindowsOnTheCommandLine(t *testing.T) {
	const project = `apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: windows-cli, namespace: argocd}
spec:
  sourceRepos: ['*']
  destinations: [{server: '*', namespace: '*'}]
  clusterResourceWhitelist: [{group: '*', kind: '*'}]
`
	const closed = "  syncWindows:\n  - {kind: allow, schedule: '0 0 31 2 *', duration: 1h, applications: ['*']MORE}\n"
	shared.apply(t, project+strings.Replace(closed, "MORE", "", 1))
	dir := shared.repository(t, "windows-cli", map[string]string{"app/a.yaml": configMap("a", "one")})
	shared.apply(t, strings.Replace(application("windows-cli", publicGitURL(t)+"/windows-cli.git", "app", "windows-cli"), "project: default", "project: windows-cli", 1))
	get := func(says ...string) {
		t.Helper()
		eventually(t, func() string {
			if out := shared.must(t, "app", "get", "windows-cli"); !containsAll(out, says) {
				return out
			}
			return ""
		})
	}
	get("OutOfSync", "SyncWindow", "allow", "0 0 31 2 *")
	shared.refused(t, "is forbidden now by", "app", "sync", "windows-cli")
	shared.refused(t, "manualSync permits it", "app", "sync", "windows-cli")
	shared.want(t, "", "get", "configmap", "a", "-n", "windows-cli", "--ignore-not-found", "-o", "name")

	// By hand it is permitted, and a push still waits.
	shared.apply(t, project+strings.Replace(closed, "MORE", ", manualSync: true", 1))
	if out := shared.must(t, "app", "sync", "windows-cli", "--timeout", "60"); !strings.Contains(out, "successfully synced") {
		t.Errorf("sync by hand: %s", out)
	}
	shared.key(t, "windows-cli", "a", "one")
	shared.push(t, dir, map[string]string{"app/a.yaml": configMap("a", "two")})
	get("OutOfSync", "SyncWindow")
	shared.key(t, "windows-cli", "a", "one")

	// Without windows it goes by itself.
	shared.apply(t, project+"  syncWindows: []\n")
	shared.key(t, "windows-cli", "a", "two")
	if out := shared.must(t, "app", "get", "windows-cli"); strings.Contains(out, "0 0 31 2 *") {
		t.Errorf("there is no window any more: %s", out)
	}
}

// An Application whose deletion is held goes with --cascade=false, and what it
// has stays.
func TestDeletionThatIsHeld(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		options string
		says    string
	}{
		"held-confirm": {nil, "    - Delete=confirm\n", "waiting for deletion confirmation"},
		"held-hook": {map[string]string{"app/before.yaml": strings.Replace(hookJob("before", "PreDelete"),
			"      restartPolicy: Never\n", "      restartPolicy: Never\n      nodeSelector: {no: where}\n", 1)}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"app/one.yaml": configMap("one", "one")}
			for path, text := range c.files {
				files[path] = text
			}
			shared.repository(t, name, files)
			manifest := application(name, publicGitURL(t)+"/"+name+".git", "app", name)
			shared.apply(t, strings.Replace(manifest, "    - CreateNamespace=true\n", "    - CreateNamespace=true\n"+c.options, 1))
			shared.names(t, name, "one")
			shared.must(t, "app", "wait", name, "--timeout", "60")
			shared.must(t, "app", "delete", name)
			if c.says != "" {
				shared.says(t, name, problems, c.says)
			} else { // nothing is wrong with a hook that takes its time
				shared.want(t, "before", "get", "job", "-n", name, "-o", "jsonpath={.items[*].metadata.name}")
			}
			shared.must(t, "app", "delete", name) // asks for what is under way
			shared.must(t, "app", "delete", name, "--propagation-policy", "background")
			shared.names(t, name, "one")

			shared.must(t, "app", "delete", name, "--cascade=false")
			shared.want(t, "", "get", "application", name, "-n", "argocd", "--ignore-not-found", "-o", "name")
			shared.names(t, name, "one")
		})
	}
}

// Who asks a Kustomization for what only an Application does is told what to do
// in its place.
func TestKustomizationOnTheCommandLine(t *testing.T) {
	dir := shared.repository(t, "verbs", map[string]string{"app/a.yaml": configMap("a", "one")})
	shared.kubectl(t, "create", "namespace", "verbs")
	manifest := flux("verbs", "verbs", publicGitURL(t)+"/verbs.git", "./app", "")
	shared.apply(t, manifest)
	shared.key(t, "verbs", "a", "one")
	first := shared.git(t, dir, "rev-parse", "HEAD")
	for _, c := range []struct{ says, args string }{
		{"is a Kustomization, for which there is no --revision", "sync verbs --revision main"},
		{"fairway app pin verbs --revision", "sync verbs --revision main"},
		{"fairway app diff verbs", "sync verbs --dry-run"},
		{"there is no --prune, --force, --strategy", "sync verbs --prune --force --strategy apply"},
		{"spec.deletionPolicy to Orphan", "delete verbs --cascade=false"},
		{"is a Kustomization, which has no operations", "terminate-op verbs"},
	} {
		shared.refused(t, c.says, append([]string{"app"}, strings.Fields(c.args)...)...)
	}
	if out := shared.must(t, "app", "sync", "verbs", "--timeout", "60"); !strings.Contains(out, first[:7]) && !strings.Contains(out, first) {
		t.Errorf("sync: %s", out)
	}
	shared.must(t, "app", "pin", "verbs", "--revision", first, "--reason", "a test")
	shared.push(t, dir, map[string]string{"app/a.yaml": configMap("a", "two")})
	shared.must(t, "app", "sync", "verbs", "--timeout", "60")
	shared.key(t, "verbs", "a", "one")
	shared.must(t, "app", "unpin", "verbs")
	shared.key(t, "verbs", "a", "two")

	shared.kubectl(t, "patch", "kustomization", "verbs", "--type=merge", "-p", `{"spec":{"suspend":true}}`)
	shared.refused(t, "is suspended", "app", "sync", "verbs")
	shared.kubectl(t, "patch", "kustomization", "verbs", "--type=merge", "-p", `{"spec":{"suspend":false,"deletionPolicy":"Orphan"}}`)
	shared.must(t, "app", "delete", "verbs")
	shared.want(t, "", "get", "kustomization", "verbs", "--ignore-not-found", "-o", "name")
	shared.key(t, "verbs", "a", "two")
}
