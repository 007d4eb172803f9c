package controller

import (
	"context"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"

	"github.com/fairway-cd/fairway/internal/core"
)

// KeptReleases calls each with the manifests of the revisions that are kept in
// the cluster of a HelmRelease, and in its storage namespace. Errors: those of
// the kubeconfig, *fleet.AwayError and *fleet.ConnectingError, and those of that
// cluster's API server.
func (e *Engine) KeptReleases(ctx context.Context, hr *helmv2.HelmRelease, each func(manifest string)) error {
	owner := core.Owner{Dialect: core.Flux, Kind: core.HelmRelease, Namespace: hr.Namespace, Name: hr.Name}
	if _, err := e.reachFlux(owner, hr.Spec.KubeConfig); err != nil {
		return err
	}
	inside, parts, end, err := e.stages.Fleet.Inside(ctx, owner)
	if err != nil {
		return err
	}
	defer end()
	return parts.Releases.ManifestsIn(inside, hr.GetStorageNamespace(), each)
}
