package mark

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// The kinds of the owners.
const (
	KindApplication   = "Application"
	KindKustomization = "Kustomization"
)

// The dialects' own marks.
const (
	argoTracking  = "argocd.argoproj.io/tracking-id"
	fluxName      = "kustomize.toolkit.fluxcd.io/name"
	fluxNamespace = "kustomize.toolkit.fluxcd.io/namespace"
)

// Tracking writes and reads whose an object is, as the dialects do.
type Tracking struct {
	// ArgoNamespace is the one whose Applications are tracked by their bare
	// name; those of others by NAMESPACE_NAME, as Argo CD's "applications in
	// any namespace" has it.
	ArgoNamespace string
}

// Write puts the owner's mark, and ours, on obj. namespace is the delivery's,
// which Argo CD writes into the tracking of objects without one.
func (t Tracking) Write(obj *unstructured.Unstructured, owner core.Owner, namespace string) {
	label(obj, LabelManaged, "true")
	switch owner.Dialect {
	case core.Flux:
		label(obj, fluxName, owner.Name)
		label(obj, fluxNamespace, owner.Namespace)
	case core.ArgoCD:
		if ns := obj.GetNamespace(); ns != "" {
			namespace = ns
		}
		gvk := obj.GroupVersionKind()
		annotate(obj, argoTracking, fmt.Sprintf("%s:%s/%s:%s/%s",
			t.instance(owner), gvk.Group, gvk.Kind, namespace, obj.GetName()))
	}
}

func (t Tracking) instance(o core.Owner) string {
	if o.Namespace == t.ArgoNamespace {
		return o.Name
	}
	return o.Namespace + "_" + o.Name
}

// Read returns the deliveries that track obj: none, an Application, a
// Kustomization, or one of each.
//
// A tracking annotation that names another object was copied with the rest
// (controllers do that from an object to its children, or to other namespaces)
// and tracks nothing, as in Argo CD.
func (t Tracking) Read(obj *unstructured.Unstructured) []core.Owner {
	var owners []core.Owner
	if o, ok := t.application(obj); ok {
		owners = append(owners, o)
	}
	l := obj.GetLabels()
	if l[fluxName] != "" && l[fluxNamespace] != "" {
		owners = append(owners, core.Owner{
			Dialect: core.Flux, Kind: KindKustomization, Namespace: l[fluxNamespace], Name: l[fluxName],
		})
	}
	return owners
}

// Tracks says whether owner is one of those that track obj.
func (t Tracking) Tracks(owner core.Owner, obj *unstructured.Unstructured) bool {
	for _, o := range t.Read(obj) {
		if o == owner {
			return true
		}
	}
	return false
}

func (t Tracking) application(obj *unstructured.Unstructured) (core.Owner, bool) {
	app, rest, ok := strings.Cut(obj.GetAnnotations()[argoTracking], ":")
	if !ok || app == "" {
		return core.Owner{}, false
	}
	kind, name, _ := strings.Cut(rest, ":")
	group, kind, _ := strings.Cut(kind, "/")
	namespace, name, _ := strings.Cut(name, "/")
	gvk := obj.GroupVersionKind()
	if group != gvk.Group || kind != gvk.Kind || name != obj.GetName() ||
		obj.GetNamespace() != "" && namespace != obj.GetNamespace() {
		return core.Owner{}, false
	}
	o := core.Owner{Dialect: core.ArgoCD, Kind: KindApplication, Namespace: t.ArgoNamespace, Name: app}
	if ns, n, ok := strings.Cut(app, "_"); ok {
		o.Namespace, o.Name = ns, n
	}
	return o, true
}
