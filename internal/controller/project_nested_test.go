package controller

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// nesting is a project whose Applications may deliver Flux' kinds to the
// namespace nested.
func nesting(extra string) string {
	return `apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: nesting, namespace: argocd}
spec:
  sourceRepos: ["*"]
  destinations: [{server: "*", namespace: nested}]
` + extra
}

// What an Application delivers that delivers by itself does not have more
// rights than the Application's project gives.
func TestProjectOfNestedDeliveries(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.namespace("nested")
	h.namespace("elsewhere")
	h.repo("inner", map[string]string{"app/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: escaped, namespace: elsewhere}\n"})
	pair := h.fluxPair("nested", "inner", "inner", "./app", "")
	outer := h.repo("outer", map[string]string{"app/flux.yaml": pair})
	h.apply(nesting(""))
	h.apply(strings.Replace(h.application("outer", "outer", "app", "nested", "  syncPolicy: {automated: {}}\n"), "project: default", "project: nesting", 1))
	defer h.delete(appObject("outer"))
	defer h.dropFlux("nested", "inner")

	refused := func(a *argo.Application) bool {
		return len(a.Status.Conditions) > 0 && strings.Contains(a.Status.Conditions[0].Message, "does not permit Kustomization.kustomize.toolkit.fluxcd.io nested/inner, which delivers with Fairway's own rights") &&
			strings.Contains(a.Status.Conditions[0].Message, "spec.serviceAccountName")
	}
	h.waitApp("outer", "to be refused", refused)
	if _, err := h.live("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "nested", "inner"); err == nil {
		t.Error("the Kustomization was applied all the same")
	}
	h.apply(nesting("  namespaceResourceWhitelist: [{group: '', kind: ConfigMap}, {group: '*.toolkit.fluxcd.io', kind: '*'}]\n"))
	h.push(outer, map[string]string{"app/other.yaml": configMap("other", "1")})
	h.waitApp("outer", "to be refused for a pattern", refused)

	// With an account its rights are what counts.
	h.apply(nesting(""))
	h.push(outer, map[string]string{"app/flux.yaml": h.fluxPair("nested", "inner", "inner", "./app", "  serviceAccountName: tenant\n")})
	h.kustomization("nested", "inner", "to be denied by the API server", notReady("ReconciliationFailed", "forbidden", "system:serviceaccount:nested:tenant"))
	if _, err := h.live("v1", "ConfigMap", "elsewhere", "escaped"); err == nil {
		t.Error("the ConfigMap was delivered all the same")
	}

	// A project that names the kind trusts it.
	h.push(outer, map[string]string{"app/flux.yaml": pair})
	h.waitApp("outer", "to be refused again", refused)
	h.apply(nesting(`  namespaceResourceWhitelist:
  - {group: "", kind: ConfigMap}
  - {group: source.toolkit.fluxcd.io, kind: GitRepository}
  - {group: kustomize.toolkit.fluxcd.io, kind: Kustomization}
`))
	h.waitApp("outer", "to be synced", synced)
	h.waitLive("v1", "ConfigMap", "elsewhere", "escaped", nil)
}

func TestUnrestrictedProject(t *testing.T) {
	all := argo.AppProjectSpec{
		Destinations:             []argo.ApplicationDestination{{Server: "*", Namespace: "*"}},
		ClusterResourceWhitelist: []argo.ClusterResourceRestriction{{Group: "*", Kind: "*"}},
	}
	for name, c := range map[string]struct {
		change func(*argo.AppProjectSpec)
		want   bool
	}{
		"as the default project": {func(*argo.AppProjectSpec) {}, true},
		"of the cluster by name": {func(s *argo.AppProjectSpec) {
			s.Destinations[0] = argo.ApplicationDestination{Name: "in-cluster", Namespace: "*"}
		}, true},
		"of another cluster": {func(s *argo.AppProjectSpec) { s.Destinations[0].Server = "https://elsewhere" }, false},
		"of some namespaces": {func(s *argo.AppProjectSpec) { s.Destinations[0].Namespace = "a*" }, false},
		"but for one namespace": {func(s *argo.AppProjectSpec) {
			s.Destinations = append(s.Destinations, argo.ApplicationDestination{Server: "*", Namespace: "!x"})
		}, false},
		"no cluster-scoped kinds": {func(s *argo.AppProjectSpec) { s.ClusterResourceWhitelist = nil }, false},
		"some names":              {func(s *argo.AppProjectSpec) { s.ClusterResourceWhitelist[0].Name = "a*" }, false},
		"but for a kind": {func(s *argo.AppProjectSpec) {
			s.NamespaceResourceBlacklist = []metav1.GroupKind{{Kind: "ResourceQuota"}}
		}, false},
		"but for a cluster kind": {func(s *argo.AppProjectSpec) {
			s.ClusterResourceBlacklist = []argo.ClusterResourceRestriction{{Kind: "Node"}}
		}, false},
	} {
		p := &argo.AppProject{Spec: *all.DeepCopy()}
		c.change(&p.Spec)
		if got := unrestricted(p, home); got != c.want {
			t.Errorf("%s: unrestricted is %v", name, got)
		}
	}
}
