package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// own starts an instance of the test's own, and returns it with the address
// under which manifests name its repositories.
func own(t *testing.T) (*instance, string) {
	t.Helper()
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		t.Fatal(err)
	}
	i := newInstance(bin, filepath.Join(t.TempDir(), "data"))
	i.must(t, "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort()))
	t.Cleanup(func() { _, _ = i.run(context.Background(), "down") })
	return i, strings.TrimSuffix(i.status(t).UIURL, "/") + "/git"
}

// deliveries are the kinds whose objects are only ours to write, once applied.
const deliveries = "applications.argoproj.io,appprojects.argoproj.io,gitrepositories.source.toolkit.fluxcd.io,kustomizations.kustomize.toolkit.fluxcd.io"

// versions are the resource versions of all deliveries and of all that they
// have delivered.
func (i *instance) versions(t *testing.T, kinds string) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, args := range [][]string{{deliveries}, {kinds, "-l", "fairway-cd.io/managed=true"}} {
		out := i.kubectl(t, append([]string{"get", "-A", "-o", "json"}, args...)...)
		var list struct {
			Items []struct {
				Kind     string
				Metadata struct{ Namespace, Name, ResourceVersion string }
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			versions[o.Kind+" "+o.Metadata.Namespace+"/"+o.Metadata.Name] = o.Metadata.ResourceVersion
		}
	}
	return versions
}

// changed are the names of what differs.
func changed(before, after map[string]string) []string {
	var names []string
	for name, v := range before {
		if after[name] != v {
			names = append(names, name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			names = append(names, name+" (new)")
		}
	}
	slices.Sort(names)
	return names
}

// flux is a GitRepository and a Kustomization of it, in the namespace of the
// repositories, that delivers into ns.
func flux(name, ns, url, path, more string) string {
	return fmt.Sprintf(`apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: %[1]s, namespace: default}
spec: {interval: 1h, url: %[3]s, ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: %[1]s, namespace: default}
spec:
  interval: 1h
  prune: true
  targetNamespace: %[2]s
  sourceRef: {kind: GitRepository, name: %[1]s}
  path: %[4]s
%[5]s`, name, ns, url, path, more)
}

func service(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec:\n  selector: {app: %[1]s}\n  ports: [{port: 80}]\n", name)
}

func deployment(name string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: 'example.com/none:1'}]}
`, name, replicas)
}

// A restart with nothing to do writes nothing: not the objects, and no status
// that is made of what is not known yet.
func TestRestartWritesNothing(t *testing.T) {
	i, base := own(t)
	files := map[string]string{}
	for n := range 5 {
		app := fmt.Sprintf("child-%d", n)
		files["apps/"+app+".yaml"] = application(app, base+"/all.git", "children/"+app, "children")
		files["children/"+app+"/cm.yaml"] = configMap(app, "one")
		files["children/"+app+"/service.yaml"] = service(app)
		files["children/"+app+"/deploy.yaml"] = deployment(app, 1)
	}
	i.repository(t, "all", files)
	read := i.repository(t, "read", map[string]string{"flux/cm.yaml": configMap("flux", "one"), "flux/deploy.yaml": deployment("flux", 1)})
	dir := i.repository(t, "marker", map[string]string{"app/cm.yaml": configMap("marker", "one")})
	i.apply(t, application("root", base+"/all.git", "apps", "argocd"))
	i.apply(t, application("marker", base+"/marker.git", "app", "marker"))
	i.kubectl(t, "create", "namespace", "flux")
	i.apply(t, flux("flux", "flux", base+"/read.git", "./flux", "  wait: true\n"))
	settled := func() {
		t.Helper()
		i.want(t, "True", "get", "kustomization", "flux", "-n", "default", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}{.status.conditions[?(@.status=="False")].message}`)
		eventually(t, func() string {
			out := i.kubectl(t, "get", "applications", "-n", "argocd", "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.sync.status} {.status.health.status} {.status.operationState.phase}{"\n"}{end}`)
			if n := strings.Count(out, "Synced Healthy Succeeded"); n != 7 {
				return out
			}
			return ""
		})
	}
	settled()
	const kinds = "configmaps,services,deployments.apps"
	i.push(t, read, map[string]string{"README": "of no concern to the Kustomization"})
	i.want(t, "main@sha1:"+i.git(t, read, "rev-parse", "HEAD"), "get", "gitrepository", "flux", "-n", "default", "-o", "jsonpath={.status.artifact.revision}")
	before := i.versions(t, kinds)
	for n := range 3 {
		if n == 1 { // by force, too
			if err := syscall.Kill(i.status(t).PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		} else {
			i.must(t, "down")
		}
		i.must(t, "up", "--nodes", "kwok")
		// That a change is delivered shows that the engine is at work again.
		value := fmt.Sprintf("restart-%d", n)
		i.kubectl(t, "patch", "configmap", "marker", "-n", "marker", "--type=merge", "-p", `{"data":{"key":"drifted"}}`)
		i.push(t, dir, map[string]string{"app/cm.yaml": configMap("marker", value)})
		i.want(t, value, "get", "configmap", "marker", "-n", "marker", "-o", "jsonpath={.data.key}")
		settled()
		time.Sleep(time.Second) // what would be written late counts too
		after := i.versions(t, kinds)
		for _, name := range changed(before, after) {
			if !strings.Contains(name, "marker") {
				t.Errorf("restart %d has written %s", n, name)
			}
		}
		before = after
	}
}

