package controller

import (
	"context"
	"fmt"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"

	"github.com/fairway-cd/fairway/api/flux"
)

// sourceDep is what the Kustomization is made of, as others are told of it.
func (k *kustomizationObject) sourceDep() string {
	return k.Spec.SourceRef.Kind + " " + k.sourceKey().String()
}

// sourceArtifact is what the Kustomization's source has, if that was found in
// this process.
func (e *Engine) sourceArtifact(k *kustomizationObject) (artifact, bool) {
	if k.Spec.SourceRef.Kind == sourcev1.OCIRepositoryKind {
		a, ok := e.helm.artifacts.artifact(k.sourceKey())
		return a.artifact, ok
	}
	return e.repos.artifact(k.sourceKey())
}

// sourceReason is why the Kustomization's source has nothing, and nil where
// that is not known yet.
func (e *Engine) sourceReason(ctx context.Context, k *kustomizationObject) error {
	gvk, memories := flux.GitRepository, e.repos.memories
	if k.Spec.SourceRef.Kind == sourcev1.OCIRepositoryKind {
		gvk, memories = flux.OCIRepository, e.helm.artifacts.memories
	}
	key := k.sourceKey()
	// Our own last write is newer than the cache may be.
	u, err := e.referredTo(ctx, gvk, key, memories)
	if isNotThere(err) {
		return fmt.Errorf("source '%s/%s' is not there", gvk.Kind, key)
	}
	if err != nil {
		return err
	}
	if ready := readyMessage(u); ready != "" {
		return fmt.Errorf("source '%s/%s' is not ready: %s", gvk.Kind, key, ready)
	}
	return nil
}

// source is how the artifact is opened again, at its digest or another one.
func (r ArtifactRequest) source(digest string) SourceRequest {
	return SourceRequest{Namespace: r.Namespace, URL: r.URL, Ref: SourceRef{Revision: digest}, Auth: r.Auth, Layer: Layer{r.MediaType, r.Copy}}
}
