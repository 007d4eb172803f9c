package controller

import (
	"fmt"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// account is a ServiceAccount that may do these verbs with ConfigMaps of
// another namespace.
func account(namespace, name, in, verbs string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[2]s, namespace: %[3]s}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [%[4]s]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[2]s, namespace: %[3]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[2]s}
subjects: [{kind: ServiceAccount, name: %[2]s, namespace: %[1]s}]
`, namespace, name, in, verbs)
}

const applies = "get, create, patch, delete"

// quota is of a kind that the accounts may not touch. Of a Secret the API
// server's words would not be told.
func quota(name string) string {
	return "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: " + name + "}\nspec: {hard: {pods: '10'}}\n"
}

// kustomize changes the spec of a Kustomization.
func (h *house) kustomize(namespace, name string, change func(*kustomizev1.KustomizationSpec)) {
	h.t.Helper()
	k := &kustomizev1.Kustomization{}
	if err := h.kube.Get(h.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, k); err != nil {
		h.t.Fatal(err)
	}
	before := k.DeepCopy()
	change(&k.Spec)
	if err := h.kube.Patch(h.t.Context(), k, client.MergeFrom(before)); err != nil {
		h.t.Fatal(err)
	}
}

// A Kustomization with a ServiceAccount may do what that may do, and no more:
// in the first apply, in a change, in a prune, in reading the health of others,
// and in the end.
func TestServiceAccountOfKustomization(t *testing.T) {
	h := newHouse(t)
	for _, ns := range []string{"accounts", "tenant", "other"} {
		h.namespace(ns)
	}
	h.apply(account("accounts", "tenant", "tenant", applies))
	repo := h.repo("tenants", map[string]string{"app/a.yaml": configMap("a", "1"), "app/b.yaml": configMap("b", "1"), "quota/s.yaml": quota("s")})
	h.apply(strings.Replace(h.fluxPair("accounts", "tenants", "tenants", "./app", "  targetNamespace: tenant\n"), "retryInterval: 1h", "retryInterval: 1s", 1))
	defer h.dropFlux("accounts", "tenants")
	wait := func(what string, check func(*kustomizev1.Kustomization) bool) {
		t.Helper()
		h.kustomization("accounts", "tenants", what, check)
	}
	change := func(f func(*kustomizev1.KustomizationSpec)) {
		t.Helper()
		h.kustomize("accounts", "tenants", f)
	}
	failed := meta.ReconciliationFailedReason
	wait("to be ready as ourselves", readyAt(repo.Head()))
	change(func(s *kustomizev1.KustomizationSpec) { s.ServiceAccountName = "stranger" })
	wait("to be denied as somebody without rights", notReady(failed, "forbidden", "system:serviceaccount:accounts:stranger"))
	change(func(s *kustomizev1.KustomizationSpec) { s.ServiceAccountName = "tenant" })
	wait("to be ready as the tenant", readyAt(repo.Head()))

	// A change and a prune are done with the tenant's rights.
	repo.Remove("app/b.yaml")
	h.push(repo, map[string]string{"app/a.yaml": configMap("a", "2")})
	h.waitLive("v1", "ConfigMap", "tenant", "a", field("2", "data", "key"))
	h.waitGone("v1", "ConfigMap", "tenant", "b")
	h.apply(account("accounts", "tenant", "tenant", "get, create, patch"))
	repo.Remove("app/a.yaml")
	h.push(repo, map[string]string{"app/c.yaml": configMap("c", "1")})
	wait("not to be permitted to prune", notReady(meta.PruneFailedReason, "cannot delete resource"))
	h.waitLive("v1", "ConfigMap", "tenant", "a", nil)
	h.apply(account("accounts", "tenant", "tenant", applies))
	h.waitGone("v1", "ConfigMap", "tenant", "a")
	wait("to be ready again", readyAt(repo.Head()))

	// Another kind, another namespace, and the health of what is not its.
	change(func(s *kustomizev1.KustomizationSpec) { s.Path = "./quota" })
	wait("not to be permitted quotas", notReady(failed, "resourcequotas", "forbidden"))
	change(func(s *kustomizev1.KustomizationSpec) { s.Path, s.TargetNamespace = "./app", "other" })
	wait("not to be permitted another namespace", notReady(failed, `in the namespace "other"`, "forbidden"))
	h.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: private, namespace: other}\n")
	change(func(s *kustomizev1.KustomizationSpec) {
		s.TargetNamespace = "tenant"
		s.HealthChecks = []meta.NamespacedObjectKindReference{{APIVersion: "v1", Kind: "ConfigMap", Namespace: "other", Name: "private"}}
	})
	wait("not to be told of others", notReady(failed, "read the health of ConfigMap other/private", "forbidden"))
	change(func(s *kustomizev1.KustomizationSpec) { s.HealthChecks = nil })
	wait("to be ready at last", readyAt(repo.Head()))

	// Its end needs the account; where that is gone, what was applied stays.
	if err := h.kube.Delete(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "accounts", Name: "tenant"}}); err != nil {
		t.Fatal(err)
	}
	h.delete(&kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "accounts", Name: "tenants"}})
	h.waitLive("v1", "ConfigMap", "tenant", "c", nil)
}

// An Application is delivered as the ServiceAccount that its project has for
// the destination, and not at all where it has none for that.
func TestDestinationServiceAccounts(t *testing.T) {
	h := newHouse(t)
	for _, ns := range []string{"argocd", "shop", "pay"} {
		h.namespace(ns)
	}
	h.apply(account("shop", "deployer", "shop", applies))
	h.repo("accounts", map[string]string{"app/a.yaml": configMap("a", "1"), "bad/s.yaml": quota("s")})
	project := windows("accounts") + "  destinationServiceAccounts:\n"
	const shop = "  - {server: 'https://kubernetes.*', namespace: 'shop*', defaultServiceAccount: deployer}\n"
	app := func(path, namespace string) {
		t.Helper()
		h.apply(strings.Replace(h.application("accounts", "accounts", path, namespace, "  syncPolicy: {automated: {selfHeal: true, prune: true}}\n"), "project: default", "project: accounts", 1))
	}
	h.apply(project + shop)
	app("app", "shop")
	defer h.delete(appObject("accounts"))
	h.waitApp("accounts", "to be synced as deployer", healthy)

	says := func(texts ...string) func(a *argo.Application) bool {
		return func(a *argo.Application) bool {
			for _, text := range texts {
				if !strings.Contains(describe(a), text) {
					return false
				}
			}
			return !synced(a)
		}
	}
	app("bad", "shop")
	h.waitApp("accounts", "not to be permitted quotas", says("system:serviceaccount:shop:deployer", "forbidden"))
	app("app", "pay")
	h.waitApp("accounts", "to have no account for the namespace", says("InvalidSpecError", "destinationServiceAccounts", `namespace "pay"`))
	app("app", "shop")
	h.waitApp("accounts", "to be synced again", healthy)

	// Another account in the project is acted on at once.
	h.apply(project + "  - {server: '*', namespace: shop, defaultServiceAccount: 'pay:nobody'}\n")
	h.waitApp("accounts", "to be denied as another account", says("system:serviceaccount:pay:nobody", "forbidden"))
	h.apply(project + shop)
	h.waitApp("accounts", "to be synced as deployer again", healthy)
	h.apply(project + "  - {server: '*', namespace: '*', defaultServiceAccount: 'a:b:c'}\n")
	h.waitApp("accounts", "to have no good account", says("InvalidSpecError", "defaultServiceAccount"))
	h.apply(windows("accounts"))
	h.waitApp("accounts", "to be synced as ourselves", healthy)
}
