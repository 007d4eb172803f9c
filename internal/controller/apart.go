package controller

import (
	"slices"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// apart says what the deletion of an owner leaves out of what it deletes, or
// it would wait for its own end: the owner, where it delivers itself (Argo CD's
// isSelfReferencedApp), and what is being deleted and waits for the owner,
// where each delivers the other. In a circle of more than two the wait is told.
func apart(owner core.Owner, uid types.UID) func(live *unstructured.Unstructured) bool {
	self := core.ObjectRef{Group: argo.GroupVersion.Group, Kind: owner.Kind, Namespace: owner.Namespace, Name: owner.Name}
	if owner.Dialect == core.Flux {
		self.Group = kustomizev1.GroupVersion.Group
	}
	return func(live *unstructured.Unstructured) bool {
		return live.GetUID() == uid || live.GetDeletionTimestamp() != nil && slices.Contains(deliveredBy(live), self)
	}
}

// deliveredBy are the keys of what an Application or a Kustomization has, by
// its status; of other objects there are none.
func deliveredBy(live *unstructured.Unstructured) []core.ObjectRef {
	var refs []core.ObjectRef
	switch gvk := live.GroupVersionKind(); {
	case gvk.Group == argo.GroupVersion.Group && gvk.Kind == argo.ApplicationKind:
		// What is wrong with its spec is nothing to who only deletes it.
		if app, _ := readApplication(live); app != nil {
			refs = inventoryOf(app.Status.Resources)
		}
	case gvk.Group == kustomizev1.GroupVersion.Group && gvk.Kind == kustomizev1.KustomizationKind:
		if k, _ := readKustomization(live); k != nil {
			refs = (&kustomizationRun{k: k, status: &k.Status}).inventory()
		}
	}
	for i := range refs {
		refs[i] = refs[i].Key()
	}
	return refs
}
