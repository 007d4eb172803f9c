package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// corpus is a folder of the corpus that is shared between projects; the test
// is skipped where it is not there.
func corpus(t *testing.T, folder string) string {
	t.Helper()
	root := os.Getenv("FAIRWAY_CORPUS")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "corpus")
	}
	dir := filepath.Join(root, folder)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("the corpus has no folder %s in %s", folder, root)
	}
	return dir
}

// corpusFiles are the files of a folder, below dir.
func corpusFiles(t *testing.T, folder, dir string, into map[string]string) {
	t.Helper()
	root := corpus(t, folder)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		into[dir+"/"+filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every file of the corpus is given to the running instance as it stands. Its
// repository, https://github.com/myorg/gitops-repo, is one of ours by a rule.
func TestCorpus(t *testing.T) {
	// The files' names are everybody's; other tests want them too.
	t.Cleanup(func() {
		for _, args := range [][]string{
			{"kubectl", "delete", "applications.argoproj.io", "--all", "-n", "argocd", "--timeout=60s"},
			{"kubectl", "delete", "namespace", "corpus-flux", "--ignore-not-found", "--wait=false"},
			{"repo", "mirror", "--remove", "https://github.com/myorg/gitops-repo"},
			{"repo", "delete", "gitops-repo", "--yes"},
		} {
			if _, err := shared.run(context.Background(), args...); err != nil {
				t.Error(err)
			}
		}
	})
	const url = "https://github.com/myorg/gitops-repo"
	files := map[string]string{
		"apps/web-app/kustomization.yaml": "resources: [overlays/production]\n",
		// What the Kustomization of the corpus points at.
		"apps/kustomization.yaml": "namespace: corpus-flux\nresources: [web-app/overlays/dev]\n",
	}
	corpusFiles(t, "kustomize/web-app", "apps/web-app", files)
	corpusFiles(t, "kustomize", "all/kustomize", files)
	corpusFiles(t, "namespaces", "all/namespaces", files)
	argocd, flux := corpus(t, "argocd"), corpus(t, "flux")
	dir := shared.repository(t, "gitops-repo", files)
	shared.must(t, "repo", "mirror", url, "gitops-repo")

	t.Run("argocd", func(t *testing.T) {
		replicas := []string{"get", "deployment", "prod-web-app", "-n", "production", "-o", "jsonpath={.spec.replicas}"}
		create, others := corpusCommands(t, filepath.Join(argocd, "commands.txt"))
		shared.kubectl(t, "create", "namespace", "production")
		shared.must(t, strings.Fields(create)...)
		shared.want(t, "5", replicas...)
		shared.kubectl(t, "apply", "-f", filepath.Join(argocd, "application-web-app.yaml"))
		shared.must(t, "app", "wait", "web-app", "--sync", "--timeout", "60")
		shared.kubectl(t, "scale", "deployment", "prod-web-app", "-n", "production", "--replicas=1")
		shared.want(t, "5", replicas...)
		shared.push(t, dir, map[string]string{"apps/web-app/kustomization.yaml": "resources: [overlays/dev]\n"})
		shared.want(t, "1", "get", "deployment", "dev-web-app", "-n", "production", "-o", "jsonpath={.spec.replicas}")
		shared.want(t, "", "get", "deployment", "prod-web-app", "-n", "production", "--ignore-not-found", "-o", "name")
		first := firstRevision(t, "web-app")
		for _, line := range others {
			shared.must(t, strings.Fields(strings.NewReplacer("my-app", "web-app", "<revision>", first).Replace(line))...)
		}
		shared.want(t, "5", replicas...)
	})
	t.Run("flux", func(t *testing.T) {
		shared.kubectl(t, "create", "namespace", "corpus-flux")
		shared.permitReading(t, "corpus-flux")
		shared.kubectl(t, "apply", "-n", "corpus-flux", "-f", filepath.Join(flux, "git-repository.yaml"), "-f", filepath.Join(flux, "kustomization.yaml"))
		head, _, _ := strings.Cut(shared.git(t, dir, "ls-remote", "origin", "refs/heads/main"), "\t")
		shared.want(t, "Applied revision: main@sha1:"+head,
			"get", "kustomization.kustomize.toolkit.fluxcd.io", "apps", "-n", "corpus-flux", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`)
		shared.want(t, "1", "get", "deployment", "dev-web-app", "-n", "corpus-flux", "-o", "jsonpath={.spec.replicas}")
	})
	for name, c := range map[string]struct{ path, namespace, deployment string }{
		"dev":        {"all/kustomize/web-app/overlays/dev", "corpus-dev", "dev-web-app"},
		"production": {"all/kustomize/web-app/overlays/production", "corpus-production", "prod-web-app"},
		"region":     {"all/kustomize/regions/overlays/production/us-east", "corpus-region", "web-app"},
		"features":   {"all/kustomize/features", "production", "dev-web-app-v2"},
		"namespaces": {"all/namespaces", "corpus-namespaces", "kiamol-ch11-uat/sleep"},
	} {
		t.Run(name, func(t *testing.T) {
			app, namespace, deployment := "corpus-"+name, c.namespace, c.deployment
			if ns, rest, ok := strings.Cut(deployment, "/"); ok {
				namespace, deployment = ns, rest
			}
			shared.apply(t, application(app, url, c.path, c.namespace))
			shared.must(t, "app", "wait", app, "--sync", "--timeout", "60")
			shared.want(t, app, "get", "application", app, "-n", "argocd", "-o", "jsonpath={.metadata.name}")
			shared.want(t, "true", "get", "deployment", deployment, "-n", namespace, "-o", `jsonpath={.metadata.labels.fairway-cd\.io/managed}`)
		})
	}
}

// corpusCommands are what a user of Argo CD types, without its name: how the
// Application is made, and what follows.
func corpusCommands(t *testing.T, path string) (create string, others []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		switch args, ok := strings.CutPrefix(strings.TrimSpace(line), "argocd "); {
		case ok && strings.HasPrefix(args, "app create "):
			create = args
		case ok:
			others = append(others, args)
		}
	}
	if create == "" || len(others) == 0 {
		t.Fatalf("%s has not the commands that it had", path)
	}
	return create, others
}

// firstRevision is the oldest revision of an Application's history.
func firstRevision(t *testing.T, app string) string {
	t.Helper()
	var a struct {
		Status struct{ History []struct{ Revision string } }
	}
	if err := json.Unmarshal([]byte(shared.kubectl(t, "get", "application", app, "-n", "argocd", "-o", "json")), &a); err != nil {
		t.Fatal(err)
	}
	if len(a.Status.History) == 0 {
		t.Fatalf("%s has no history", app)
	}
	return a.Status.History[0].Revision
}
