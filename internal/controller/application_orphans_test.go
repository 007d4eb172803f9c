package controller

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// Objects that nobody has asked for are named, as they come and go; those that
// somebody has, that Kubernetes makes, and that the project ignores are not.
func TestOrphanedResources(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.namespace("orphans")
	h.repo("orphans", map[string]string{"app/a.yaml": configMap("a", "1")})
	h.apply(windows("orphans") + "  namespaceResourceBlacklist: [{group: '', kind: LimitRange}]\n  orphanedResources: {warn: true, ignore: [{kind: ConfigMap, name: '*.example.com'}]}\n")
	h.apply(strings.Replace(h.application("orphans", "orphans", "app", "orphans", automated), "project: default", "project: orphans", 1))
	defer h.delete(appObject("orphans"))
	h.waitApp("orphans", "to be synced", healthy)

	warning := func(a *argo.Application) string {
		for _, c := range a.Status.Conditions {
			if c.Type == argo.ConditionOrphanedResourceWarning {
				return c.Message
			}
		}
		return ""
	}
	says := func(want string) func(*argo.Application) bool {
		return func(a *argo.Application) bool { return warning(a) == want }
	}
	in := func(manifest string) {
		t.Helper()
		h.apply(strings.Replace(manifest, "metadata:\n", "metadata:\n  namespace: orphans\n", 1))
	}
	in(configMap("stray", "1"))
	h.waitApp("orphans", "to have an orphan", says("Application has 1 orphaned resources: ConfigMap orphans/stray"))
	// These are none.
	in(configMap("mail.example.com", "1"))
	in("apiVersion: v1\nkind: LimitRange\nmetadata:\n  name: limits\nspec: {limits: [{type: Pod, max: {cpu: '1'}}]}\n")
	owned := configMap("owned", "1")
	owner := h.waitLive("v1", "ConfigMap", "orphans", "stray", nil)
	in(strings.Replace(owned, "metadata:\n", "metadata:\n  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: stray, uid: "+string(owner.GetUID())+"}]\n", 1))
	in("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: d\nspec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n")
	h.waitApp("orphans", "to have two orphans", says("Application has 2 orphaned resources: ConfigMap orphans/stray, Deployment.apps orphans/d"))
	if err := h.kube.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "orphans", Name: "stray"}}); err != nil {
		t.Fatal(err)
	}
	h.waitApp("orphans", "to have one orphan", says("Application has 1 orphaned resources: Deployment.apps orphans/d"))

	// It is a warning only where it is asked for.
	h.apply(windows("orphans") + "  orphanedResources: {warn: false}\n")
	a := h.waitApp("orphans", "to have no warning", says(""))
	if !healthy(a) {
		t.Errorf("%s", describe(a))
	}
}
