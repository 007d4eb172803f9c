package controller

import (
	"fmt"
	"slices"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// nestedKinds deliver by themselves: with Fairway's own rights, unless they say
// with whose.
var nestedKinds = []schema.GroupKind{
	{Group: kustomizev1.GroupVersion.Group, Kind: kustomizev1.KustomizationKind},
	{Group: helmv2.GroupVersion.Group, Kind: helmv2.HelmReleaseKind},
}

// nestedError says that an object would deliver what the project does not.
type nestedError struct {
	*ProjectError
	kind schema.GroupKind
}

func (e *nestedError) Unwrap() error { return e.ProjectError }

// Hint implements core.Hinted.
func (e *nestedError) Hint() string {
	return fmt.Sprintf("give it spec.serviceAccountName, or spec.kubeConfig; or trust the project with it: list group %s and kind %s in its namespaceResourceWhitelist", e.kind.Group, e.kind.Kind)
}

// permitsNested holds objects that deliver by themselves to the project: what
// they deliver is not seen here, so that they have to have rights of their own,
// or the project's trust.
func (a *applicationRun) permitsNested(p *argo.AppProject, o *unstructured.Unstructured) error {
	kind := o.GroupVersionKind().GroupKind()
	if !slices.Contains(nestedKinds, kind) || a.bounded(o) || trustsKind(p, kind) || unrestricted(p, a.at) {
		return nil
	}
	return &nestedError{&ProjectError{p.Name, fmt.Sprintf("does not permit %s, which delivers with Fairway's own rights", refOf(o))}, kind}
}

// bounded says that the object delivers with rights of its own.
func (a *applicationRun) bounded(o *unstructured.Unstructured) bool {
	account, _, _ := unstructured.NestedString(o.Object, "spec", "serviceAccountName")
	kubeconfig, _, _ := unstructured.NestedString(o.Object, "spec", "kubeConfig", "secretRef", "name")
	return account != "" || kubeconfig != "" || a.at.cluster == nil && a.opts.Lockdown.DefaultServiceAccount != ""
}

// trustsKind says that the project names the kind, not by a pattern.
func trustsKind(p *argo.AppProject, kind schema.GroupKind) bool {
	return slices.Contains(p.Spec.NamespaceResourceWhitelist, metav1.GroupKind(kind))
}

// unrestricted says that the project permits every object in every namespace of
// the cluster, as the default one does.
func unrestricted(p *argo.AppProject, at place) bool {
	s := &p.Spec
	everything := slices.ContainsFunc(s.ClusterResourceWhitelist, func(r argo.ClusterResourceRestriction) bool {
		return r.Group == "*" && r.Kind == "*" && (r.Name == "" || r.Name == "*")
	})
	everywhere := slices.ContainsFunc(s.Destinations, func(d argo.ApplicationDestination) bool {
		return d.Namespace == "*" && namesCluster(d, at.destination(""))
	})
	denies := slices.ContainsFunc(s.Destinations, func(d argo.ApplicationDestination) bool {
		return strings.HasPrefix(d.Namespace, "!") || strings.HasPrefix(d.Server, "!") || strings.HasPrefix(d.Name, "!")
	})
	return everything && everywhere && !denies &&
		len(s.ClusterResourceBlacklist)+len(s.NamespaceResourceBlacklist)+len(s.NamespaceResourceWhitelist) == 0
}
