package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// bad is one thing that is wrong: with the files that are pushed, or with the
// Application itself.
type bad struct {
	files map[string]string
	// edit changes the manifest of the Application, whose path ends with "/app".
	edit func(manifest string) string
	// says is what the condition and the command line name: what, and where.
	says []string
}

func replaced(old, with string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("the manifest has no " + old)
		}
		return strings.Replace(s, old, with, 1)
	}
}

func chart(template string) map[string]string {
	return map[string]string{
		"app/Chart.yaml":           "apiVersion: v2\nname: c\nversion: 1.0.0\n",
		"app/templates/thing.yaml": template,
	}
}

// bomb is YAML whose aliases would grow to some 9^10 words.
func bomb() string {
	s := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'k'; c++ {
		s += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	return s + configMap("bomb", "x")
}

// badInput are the lines of what must be told in one clear error.
func badInput(base string) map[string]bad {
	return map[string]bad{
		"unreachable repository":     {edit: replaced(base+"/git/bad-input.git", "http://127.0.0.1:9/x.git"), says: []string{"http://127.0.0.1:9/x.git", "unreachable"}},
		"password in the address":    {edit: replaced(base+"/git/bad-input.git", "http://ada:s3cret@127.0.0.1:9/x.git"), says: []string{"127.0.0.1:9/x.git", "unreachable"}},
		"no such repository":         {edit: replaced("bad-input.git", "bad-nowhere.git"), says: []string{"default/bad-nowhere", "does not exist"}},
		"local file as repository":   {edit: replaced(base+"/git/bad-input.git", "file:///etc"), says: []string{"file:///etc", "not supported"}},
		"unknown revision":           {edit: replaced("targetRevision: HEAD", "targetRevision: v9.9"), says: []string{"v9.9", "no revision"}},
		"path not there":             {edit: replaced("/app\n", "/apps/web\n"), says: []string{"apps/web", "no such directory"}},
		"path out of the repository": {edit: repathed("../other"), says: []string{"../other", "leaves the repository"}},
		"unknown field":              {edit: replaced("/app\n", "/app\n    colour: red\n"), says: []string{"spec.source.colour", "unknown field"}},
		"unsupported field":          {edit: replaced("/app\n", "/app\n    plugin: {name: cue}\n"), says: []string{"spec.source.plugin", "not supported"}},
		"unsupported sync option":    {edit: replaced("CreateNamespace=true", "Fly=true"), says: []string{"spec.syncPolicy.syncOptions[0]", "Fly=true"}},

		"broken YAML":                {files: map[string]string{"app/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n data: [\n"}, says: []string{"app/b.yaml:4"}},
		"object without a name":      {files: map[string]string{"app/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n"}, says: []string{"app/b.yaml:1", "ConfigMap", "no name"}},
		"chart that does not render": {files: chart(`{{ required "who is needed" .Values.who }}`), says: []string{"app/templates/thing.yaml", "who is needed"}},
		"chart that calls itself":    {files: chart(`{{ define "x" }}{{ include "x" . }}{{ end }}{{ include "x" . }}`), says: []string{"app/templates/thing.yaml"}},
		"chart that eats memory":     {files: chart(`{{ $x := repeat 1000000 "aaaaaaaaaa" }}{{ range until 1000 }}{{ $x = printf "%s%s" $x $x }}{{ end }}{{ $x }}`), says: []string{"app:", "memory"}},
		"kustomization that leaves":  {files: map[string]string{"app/kustomization.yaml": "resources: [../../../etc]\n"}, says: []string{"app", "outside of the repository", "etc"}},
		"kustomization from remote":  {files: map[string]string{"app/kustomization.yaml": "resources: ['https://example.com/z.yaml']\n"}, says: []string{"app/kustomization.yaml", "https://example.com/z.yaml"}},
		"kustomization's file":       {files: map[string]string{"app/kustomization.yaml": "resources: [nope.yaml]\n"}, says: []string{"app/nope.yaml", "no such file"}},
		"kind that is not there":     {files: map[string]string{"app/b.yaml": "apiVersion: nobody.example/v1\nkind: Ghost\nmetadata: {name: x}\n"}, says: []string{"Ghost", "nobody.example/v1"}},
		"invalid object":             {files: map[string]string{"app/b.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 99999}]}\n"}, says: []string{"Service", "/x", "spec.ports[0].port"}},
		"unknown field of an object": {files: map[string]string{"app/b.yaml": "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {colour: red, ports: [{port: 80}]}\n"}, says: []string{"Service", "/x", ".spec.colour"}},
		"unsupported annotation":     {files: map[string]string{"app/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, annotations: {argocd.argoproj.io/sync-options: Fly=true}}\n"}, says: []string{"ConfigMap", "/x", "Fly=true"}},
		"namespace not there":        {files: map[string]string{"app/b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: bad-not-there}\n"}, says: []string{"bad-not-there/x", "not found"}},
		"YAML bomb":                  {files: map[string]string{"app/b.yaml": bomb()}, says: []string{"app/b.yaml", "aliasing"}},
		"giant file":                 {files: map[string]string{"app/b.yaml": "# " + strings.Repeat("x", 17<<20) + "\n"}, says: []string{"app/b.yaml", "limit is 16777216"}},
		"link out of the repository": {files: map[string]string{"app/b.yaml": "-> /etc/passwd"}, says: []string{"app/b.yaml", "symbolic link"}},
		"link above the repository":  {files: map[string]string{"app/b.yaml": "-> ../../../../etc/passwd"}, says: []string{"app/b.yaml", "leaves the repository"}},
		"link to itself":             {files: map[string]string{"app/b.yaml": "-> b.yaml"}, says: []string{"app/b.yaml", "symbolic links"}},
	}
}

// repathed gives the Application another path.
func repathed(path string) func(string) string {
	return func(s string) string {
		return regexp.MustCompile("(?m)^    path: .*$").ReplaceAllString(s, "    path: "+path)
	}
}

// TestBadInput: each has one clear error on the condition and on the command
// line, and what was applied before stays as it was. All are in one repository
// and go wrong with one push, so that they are waited for together. A chart
// that never ends takes a minute to be stopped; internal/render tests it with
// a shorter limit.
func TestBadInput(t *testing.T) {
	base := strings.TrimSuffix(shared.status(t).UIURL, "/")
	cases, names := badInput(base), map[string]string{}
	good, wrong := map[string]string{}, map[string]string{}
	manifests, edited := "", ""
	for name, c := range cases {
		app := "bad-" + strings.NewReplacer(" ", "-", "'", "").Replace(strings.ToLower(name))
		names[name] = app
		good[app+"/app/a.yaml"] = configMap("a", "good")
		manifest := replaced("  syncPolicy:\n", "  syncPolicy:\n    retry: {limit: 0}\n")(application(app, base+"/git/bad-input.git", app+"/app", app))
		manifests += "---\n" + manifest
		if c.edit != nil {
			edited += "---\n" + c.edit(manifest)
			continue
		}
		// Were it applied by half, this would be seen.
		wrong[app+"/app/a.yaml"] = configMap("a", "half")
		for path, content := range c.files {
			wrong[app+"/"+path] = content
		}
	}
	dir := shared.repository(t, "bad-input", good)
	shared.apply(t, manifests)
	// While nobody knows what one of them was, no image is collected.
	defer func() {
		shared.kubectl(t, append([]string{"delete", "applications", "-n", "argocd"}, slices.Collect(maps.Values(names))...)...)
	}()
	for _, app := range names {
		shared.want(t, "Synced", "get", "application", app, "-n", "argocd", "-o", "jsonpath={.status.sync.status}")
	}
	pushLinks(t, dir, wrong)
	shared.apply(t, edited)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { told(t, names[name], c) })
	}
	if out, err := shared.run(t.Context(), "app", "sync", "bad-broken-yaml"); err == nil || !strings.Contains(err.Error(), "app/b.yaml:4") {
		t.Errorf("'fairway app sync' says %q, %v", out, err)
	}
}

