// Package flux names the kinds of Flux that we reconcile. Their Go types are
// upstream's, from source-controller/api, kustomize-controller/api and
// helm-controller/api; what is here are the fields of older versions that
// upstream's types have not.
package flux

import (
	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds, in the versions that are stored.
var (
	GitRepository = schema.GroupVersionKind{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "GitRepository"}
	Kustomization = schema.GroupVersionKind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}

	HelmRepository = schema.GroupVersionKind{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "HelmRepository"}
	HelmChart      = schema.GroupVersionKind{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "HelmChart"}
	OCIRepository  = schema.GroupVersionKind{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "OCIRepository"}
	HelmRelease    = schema.GroupVersionKind{Group: "helm.toolkit.fluxcd.io", Version: "v2", Kind: "HelmRelease"}
)

// AnnotationReconcile asks for a reconciliation: any new value does.
const AnnotationReconcile = "reconcile.fluxcd.io/requestedAt"

// AddToScheme registers upstream's types.
func AddToScheme(s *runtime.Scheme) error {
	if err := kustomizev1.AddToScheme(s); err != nil {
		return err
	}
	if err := helmv2.AddToScheme(s); err != nil {
		return err
	}
	return sourcev1.AddToScheme(s)
}
