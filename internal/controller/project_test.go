package controller

import (
	"strings"
	"testing"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// A project that permits only its own clusters needs a Secret that says which
// these are; the Secret is an event.
func TestProjectScopedClusters(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("scoped", map[string]string{"app/a.yaml": configMap("a", "1")})
	h.apply(windows("scoped") + "  permitOnlyProjectScopedClusters: true\n  roles: [{name: dev, policies: ['p, proj:scoped:dev, applications, sync, scoped/*, allow']}]\n")
	h.apply(strings.Replace(h.application("scoped", "scoped", "app", "scoped", automated), "project: default", "project: scoped", 1))
	defer h.delete(appObject("scoped"))
	h.waitApp("scoped", "to have no cluster", func(a *argo.Application) bool {
		return a.Status.Sync.Status == argo.SyncUnknown && len(a.Status.Conditions) > 0 && strings.Contains(a.Status.Conditions[0].Message, "permitOnlyProjectScopedClusters")
	})
	secret := h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: scoped, namespace: argocd, labels: {argocd.argoproj.io/secret-type: cluster}}\n" +
		"stringData: {name: in-cluster, server: 'https://kubernetes.default.svc', project: scoped}\n")
	defer h.delete(secret[0])
	h.waitApp("scoped", "to be synced", healthy)
}
