package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// rolledBack is what a rollback answers.
type rolledBack struct {
	Revision, Commit, Branch, ToDo string
	Changed                        []string
	Pinned                         bool
	Parts                          []struct {
		Source, Revision, Branch, Commit, ToDo string
		Changed                                []string
		Pinned                                 bool
	}
}

// rollback rolls the application back, on the command line.
func (i *instance) rollback(t *testing.T, args ...string) rolledBack {
	t.Helper()
	var result rolledBack
	out := i.must(t, append([]string{"app", "rollback", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return result
}

// deployedEntry is an entry of a history.
type deployedEntry struct {
	ID       int
	Revision string
	Sources  []struct{ RepoURL, Path, Chart, Ref, Revision string }
}

// history waits until the application's has n entries and returns them.
func (i *instance) history(t *testing.T, app string, n int) []deployedEntry {
	t.Helper()
	var entries []deployedEntry
	eventually(t, func() string {
		out := i.must(t, "app", "history", app, "-o", "json")
		if err := json.Unmarshal([]byte(out), &entries); err != nil || len(entries) != n {
			return fmt.Sprintf("%s has not %d entries: %s", app, n, out)
		}
		return ""
	})
	return entries
}

// synced waits until the application is, and says no error.
func (i *instance) synced(t *testing.T, app string) {
	t.Helper()
	i.want(t, "Synced", "get", "application", app, "-n", "argocd", "-o", "jsonpath={.status.sync.status}")
}

// key waits until the ConfigMap has that value.
func (i *instance) key(t *testing.T, namespace, name, want string) {
	t.Helper()
	i.want(t, want, "get", "configmap", name, "-n", namespace, "-o", "jsonpath={.data.key}")
}

// isPinned waits until the application says so, with all that is named.
func (i *instance) isPinned(t *testing.T, app string, says ...string) {
	t.Helper()
	eventually(t, func() string {
		out := i.kubectl(t, "get", "application", app, "-n", "argocd", "-o", `jsonpath={.status.conditions[?(@.type=="Pinned")].message}`)
		if !containsAll(out, append([]string{"pinned to"}, says...)) {
			return fmt.Sprintf("%s: %q, want it to say %q", app, out, says)
		}
		return ""
	})
}

// notPinned says that no pin is left.
func (i *instance) notPinned(t *testing.T, app string) {
	t.Helper()
	if out := i.kubectl(t, "get", "application", app, "-n", "argocd", "-o", "jsonpath={.metadata.annotations}"); strings.Contains(out, "fairway-cd.io/pinned") {
		t.Errorf("%s is still pinned: %s", app, out)
	}
}

// sourcesApplication is an Application of several sources, in YAML, two spaces deep.
func sourcesApplication(name, sources string) string {
	manifest := application(name, "x", "x", name)
	before, rest, _ := strings.Cut(manifest, "  source:\n")
	_, after, _ := strings.Cut(rest, "  destination:\n")
	return before + "  sources:\n" + sources + "  destination:\n" + after
}

// chartFiles are a chart whose ConfigMap has its own word and that of the values.
func chartFiles(dir, version, word string) map[string]string {
	return map[string]string{
		dir + "/Chart.yaml":          "apiVersion: v2\nname: web\nversion: " + version + "\n",
		dir + "/values.yaml":         "word: none\n",
		dir + "/templates/word.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: word\ndata:\n  key: " + word + " {{ .Values.word }}\n",
	}
}

// Of several sources each repository gets a commit of its own that restores
// what was read of it, and all else stays.
func TestRollbackOfSeveralSources(t *testing.T) {
	const app = "rb-several"
	charts := shared.repository(t, "rb-charts", chartFiles("web", "1.0.0", "good"))
	values := shared.repository(t, "rb-values", map[string]string{"prod/values.yaml": "word: good\n"})
	base := publicGitURL(t)
	shared.apply(t, sourcesApplication(app, fmt.Sprintf(`  - repoURL: %[1]s/rb-charts.git
    targetRevision: main
    path: web
    helm:
      valueFiles: [$values/prod/values.yaml]
  - repoURL: %[1]s/rb-values.git
    targetRevision: main
    ref: values
`, base)))
	shared.key(t, app, "word", "good good")
	good := shared.history(t, app, 1)[0]
	if len(good.Sources) != 2 || good.Sources[0].Revision != shared.git(t, charts, "rev-parse", "HEAD") ||
		good.Sources[1].Revision != shared.git(t, values, "rev-parse", "HEAD") || good.Sources[1].Ref != "values" {
		t.Errorf("the history does not tell the sources' revisions: %+v", good)
	}
	shared.push(t, charts, map[string]string{"web/templates/word.yaml": chartFiles("web", "", "bad")["web/templates/word.yaml"],
		"web/templates/more.yaml": configMap("more", "bad"), "other.txt": "stays"})
	shared.key(t, app, "word", "bad good")
	shared.push(t, values, map[string]string{"prod/values.yaml": "word: bad\n", "other.txt": "stays"})
	shared.key(t, app, "word", "bad bad")
	shared.history(t, app, 3)

	result := shared.rollback(t, app, fmt.Sprint(good.ID), "--reason", "both are bad")
	if result.Pinned || len(result.Parts) != 2 || result.Revision != good.Revision || result.ToDo != "" {
		t.Fatalf("rollback: %+v", result)
	}
	if got := strings.Join(result.Parts[0].Changed, " "); got != "web/templates/more.yaml web/templates/word.yaml" {
		t.Errorf("changed %s", got)
	}
	shared.key(t, app, "word", "good good")
	shared.want(t, "", "get", "configmap", "more", "-n", app, "--ignore-not-found", "-o", "name")
	for n, dir := range []string{charts, values} {
		shared.git(t, dir, "pull", "-q")
		part := result.Parts[n]
		if head := shared.git(t, dir, "rev-parse", "HEAD"); head != part.Commit || part.Branch != "main" {
			t.Errorf("%s is at %s: %+v", dir, head, part)
		}
		if message := shared.git(t, dir, "log", "-1", "--format=%B"); !containsAll(message, []string{"both are bad", good.Sources[n].Revision}) {
			t.Errorf("message %q", message)
		}
		if _, err := os.Stat(filepath.Join(dir, "other.txt")); err != nil {
			t.Error(err)
		}
	}
	eventually(t, func() string {
		out := shared.kubectl(t, "get", "application", app, "-n", "argocd", "-o", "jsonpath={.status.sync.status} {.status.sync.revisions[*]}")
		if want := "Synced " + result.Parts[0].Commit + " " + result.Parts[1].Commit; out != want {
			return out + ", want " + want
		}
		return ""
	})
	shared.notPinned(t, app)
	if out := shared.must(t, "app", "history", app); !containsAll(out, []string{"rb-charts.git web (main)", "rb-values.git (main)", good.Sources[1].Revision}) {
		t.Errorf("history:\n%s", out)
	}

	// A pin is of all sources.
	shared.must(t, "app", "pin", app, "--reason", "a test")
	shared.isPinned(t, app, " (source 1), ", " (source 2) by system:serviceaccount", "a test")
	shared.push(t, values, map[string]string{"prod/values.yaml": "word: later\n"})
	shared.must(t, "app", "sync", app)
	shared.key(t, app, "word", "good good")
	shared.must(t, "app", "unpin", app)
	shared.key(t, app, "word", "good later")
	shared.rollback(t, app, fmt.Sprint(good.ID))
	shared.key(t, app, "word", "good good")
	// Again there is nothing to do.
	if again := shared.rollback(t, app, fmt.Sprint(good.ID)); len(again.Parts) != 0 || again.Pinned {
		t.Errorf("again: %+v", again)
	}
}

// external is a Git server of somebody else: git's own, over HTTP.
type external struct {
	url, work string
	// stop makes it unreachable.
	stop func()
}

func newExternal(t *testing.T, files map[string]string) external {
	t.Helper()
	root, work := t.TempDir(), t.TempDir()
	shared.git(t, root, "init", "-q", "--bare", "-b", "main", "ext.git")
	execPath := shared.git(t, root, "--exec-path")
	server := httptest.NewServer(&cgi.Handler{Path: filepath.Join(execPath, "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}})
	t.Cleanup(server.Close)
	shared.git(t, work, "init", "-q", "-b", "main")
	shared.git(t, work, "remote", "add", "origin", filepath.Join(root, "ext.git"))
	shared.push(t, work, files)
	return external{server.URL + "/ext.git", work, server.Close}
}

// A repository of others is not written to: the application is pinned, says
// so, and stays so, whatever happens, until it is let go.
func TestRollbackOfExternalRepository(t *testing.T) {
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		t.Fatal(err)
	}
	own := newInstance(bin, filepath.Join(t.TempDir(), "data"))
	own.must(t, "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort()))
	t.Cleanup(func() { _, _ = own.run(context.Background(), "down") })

	const app = "rb-external"
	ext := newExternal(t, map[string]string{"app/a.yaml": configMap("a", "good")})
	good := shared.git(t, ext.work, "rev-parse", "HEAD")
	refresh := func() { own.must(t, "app", "get", app, "--refresh") }
	own.apply(t, application(app, ext.url, "app", app))
	own.key(t, app, "a", "good")
	own.history(t, app, 1)
	shared.push(t, ext.work, map[string]string{"app/a.yaml": configMap("a", "bad")})
	refresh()
	own.key(t, app, "a", "bad")
	own.history(t, app, 2)

	result := own.rollback(t, app, "--reason", "it is bad")
	if !result.Pinned || result.Commit != "" || result.Revision != good ||
		!containsAll(result.ToDo, []string{"is not a repository of this server", "git checkout " + good + " -- app/a.yaml", "fairway app unpin " + app}) {
		t.Fatalf("rollback: %+v", result)
	}
	own.key(t, app, "a", "good")
	own.isPinned(t, app, good, "rollback: it is bad", "by system:serviceaccount:fairway-system:operator", "at 20")

	// Neither a push, nor a sync, nor drift, nor a killed server changes that.
	shared.push(t, ext.work, map[string]string{"app/a.yaml": configMap("a", "third")})
	refresh()
	own.must(t, "app", "sync", app)
	own.synced(t, app)
	own.key(t, app, "a", "good")
	if _, err := own.run(t.Context(), "app", "sync", app, "--revision", "main"); err == nil || !strings.Contains(err.Error(), "pinned to "+good) {
		t.Errorf("a sync of another revision while it is pinned: %v", err)
	}
	own.kubectl(t, "patch", "configmap", "a", "-n", app, "--type=merge", "-p", `{"data":{"key":"by-hand"}}`)
	own.key(t, app, "a", "good")
	if err := syscall.Kill(own.status(t).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	own.must(t, "up", "--nodes", "kwok")
	refresh()
	own.kubectl(t, "patch", "configmap", "a", "-n", app, "--type=merge", "-p", `{"data":{"key":"by-hand"}}`)
	own.key(t, app, "a", "good")
	own.isPinned(t, app, good, "it is bad")

	own.must(t, "app", "unpin", app)
	own.key(t, app, "a", "third")
	own.notPinned(t, app)
}

// pushChart packs the chart and pushes it, as people do.
func pushChart(t *testing.T, helm string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range [][]string{{"package", "web"}, {"push", "PACKAGE", "oci://" + shared.status(t).Registry + "/rb", "--plain-http",
		"--username", "robot", "--password", strings.TrimSpace(shared.must(t, "token", "create", "rb-charts", "--can", "push:rb/web"))}} {
		for i := range line {
			if line[i] == "PACKAGE" {
				found, _ := filepath.Glob(filepath.Join(dir, "*.tgz"))
				line[i] = found[0]
			}
		}
		if _, err := shared.exec(t.Context(), dir, helm, line...); err != nil {
			t.Fatal(err)
		}
	}
}

// A chart of the registry cannot be changed by a commit: it is pinned to its
// digest, and the repository beside it gets its commit.
func TestRollbackOfCharts(t *testing.T) {
	helm, err := program("FAIRWAY_HELM", "oracle/helm")
	if err != nil {
		t.Fatal("no helm, with which charts are pushed: 'make oracle' builds it")
	}
	shared.kubectl(t, "create", "namespace", "rb")
	registry := "oci://" + shared.status(t).Registry + "/rb"
	refresh := func(app string) { shared.must(t, "app", "get", app, "--refresh") }
	pushChart(t, helm, chartFiles("web", "1.0.0", "one"))

	t.Run("range", func(t *testing.T) {
		const app = "rb-range"
		shared.apply(t, replaced("    path: x\n", "    chart: web\n")(replaced("targetRevision: HEAD", "targetRevision: 1.0.x")(application(app, registry, "x", app))))
		shared.key(t, app, "word", "one none")
		shared.history(t, app, 1)
		pushChart(t, helm, chartFiles("web", "1.0.1", "two"))
		refresh(app)
		shared.key(t, app, "word", "two none")
		good := shared.history(t, app, 2)[0]
		result := shared.rollback(t, app, "--reason", "two is bad")
		if !result.Pinned || !strings.HasPrefix(result.Revision, "sha256:") || result.Revision != good.Revision || !strings.Contains(result.ToDo, "name version 1.0.0") {
			t.Fatalf("rollback: %+v", result)
		}
		shared.key(t, app, "word", "one none")
		shared.isPinned(t, app, result.Revision, "two is bad")
		pushChart(t, helm, chartFiles("web", "1.0.2", "three"))
		refresh(app)
		shared.must(t, "app", "sync", app)
		shared.synced(t, app)
		shared.key(t, app, "word", "one none")
		shared.must(t, "app", "unpin", app)
		shared.key(t, app, "word", "three none")
	})
	t.Run("version pushed again", func(t *testing.T) {
		const app = "rb-again"
		pushChart(t, helm, chartFiles("web", "3.0.0", "first"))
		shared.apply(t, replaced("    path: x\n", "    chart: web\n")(replaced("targetRevision: HEAD", "targetRevision: 3.0.0")(application(app, registry, "x", app))))
		shared.key(t, app, "word", "first none")
		shared.history(t, app, 1)
		pushChart(t, helm, chartFiles("web", "3.0.0", "second"))
		refresh(app)
		shared.key(t, app, "word", "second none")
		// Nothing has the first one's digest any more but the history.
		shared.must(t, "image", "collect", "--min-age", "1ms")
		if result := shared.rollback(t, app); !result.Pinned {
			t.Fatalf("rollback: %+v", result)
		}
		shared.key(t, app, "word", "first none")
	})
	t.Run("fixed beside values in a repository", func(t *testing.T) {
		const app = "rb-fixed"
		pushChart(t, helm, chartFiles("web", "2.0.0", "two"))
		values := shared.repository(t, "rb-fixed-values", map[string]string{"values.yaml": "word: good\n"})
		manifest := func(version string) string {
			return sourcesApplication(app, fmt.Sprintf(`  - repoURL: %s
    chart: web
    targetRevision: %s
    helm:
      valueFiles: [$values/values.yaml]
  - repoURL: %s/rb-fixed-values.git
    ref: values
`, registry, version, publicGitURL(t)))
		}
		shared.apply(t, manifest("1.0.0"))
		shared.key(t, app, "word", "one good")
		shared.history(t, app, 1)
		shared.push(t, values, map[string]string{"values.yaml": "word: bad\n"})
		shared.key(t, app, "word", "one bad")
		shared.history(t, app, 2)

		// The chart is as it was: a commit is all that is needed.
		result := shared.rollback(t, app)
		if result.Pinned || len(result.Parts) != 1 || result.Commit == "" {
			t.Fatalf("rollback: %+v", result)
		}
		shared.key(t, app, "word", "one good")
		shared.notPinned(t, app)
		shared.git(t, values, "pull", "-q")
		good := shared.history(t, app, 3)[2]

		shared.apply(t, manifest("2.0.0"))
		shared.key(t, app, "word", "two good")
		shared.push(t, values, map[string]string{"values.yaml": "word: worse\n"})
		shared.key(t, app, "word", "two worse")
		shared.history(t, app, 5)
		result = shared.rollback(t, app, fmt.Sprint(good.ID))
		if !result.Pinned || len(result.Parts) != 2 || result.Commit == "" || !result.Parts[0].Pinned || result.Parts[1].Pinned ||
			!containsAll(result.ToDo, []string{"name version 1.0.0", "spec.sources[0].targetRevision"}) {
			t.Fatalf("rollback: %+v", result)
		}
		shared.key(t, app, "word", "one good")
		shared.isPinned(t, app, good.Sources[0].Revision+" (source 1)")
		// The values follow their branch all the same.
		shared.git(t, values, "pull", "-q")
		shared.push(t, values, map[string]string{"values.yaml": "word: better\n"})
		shared.key(t, app, "word", "one better")
		// What is said to be done is done.
		shared.apply(t, manifest("1.0.0"))
		shared.must(t, "app", "unpin", app)
		shared.synced(t, app)
		shared.key(t, app, "word", "one better")
	})
}

// Who may update the application but not push has it pinned, and the hint is
// what somebody else has to type.
func TestRollbackWithoutPermission(t *testing.T) {
	const app = "rb-denied"
	dir := shared.repository(t, app, map[string]string{"app/a.yaml": configMap("a", "good"), "app/b.yaml": configMap("b", "good")})
	good := shared.git(t, dir, "rev-parse", "HEAD")
	shared.apply(t, application(app, publicGitURL(t)+"/"+app+".git", "app", app))
	shared.key(t, app, "a", "good")
	shared.history(t, app, 1)
	shared.push(t, dir, map[string]string{"app/a.yaml": configMap("a", "bad"), "app/b.yaml": "", "app/c.yaml": configMap("c", "bad")})
	shared.key(t, app, "a", "bad")
	shared.history(t, app, 2)

	shared.kubectl(t, "create", "serviceaccount", "rb-operator", "-n", "default")
	shared.kubectl(t, "create", "role", "rb-operator", "-n", "argocd", "--verb=get,update", "--resource=applications.argoproj.io")
	shared.kubectl(t, "create", "rolebinding", "rb-operator", "-n", "argocd", "--role=rb-operator", "--serviceaccount=default:rb-operator")
	var result rolledBack
	if code := postAs(t, "rb-operator", "/api/v1/applications/argocd/"+app+"/rollback", `{"reason": "it is bad"}`, &result); code != http.StatusOK {
		t.Fatalf("%d: %+v", code, result)
	}
	commands := "git checkout " + good + " -- app/a.yaml app/b.yaml && git rm -r -- app/c.yaml"
	if !result.Pinned || result.Commit != "" || !containsAll(result.ToDo, []string{"rb-operator", "may not update repositories", commands, "fairway app unpin"}) {
		t.Fatalf("rollback: %+v", result)
	}
	shared.key(t, app, "a", "good")
	shared.isPinned(t, app, good, "by system:serviceaccount:default:rb-operator", "at 20", "it is bad")

	// A push is not brought out meanwhile.
	shared.push(t, dir, map[string]string{"app/a.yaml": configMap("a", "worse")})
	shared.must(t, "app", "sync", app)
	shared.synced(t, app)
	shared.key(t, app, "a", "good")
	shared.want(t, good, "get", "application", app, "-n", "argocd", "-o", "jsonpath={.status.sync.revision}")

	// Somebody does what is said.
	if _, err := shared.exec(t.Context(), dir, "sh", "-c", commands+" && git commit -qm back && git push -q"); err != nil {
		t.Fatal(err)
	}
	shared.must(t, "app", "unpin", app)
	shared.want(t, shared.git(t, dir, "rev-parse", "HEAD"), "get", "application", app, "-n", "argocd", "-o", "jsonpath={.status.sync.revision}")
	shared.key(t, app, "a", "good")
	shared.key(t, app, "b", "good")
}

// postAs asks the API as a ServiceAccount of namespace default.
func postAs(t *testing.T, account, path, body string, into any) int {
	t.Helper()
	url := strings.TrimSuffix(shared.status(t).UIURL, "/") + path
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+shared.kubectl(t, "create", "token", account, "-n", "default"))
	req.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(into); err != nil {
		t.Fatalf("%s: %v in %s", answer.Status, err, data)
	}
	return answer.StatusCode
}

// What was deleted or renamed since comes back, what others have put beside it
// stays, and what cannot be is said.
func TestRollbackOfWhatIsGone(t *testing.T) {
	base := publicGitURL(t)
	t.Run("renamed files at the root of the repository", func(t *testing.T) {
		const app = "rb-root"
		dir := shared.repository(t, app, map[string]string{"a.yaml": configMap("a", "good"), "README.md": "hello"})
		shared.apply(t, application(app, base+"/"+app+".git", ".", app))
		shared.key(t, app, "a", "good")
		shared.history(t, app, 1)
		shared.push(t, dir, map[string]string{"a.yaml": "", "b.yaml": configMap("a", "bad"), "README.md": "", "docs/guide.md": "new", "NOTES": "new"})
		shared.key(t, app, "a", "bad")
		shared.history(t, app, 2)
		result := shared.rollback(t, app)
		if got := strings.Join(result.Changed, " "); got != "a.yaml b.yaml" {
			t.Errorf("changed %q, although only the manifests are read", got)
		}
		shared.key(t, app, "a", "good")
		shared.git(t, dir, "pull", "-q")
		if got := strings.Fields(shared.git(t, dir, "ls-files")); strings.Join(got, " ") != "NOTES a.yaml docs/guide.md" {
			t.Errorf("the repository has %q", got)
		}
	})
	t.Run("directory deleted", func(t *testing.T) {
		const app = "rb-gone"
		dir := shared.repository(t, app, map[string]string{"base/a.yaml": configMap("a", "good"),
			"base/kustomization.yaml": "resources: [a.yaml]\n", "app/kustomization.yaml": "resources: [../base]\nnamePrefix: p-\n"})
		shared.apply(t, application(app, base+"/"+app+".git", "app", app))
		shared.key(t, app, "p-a", "good")
		shared.history(t, app, 1)
		shared.push(t, dir, map[string]string{"base/a.yaml": "", "base/kustomization.yaml": "", "app/kustomization.yaml": "", "other.txt": "stays"})
		shared.push(t, dir, map[string]string{"base": "a file"})
		eventually(t, func() string { return complains(t, app, []string{"app", "no such directory"}) })
		// The last one that was deployed is what it goes back to.
		result := shared.rollback(t, app)
		if got := strings.Join(result.Changed, " "); got != "app/kustomization.yaml base/a.yaml base/kustomization.yaml" {
			t.Errorf("changed %q", got)
		}
		shared.synced(t, app)
		shared.key(t, app, "p-a", "good")
		shared.git(t, dir, "pull", "-q")
		if _, err := os.Stat(filepath.Join(dir, "other.txt")); err != nil {
			t.Error(err)
		}
	})
	t.Run("path of the application changed", func(t *testing.T) {
		const app = "rb-path"
		dir := shared.repository(t, app, map[string]string{"old/a.yaml": configMap("a", "good")})
		shared.apply(t, application(app, base+"/"+app+".git", "old", app))
		shared.key(t, app, "a", "good")
		shared.history(t, app, 1)
		shared.push(t, dir, map[string]string{"old/a.yaml": "", "new/a.yaml": configMap("a", "moved")})
		shared.apply(t, application(app, base+"/"+app+".git", "new", app))
		shared.key(t, app, "a", "moved")
		shared.history(t, app, 2)
		_, err := shared.run(t.Context(), "app", "rollback", app, "0")
		if err == nil || !containsAll(err.Error(), []string{"spec.source.path", "no such directory", "put spec.source.path back"}) {
			t.Errorf("rollback: %v", err)
		}
		shared.notPinned(t, app)
		shared.key(t, app, "a", "moved")
	})
}

// Pushes and rollbacks at the same time: each has its commit, none is lost.
// The application lists the directory into which the pushes put their files.
func TestRollbackWhilePushesComeIn(t *testing.T) {
	const app, rounds = "rb-busy", 6
	dir := shared.repository(t, app, map[string]string{"a.yaml": configMap("a", "good")})
	good := shared.git(t, dir, "rev-parse", "HEAD")
	shared.apply(t, application(app, publicGitURL(t)+"/"+app+".git", ".", app))
	shared.history(t, app, 1)
	// push pushes a commit, after what was pushed or rolled back meanwhile.
	var pushing sync.Mutex
	push := func(path, content, message string) {
		pushing.Lock()
		defer pushing.Unlock()
		script := `printf %s "$2" > "$1" && git add -A && git commit -qm "$3" && until git push -q; do git pull -q --rebase || exit 1; done`
		cmd := exec.Command("sh", "-c", script, "sh", path, content, message)
		cmd.Dir, cmd.Env = dir, shared.env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("push %s: %v: %s", message, err, out)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	pushed := make(chan int, 1)
	go func() {
		n := 0
		for ; ctx.Err() == nil && !t.Failed(); n++ {
			push(fmt.Sprintf("file-%d", n), "x", fmt.Sprintf("pushed-%d", n))
		}
		pushed <- n
	}()
	var commits []string
	for n := range rounds {
		pushing.Lock()
		shared.git(t, dir, "pull", "-q", "--rebase") // the last rollback
		pushing.Unlock()
		push("a.yaml", configMap("a", fmt.Sprintf("bad-%d", n)), "bad")
		result := shared.rollback(t, app, good, "--reason", fmt.Sprintf("bad-%d", n))
		if result.Commit == "" || result.Pinned {
			t.Errorf("rollback %d: %+v", n, result)
		}
		commits = append(commits, result.Commit)
	}
	stop()
	total := <-pushed
	shared.git(t, dir, "pull", "-q", "--rebase")
	log := shared.git(t, dir, "log", "--format=%H %s")
	for _, commit := range commits {
		if !strings.Contains(log, commit+" Roll "+app) {
			t.Errorf("the rollback's commit %s is lost", commit)
		}
	}
	lines := "\n" + log + "\n"
	for n := range total {
		if !strings.Contains(lines, fmt.Sprintf(" pushed-%d\n", n)) {
			t.Errorf("push %d is lost", n)
		}
	}
	if total == 0 {
		t.Error("nothing was pushed beside the rollbacks")
	}
	t.Logf("%d pushes beside %d rollbacks", total, rounds)
	shared.key(t, app, "a", "good")
}