// killsDuringSync is how often the server is killed in the middle of a sync.
func killsDuringSync() int {
	if killTimes() > 5 {
		return 25
	}
	return 4
}

// A server that is killed in the middle of a sync of many objects, waves and
// hooks finishes it after its restart: each hook has run once, and the history
// has one entry for each commit.
func TestSoakKilledDuringSync(t *testing.T) {
	i, base := own(t)
	const app = "many"
	files := func(value string) map[string]string {
		f := map[string]string{
			"app/before.yaml": hookJob("before", "PreSync"),
			"app/after.yaml":  hookJob("after", "PostSync"),
		}
		for n := range 120 {
			name := fmt.Sprintf("m-%03d", n)
			f["app/"+name+".yaml"] = strings.Replace(configMap(name, value), "  name: "+name+"\n",
				fmt.Sprintf("  name: %s\n  annotations: {argocd.argoproj.io/sync-wave: '%d'}\n", name, n/40), 1)
		}
		for n := range 3 {
			f[fmt.Sprintf("app/d-%d.yaml", n)] = strings.Replace(deployment(fmt.Sprintf("d-%d", n), 1), "metadata: {name: ",
				fmt.Sprintf("metadata: {annotations: {argocd.argoproj.io/sync-wave: '%d', value: %s}, name: ", n, value), 1)
		}
		return f
	}
	dir := i.repository(t, app, files("v0"))
	i.apply(t, application(app, base+"/"+app+".git", "app", app))
	i.says(t, app, phase, "Succeeded")
	commits := []string{i.git(t, dir, "rev-parse", "HEAD")}
	for n := 1; n <= killsDuringSync(); n++ {
		value := fmt.Sprintf("v%d", n)
		seen := i.hookRuns(t, app)
		i.push(t, dir, files(value))
		commits = append(commits, i.git(t, dir, "rev-parse", "HEAD"))
		time.Sleep(time.Duration(rand.IntN(2500)) * time.Millisecond) // a sync takes about this long
		if err := syscall.Kill(i.status(t).PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		i.must(t, "up", "--nodes", "kwok")
		eventually(t, func() string {
			out := i.kubectl(t, "get", "configmaps", "-n", app, "-l", "fairway-cd.io/managed=true", "-o", "jsonpath={.items[*].data.key}")
			if got := strings.Count(out+" ", value+" "); got != 120 {
				return fmt.Sprintf("%d of 120 objects have %s", got, value)
			}
			return historyIs(t, i, app, commits)
		})
		i.says(t, app, phase, "Succeeded")
		i.says(t, app, syncState, "Synced")
		runs := i.hookRuns(t, app)
		for _, hook := range []string{"before", "after"} {
			if runs[hook] != seen[hook]+1 {
				t.Errorf("kill %d: hook %s has run %d times, want 1", n, hook, runs[hook]-seen[hook])
			}
		}
	}
}

// hookRuns counts how often each hook was made, by the events of its Jobs,
// which tell of each pod that one has made.
func (i *instance) hookRuns(t *testing.T, ns string) map[string]int {
	t.Helper()
	out := i.kubectl(t, "get", "events", "-n", ns, "--field-selector", "reason=SuccessfulCreate,involvedObject.kind=Job", "-o", `jsonpath={range .items[*]}{.involvedObject.name} {.involvedObject.uid}{"\n"}{end}`)
	runs := map[string]map[string]bool{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 {
			if runs[f[0]] == nil {
				runs[f[0]] = map[string]bool{}
			}
			runs[f[0]][f[1]] = true
		}
	}
	counts := map[string]int{}
	for hook, uids := range runs {
		counts[hook] = len(uids)
	}
	return counts
}
