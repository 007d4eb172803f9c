package flux

import (
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/kustomize"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// KustomizationSpec is v1's with what only v1beta2 has. Versions of a kind are
// converted by name alone, so an object that was written as v1beta2 and is
// read as v1 still has these fields.
type KustomizationSpec struct {
	kustomizev1.KustomizationSpec `json:",inline"`

	PatchesStrategicMerge []apiextensions.JSON      `json:"patchesStrategicMerge,omitempty"`
	PatchesJSON6902       []kustomize.JSON6902Patch `json:"patchesJson6902,omitempty"`
	// Validation is deprecated and without effect in v1beta2.
	Validation string `json:"validation,omitempty"`
}

// GitRepositorySpec is v1's with what only v1beta2 has.
type GitRepositorySpec struct {
	sourcev1.GitRepositorySpec `json:",inline"`

	// GitImplementation is deprecated and without effect.
	GitImplementation string `json:"gitImplementation,omitempty"`
	// AccessFrom was never enforced by Flux for Kustomizations' sources.
	AccessFrom map[string]any `json:"accessFrom,omitempty"`
}
