// Package flux names the kinds of Flux that we reconcile. Their Go types are
// upstream's, from source-controller/api and kustomize-controller/api; what is
// here are the fields of older versions that upstream's v1 types have not.
package flux

import (
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The kinds, in the versions that are stored.
var (
	GitRepository = schema.GroupVersionKind{Group: "source.toolkit.fluxcd.io", Version: "v1", Kind: "GitRepository"}
	Kustomization = schema.GroupVersionKind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}
)

// AnnotationReconcile asks for a reconciliation: any new value does.
const AnnotationReconcile = "reconcile.fluxcd.io/requestedAt"

// AddToScheme registers upstream's types.
func AddToScheme(s *runtime.Scheme) error {
	if err := kustomizev1.AddToScheme(s); err != nil {
		return err
	}
	return sourcev1.AddToScheme(s)
}
