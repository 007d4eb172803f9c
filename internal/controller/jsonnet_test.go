package controller

import (
	"strings"
	"testing"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// An Application of jsonnet is woken by its libraries, and by nothing else of
// the repository.
func TestApplicationOfJsonnet(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	library := func(value string) string {
		return "{ map(name, value):: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: name }, data: { key: value + '" + value + "' } } }"
	}
	repo := h.repo("jsonnet", map[string]string{
		"app/main.jsonnet":      "local k = import 'k.libsonnet';\nfunction(names) [k.map(n, std.extVar('app')) for n in names]",
		"vendor/k.libsonnet":    library("-1"),
		"vendor/unused.jsonnet": "error 'nobody evaluates it'",
	})
	text := h.application("jsonnet", "jsonnet", "app", "jsonnet", automated)
	h.apply(strings.Replace(text, "path: app", `path: app
    directory:
      jsonnet:
        extVars: [{name: app, value: $ARGOCD_APP_NAME}]
        tlas: [{name: names, value: "['a', 'b']", code: true}]
        libs: [vendor]`, 1))
	defer h.delete(appObject("jsonnet"))
	h.waitApp("jsonnet", "to be synced", healthy)
	h.waitLive("v1", "ConfigMap", "jsonnet", "b", field("jsonnet-1", "data", "key"))

	h.push(repo, map[string]string{"vendor/k.libsonnet": library("-2")})
	h.waitLive("v1", "ConfigMap", "jsonnet", "b", field("jsonnet-2", "data", "key"))
	before := h.refresh("jsonnet", repo.Head())

	// What concerns others comes before what concerns it, and leaves no trace.
	unrelated := h.push(repo, map[string]string{"vendor/unused.jsonnet": "{}", "README.md": "hello"})
	h.push(repo, map[string]string{"app/main.jsonnet": "{\n  a: 1,\n  b: ],\n}"})
	a := h.waitApp("jsonnet", "to say what is wrong", func(a *argo.Application) bool { return a.Status.Sync.Status == "Unknown" })
	if text := describe(a); !strings.Contains(text, "app/main.jsonnet:3: ") {
		t.Errorf("the status does not name the place: %s", text)
	}
	if len(a.Status.History) != len(before.Status.History) || a.Status.Sync.Revision == unrelated {
		t.Errorf("a commit that concerns others was brought out: %s", describe(a))
	}
	h.push(repo, map[string]string{"app/main.jsonnet": "function(names) null"})
	h.waitApp("jsonnet", "to say that there is no object", func(a *argo.Application) bool {
		return strings.Contains(describe(a), "no object")
	})
	h.waitLive("v1", "ConfigMap", "jsonnet", "b", field("jsonnet-2", "data", "key"))
}
