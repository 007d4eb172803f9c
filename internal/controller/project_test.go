package controller

import (
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

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

// A kind that comes with the objects is held to the scope that its definition
// says, whatever namespace the objects name.
func TestProjectOfKindsToCome(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	definition := `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sneaks.escape.example.com}
spec:
  group: escape.example.com
  names: {kind: Sneak, plural: sneaks}
  scope: Cluster
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
`
	h.repo("sneak", map[string]string{
		"app/crd.yaml":   definition,
		"app/sneak.yaml": "apiVersion: escape.example.com/v1\nkind: Sneak\nmetadata: {name: x, namespace: sneak}\n",
	})
	h.apply(`apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: narrow, namespace: argocd}
spec:
  sourceRepos: ["*"]
  destinations: [{server: "*", namespace: sneak}]
  clusterResourceWhitelist: [{group: apiextensions.k8s.io, kind: CustomResourceDefinition}]
`)
	h.apply(strings.Replace(h.application("sneak", "sneak", "app", "sneak", automated), "project: default", "project: narrow", 1))
	defer h.delete(appObject("sneak"))
	h.waitApp("sneak", "to be refused", func(a *argo.Application) bool {
		return len(a.Status.Conditions) > 0 && strings.Contains(a.Status.Conditions[0].Message, "does not permit the cluster-scoped")
	})
	crd := &unstructured.Unstructured{}
	crd.SetAPIVersion("apiextensions.k8s.io/v1")
	crd.SetKind("CustomResourceDefinition")
	if err := h.kube.Get(t.Context(), types.NamespacedName{Name: "sneaks.escape.example.com"}, crd); !apierrors.IsNotFound(err) {
		t.Errorf("the definition was applied all the same: %v", err)
	}
}

func TestProjectPatterns(t *testing.T) {
	p := &argo.AppProject{Spec: argo.AppProjectSpec{
		SourceRepos:                []string{"*", "!https://github.com/ot[her"},
		Destinations:               []argo.ApplicationDestination{{Server: "*", Namespace: "![kube-system"}},
		NamespaceResourceBlacklist: []metav1.GroupKind{{Kind: "[ConfigMap"}},
	}}
	refused := &SpecError{}
	checkPatterns(p, refused)
	var paths []string
	for _, f := range refused.Fields {
		paths = append(paths, f.Path)
	}
	want := []string{"spec.sourceRepos[1]", "spec.destinations[0].namespace", "spec.namespaceResourceBlacklist[0].kind"}
	if !slices.Equal(paths, want) {
		t.Errorf("refused: %q, want %q", paths, want)
	}
}
