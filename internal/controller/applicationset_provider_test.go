package controller

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// TestApplicationSetPullRequests has an Application for each pull request of a
// Gitea that goes away for a while: then nothing is deleted. Its token goes
// there only when the Secret is marked.
func TestApplicationSetPullRequests(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	var pulls atomic.Value
	pulls.Store([]int{1, 2})
	gitea := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		numbers, _ := pulls.Load().([]int)
		if r.Header.Get("Authorization") != "token hunter2" || numbers == nil {
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		all := []map[string]any{}
		for _, n := range numbers {
			all = append(all, map[string]any{"number": n, "head": map[string]any{"ref": fmt.Sprintf("Feature/%d", n), "sha": "0123456789abcdef"}, "base": map[string]any{"ref": "main"}})
		}
		_ = json.NewEncoder(w).Encode(all)
	}))
	defer gitea.Close()
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: gitea, namespace: argocd, labels: {a: b}}\nstringData: {token: hunter2}\n"
	defer h.delete(h.apply(secret)[0])
	set := h.setOf("pulls", fmt.Sprintf("  - pullRequest: {gitea: {owner: o, repo: r, api: %q, tokenRef: {secretName: gitea, key: token}}, requeueAfterSeconds: 3600}", gitea.URL),
		"pr-{{ .number }}-{{ .branch_slug }}", "nobody", "{{ .head_short_sha }}", "")
	h.apply(set)
	defer h.delete(setObject("pulls"))
	h.waitSet("pulls", "to be refused the token", setSays(argo.SetConditionErrorOccurred, "True", `"gitea" is not marked`, "scm-creds"))
	h.apply(strings.Replace(secret, "{a: b}", "{argocd.argoproj.io/secret-type: scm-creds}", 1))
	h.waitApps("pulls", "pr-1-feature-1", "pr-2-feature-2")

	refresh := func() {
		t.Helper()
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"argocd.argoproj.io/application-set-refresh":"true"}}}`))
		if err := h.kube.Patch(t.Context(), setObject("pulls"), patch); err != nil {
			t.Fatal(err)
		}
	}
	pulls.Store([]int(nil))
	refresh()
	h.waitSet("pulls", "to say that the provider is away", func(s *argo.ApplicationSet) bool {
		return setSays(argo.SetConditionErrorOccurred, "True", "503")(s) && setSays(argo.SetConditionParametersGenerated, "False")(s)
	})
	if text := h.describeSet("pulls"); strings.Contains(text, "hunter2") {
		t.Errorf("the token is in the status:\n%s", text)
	}
	h.waitApps("pulls", "pr-1-feature-1", "pr-2-feature-2")
	pulls.Store([]int{2, 3})
	h.waitApps("pulls", "pr-2-feature-2", "pr-3-feature-3")

	// A webhook of the forge is heard at once, and only of its repository.
	pulls.Store([]int{3})
	h.engine.ForgeNoticed("gitea", "o/another")
	h.engine.ForgeNoticed("gitea", "O/R")
	h.waitApps("pulls", "pr-3-feature-3")
	pulls.Store([]int{2, 3})
	h.engine.ForgeNoticed("gitea", "o/r.git")
	h.waitApps("pulls", "pr-2-feature-2", "pr-3-feature-3")

	// A project that a pull request names is not its to choose.
	h.apply(strings.Replace(set, "project: default", "project: '{{ .branch_slug }}'", 1))
	h.waitSet("pulls", "to be refused the project", setSays(argo.SetConditionErrorOccurred, "True", "feature-2", "fairway-cd.io/allowed-projects"))
	h.waitApps("pulls", "pr-2-feature-2", "pr-3-feature-3")
}

// TestApplicationSetElsewhere has sets outside of Argo CD's namespace: they
// make Applications of their namespace, and look at nothing but what their
// project permits.
func TestApplicationSetElsewhere(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.namespace("team")
	h.repo("team", map[string]string{"app/a.yaml": configMap("team", "1")})
	h.repo("others", map[string]string{"app/a.yaml": configMap("others", "1")})
	defer h.delete(h.apply(fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: team, namespace: argocd}
spec:
  sourceRepos: [%steam.git]
  sourceNamespaces: [team]
  destinations: [{server: '*', namespace: team}]
`, h.url))[0])
	set := func(generators string) string {
		s := strings.Replace(h.setOf("own", generators, "own", "team", "app", ""), "namespace: argocd", "namespace: team", 1)
		return strings.NewReplacer("project: default", "project: team", "namespace: own", "namespace: team").Replace(s)
	}
	u := h.apply(set(fmt.Sprintf("  - git: {repoURL: %steam.git, directories: [{path: '*'}]}", h.url)))[0]
	defer h.delete(u)
	h.waitLive("v1", "ConfigMap", "team", "team", nil)
	says := func(text string) {
		t.Helper()
		h.waitLive("argoproj.io/v1alpha1", "ApplicationSet", "team", "own", func(u *unstructured.Unstructured) error {
			if data, err := json.Marshal(u.Object["status"]); err != nil || !strings.Contains(string(data), text) {
				return fmt.Errorf("the status does not say %q: %s", text, data)
			}
			return nil
		})
	}
	h.apply(set(fmt.Sprintf("  - git: {repoURL: %sothers.git, directories: [{path: '*'}]}", h.url)))
	says("does not permit the source")
	h.apply(set("  - clusters: {}"))
	says("spec.generators[0].clusters")
	h.apply(set("  - matrix: {generators: [{list: {elements: [{a: b}]}}, {clusters: {}}]}"))
	says("clusters: is for ApplicationSets in namespace")
	h.waitLive("argoproj.io/v1alpha1", "Application", "team", "own", nil)
}
