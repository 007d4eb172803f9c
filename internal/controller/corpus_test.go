package controller

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// corpusFiles are the files below a folder of the corpus, by path.
func corpusFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	root := testkit.Corpus(t, folder)
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		files[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// prefixed are the files below another directory.
func prefixed(dir string, files map[string]string) map[string]string {
	out := map[string]string{}
	for path, content := range files {
		out[dir+"/"+path] = content
	}
	return out
}

func merged(maps ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// applyFile applies a file of the corpus as it stands, into a namespace where
// it names none.
func (h *house) applyFile(text, namespace string) {
	h.t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		h.t.Fatal(err)
	}
	if u.GetNamespace() == "" {
		u.SetNamespace(namespace)
	}
	data, err := yaml.Marshal(u.Object)
	if err != nil {
		h.t.Fatal(err)
	}
	h.apply(string(data))
}

// TestCorpus has every file of argocd, flux, kustomize and namespaces accepted
// unchanged, from one embedded repository that a mirror rule puts where the
// files say it is.
func TestCorpus(t *testing.T) {
	kustom, namespaces := corpusFiles(t, "kustomize"), corpusFiles(t, "namespaces")
	argocd, flux := corpusFiles(t, "argocd"), corpusFiles(t, "flux")
	h := newHouse(t)
	h.namespace("argocd")
	if err := h.store.Rules().Add(gitRule("https://github.com/myorg/gitops-repo", "gitops-repo")); err != nil {
		t.Fatal(err)
	}
	webApp := map[string]string{}
	for path, content := range kustom {
		if rest, ok := strings.CutPrefix(path, "web-app/"); ok {
			webApp[rest] = content
		}
	}
	repo := h.repo("gitops-repo", merged(
		prefixed("all/kustomize", kustom),
		prefixed("all/namespaces", namespaces),
		// What the Application and the Kustomization of the corpus point at.
		prefixed("apps/web-app", webApp),
		map[string]string{"apps/web-app/kustomization.yaml": "resources: [overlays/production]\n"},
		map[string]string{"apps/kustomization.yaml": "namespace: corpus\nresources: [web-app/overlays/dev]\n"},
	))

	t.Run("argocd", func(t *testing.T) {
		h := h.in(t)
		h.apply(argocd["application-web-app.yaml"])
		defer h.delete(appObject("web-app"))
		h.waitApp("web-app", "to be synced", func(a *argo.Application) bool { return synced(a) && len(a.Status.History) > 0 })
		h.waitLive("apps/v1", "Deployment", "production", "prod-web-app", field(5, "spec", "replicas"))
		d := h.waitLive("apps/v1", "Deployment", "production", "prod-web-app", nil)
		scale := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":1}}`))
		if err := h.kube.Patch(t.Context(), d, scale, client.FieldOwner("kubectl")); err != nil {
			t.Fatal(err)
		}
		h.waitLive("apps/v1", "Deployment", "production", "prod-web-app", field(5, "spec", "replicas"))
		h.push(repo, map[string]string{"apps/web-app/kustomization.yaml": "resources: [overlays/dev]\n"})
		h.waitGone("apps/v1", "Deployment", "production", "prod-web-app")
		h.waitLive("apps/v1", "Deployment", "production", "dev-web-app", nil)
	})
	t.Run("flux", func(t *testing.T) {
		h := h.in(t)
		h.namespace("corpus")
		h.applyFile(flux["git-repository.yaml"], "corpus")
		h.applyFile(flux["kustomization.yaml"], "corpus")
		defer h.dropFlux("corpus", "apps")
		h.kustomization("corpus", "apps", "to be ready", readyAt(repo.Head()))
		h.waitLive("apps/v1", "Deployment", "corpus", "dev-web-app", field(1, "spec", "replicas"))
	})
	for name, c := range map[string]struct {
		path, kind, namespace, object string
	}{
		"kustomize-dev":        {"all/kustomize/web-app/overlays/dev", "Deployment", "corpus-dev", "dev-web-app"},
		"kustomize-production": {"all/kustomize/web-app/overlays/production", "Deployment", "corpus-prod", "prod-web-app"},
		"kustomize-region":     {"all/kustomize/regions/overlays/production/us-east", "Deployment", "corpus-region", "web-app"},
		"kustomize-features":   {"all/kustomize/features", "Deployment", "production", "dev-web-app-v2"},
		"namespaces":           {"all/namespaces", "Deployment", "kiamol-ch11-uat", "sleep"},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			text := strings.Replace(h.application(name, "gitops-repo", c.path, c.namespace, automated), h.url+"gitops-repo.git", "https://github.com/myorg/gitops-repo", 1)
			h.apply(text)
			defer h.delete(appObject(name))
			h.waitApp(name, "to be synced", func(a *argo.Application) bool { return synced(a) && len(a.Status.History) == 1 })
			h.waitLive("apps/v1", c.kind, c.namespace, c.object, func(u *unstructured.Unstructured) error {
				if u.GetLabels()["fairway-cd.io/managed"] != "true" {
					return errors.New("it is not ours")
				}
				return nil
			})
		})
	}
}