// told says whether what is wrong is told, and nothing else has changed.
func told(t *testing.T, app string, c bad) {
	t.Helper()
	eventually(t, func() string { return complains(t, app, c.says) })
	got := shared.kubectl(t, "get", "services,pods,configmaps", "-n", app, "-l", "fairway-cd.io/managed=true", "-o", "jsonpath={range .items[*]}{.kind} {.metadata.name} {.data.key};{end}")
	if got != "ConfigMap a good;" {
		t.Errorf("the last good state is gone, or something was half applied: %q", got)
	}
	out := shared.must(t, "app", "get", app)
	if !containsAll(out, c.says) {
		t.Errorf("'fairway app get' does not name %q:\n%s", c.says, out)
	}
	if strings.Contains(out, "s3cret") {
		t.Errorf("a password is shown:\n%s", out)
	}
}

// pushLinks is push, where "-> PATH" makes a symbolic link.
func pushLinks(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	plain := map[string]string{}
	for name, content := range files {
		target, link := strings.CutPrefix(content, "-> ")
		if !link {
			plain[name] = content
			continue
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	shared.push(t, dir, plain)
}

// complains says what is missing until exactly one condition of the
// Application is an error and names all of says.
func complains(t *testing.T, app string, says []string) string {
	t.Helper()
	var a struct {
		Status struct {
			Sync       struct{ Status string }
			Conditions []struct{ Type, Message string }
		}
	}
	if err := json.Unmarshal([]byte(shared.kubectl(t, "get", "application", app, "-n", "argocd", "-o", "json")), &a); err != nil {
		t.Fatal(err)
	}
	for _, c := range a.Status.Conditions {
		if strings.HasSuffix(c.Type, "Error") && containsAll(c.Message, says) && a.Status.Sync.Status != "Synced" {
			if strings.Contains(c.Message, "s3cret") {
				t.Errorf("the condition has a password: %s", c.Message)
			}
			return ""
		}
	}
	return fmt.Sprintf("%s is %s, conditions %v, want %q", app, a.Status.Sync.Status, a.Status.Conditions, says)
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// A field that cannot be changed is said, nothing of the commit is applied,
// and Force=true makes the object anew.
func TestImmutableField(t *testing.T) {
	const app = "bad-immutable"
	job := func(image string) string {
		return "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: " + image + "}]}}}\n"
	}
	dir := shared.repository(t, app, map[string]string{"app/a.yaml": configMap("a", "good"), "app/j.yaml": job("one")})
	manifest := application(app, publicGitURL(t)+"/"+app+".git", "app", app)
	shared.apply(t, manifest)
	value := []string{"get", "configmap", "a", "-n", app, "-o", "jsonpath={.data.key}"}
	image := []string{"get", "job", "j", "-n", app, "-o", "jsonpath={.spec.template.spec.containers[0].image}"}
	shared.want(t, "one", image...)

	shared.push(t, dir, map[string]string{"app/a.yaml": configMap("a", "next"), "app/j.yaml": job("two")})
	eventually(t, func() string { return complains(t, app, []string{"Job", app + "/j", "immutable", "Force=true"}) })
	if got := shared.kubectl(t, value...); got != "good" {
		t.Errorf("half of the commit was applied: %q", got)
	}
	shared.apply(t, replaced("CreateNamespace=true", "CreateNamespace=true\n    - Force=true")(manifest))
	shared.want(t, "two", image...)
	shared.want(t, "next", value...)
}

// An object that another Application has is not taken: a warning, and an
// error where that is asked for.
func TestTwoApplicationsClaimOneObject(t *testing.T) {
	const ns = "bad-claim"
	url := publicGitURL(t) + "/bad-claim.git"
	shared.repository(t, "bad-claim", map[string]string{
		"first/a.yaml": configMap("a", "first"), "second/a.yaml": configMap("a", "second"), "second/b.yaml": configMap("b", "second"),
	})
	shared.apply(t, application("bad-claim-first", url, "first", ns))
	value := []string{"get", "configmap", "a", "-n", ns, "-o", "jsonpath={.data.key}"}
	shared.want(t, "first", value...)
	condition := func(app, kind string) []string {
		return []string{"get", "application", app, "-n", "argocd", "-o", `jsonpath={.status.conditions[?(@.type=="` + kind + `")].message}`}
	}
	shared.apply(t, application("bad-claim-second", url, "second", ns))
	shared.want(t, "ConfigMap/a is part of applications argocd/bad-claim-second and argocd/bad-claim-first", condition("bad-claim-second", "SharedResourceWarning")...)
	shared.want(t, "second", "get", "configmap", "b", "-n", ns, "-o", "jsonpath={.data.key}")

	strict := replaced("CreateNamespace=true", "FailOnSharedResource=true")(application("bad-claim-strict", url, "second", ns))
	shared.apply(t, strict)
	eventually(t, func() string {
		return complains(t, "bad-claim-strict", []string{"ConfigMap " + ns + "/a", "part of Application argocd/bad-claim-first"})
	})
	shared.want(t, "first", value...)
}

// A kind whose definition is not there is said; when the definition comes, in
// any way, the same commit is applied.
func TestDefinitionThatComesLater(t *testing.T) {
	const app = "bad-later"
	shared.repository(t, app, map[string]string{"app/toy.yaml": "apiVersion: later.example/v1\nkind: Toy\nmetadata: {name: t}\nspec: {size: 1}\n"})
	shared.apply(t, application(app, publicGitURL(t)+"/"+app+".git", "app", app))
	eventually(t, func() string { return complains(t, app, []string{"Toy", "later.example/v1"}) })
	shared.apply(t, `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: toys.later.example}
spec:
  group: later.example
  scope: Namespaced
  names: {kind: Toy, plural: toys, singular: toy}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
`)
	eventually(t, func() string {
		out, err := shared.run(t.Context(), "kubectl", "get", "toys.later.example", "t", "-n", app, "-o", "jsonpath={.spec.size}")
		if err != nil || out != "1" {
			return fmt.Sprintf("%q, %v", out, err)
		}
		return ""
	})
}

// What is wrong with Flux' kinds is on their Ready condition.
func TestBadKustomizations(t *testing.T) {
	const ns = "bad-flux"
	shared.permitReading(t, ns)
	shared.repository(t, ns, map[string]string{
		"good/a.yaml":              configMap("a", "good"),
		"broken/b.yaml":            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n data: [\n",
		"leave/kustomization.yaml": "resources: [../../../etc]\n",
		"unknown/s.yaml":           "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {colour: red, ports: [{port: 80}]}\n",
	})
	manifests := fmt.Sprintf(`apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: src, namespace: %[1]s}
spec: {interval: 1m, url: %[2]s/%[1]s.git, ref: {branch: main}}
`, ns, publicGitURL(t))
	sources := map[string]struct{ spec, says string }{
		"no-tag":      {fmt.Sprintf("url: %s/%s.git, ref: {tag: v9}", publicGitURL(t), ns), "v9"},
		"no-secret":   {fmt.Sprintf("url: %s/%s.git, secretRef: {name: nope}", publicGitURL(t), ns), ns + "/nope"},
		"unreachable": {"url: 'http://127.0.0.1:9/x.git'", "http://127.0.0.1:9/x.git is unreachable"},
		"verify":      {fmt.Sprintf("url: %s/%s.git, verify: {mode: HEAD, secretRef: {name: x}}", publicGitURL(t), ns), "spec.verify"},
		"unknown":     {fmt.Sprintf("url: %s/%s.git, colour: red", publicGitURL(t), ns), "spec.colour: unknown field"},
	}
	for name, c := range sources {
		manifests += fmt.Sprintf("---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: %s, namespace: %s}\nspec: {interval: 1m, %s}\n", name, ns, c.spec)
	}
	kustomizations := map[string]struct{ path, source, more, says string }{
		"good":       {"./good", "src", "", "Applied revision: main@sha1:"},
		"no-path":    {"./nope", "src", "", "nope: there is no such directory"},
		"up":         {"../x", "src", "", `spec.path: "../x" leaves the repository`},
		"broken":     {"./broken", "src", "", "broken/b.yaml:4"},
		"leave":      {"./leave", "src", "", "outside of the repository: etc"},
		"unknown":    {"./unknown", "src", "", ".spec.colour"},
		"field":      {"./good", "src", "colour: red", "spec.colour: unknown field"},
		"kubeconfig": {"./good", "src", "kubeConfig: {secretRef: {name: x}}", "spec.kubeConfig"},
		"no-source":  {"./good", "nope", "", ns + "/nope' is not there"},
		"bad-source": {"./good", "unreachable", "", "http://127.0.0.1:9/x.git is unreachable"},
		"depends":    {"./good", "src", "dependsOn: [{name: nobody}]", "'" + ns + "/nobody' is not there"},
		"substitute": {"./good", "src", "postBuild: {substituteFrom: [{kind: ConfigMap, name: nope}]}", "spec.postBuild.substituteFrom[0]"},
	}
	for name, c := range kustomizations {
		manifests += fmt.Sprintf("---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: %s, namespace: %s}\nspec:\n  interval: 1m\n  prune: true\n  targetNamespace: %[2]s\n  sourceRef: {kind: GitRepository, name: %s}\n  path: %s\n  %s\n", name, ns, c.source, c.path, c.more)
	}
	shared.apply(t, manifests)
	ready := func(kind, name, says string) {
		eventually(t, func() string {
			got := shared.kubectl(t, "get", kind, name, "-n", ns, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`)
			if !strings.Contains(got, says) {
				return fmt.Sprintf("%s %s is %q, want %q", kind, name, got, says)
			}
			return ""
		})
	}
	for name, c := range sources {
		ready("gitrepository", name, c.says)
	}
	for name, c := range kustomizations {
		ready("kustomization.kustomize.toolkit.fluxcd.io", name, c.says)
	}
}

// A token that is wrong, or may not push, is said to git; nothing is changed.
func TestWrongCredentials(t *testing.T) {
	dir := shared.repository(t, "bad-credentials", map[string]string{"a": "x"})
	host := strings.TrimPrefix(publicGitURL(t), "http://")
	reader := strings.TrimSpace(shared.must(t, "token", "create", "bad-reader", "--can", "pull:bad-credentials", "--ttl", "1h"))
	shared.commit(t, dir, map[string]string{"a": "y"})
	for name, c := range map[string]struct{ token, says string }{
		"not a token": {"nonsense", "Authentication failed"},
		"may not":     {reader, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "git", "push", "http://x:"+c.token+"@"+host+"/bad-credentials.git", "HEAD")
			cmd.Dir, cmd.Env = dir, shared.env
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), c.says) {
				t.Errorf("git push says %q, %v; want %q", out, err, c.says)
			}
		})
	}
}
