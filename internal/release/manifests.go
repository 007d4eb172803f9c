package release

import (
	"context"
	"fmt"
	"log/slog"

	ri "helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/storage/driver"
)

// Manifests calls each with the manifests of all revisions of all releases that
// the cluster keeps, hooks included, whoever has made them: what a release may
// be rolled back to. One that cannot be read could not be rolled back to
// either, and is left out.
func (c *Cluster) Manifests(ctx context.Context, each func(manifest string)) error {
	return c.ManifestsIn(ctx, "", each)
}

// ManifestsIn is Manifests of what is kept in one namespace.
func (c *Cluster) ManifestsIn(ctx context.Context, namespace string, each func(manifest string)) error {
	secrets := driver.NewSecrets(c.own.clientset.CoreV1().Secrets(namespace)) // "" is all
	secrets.SetLogger(slog.DiscardHandler)
	_, err := secrets.List(func(r ri.Releaser) bool {
		if rec, err := record(r); err == nil && ctx.Err() == nil {
			each(rec.Manifest)
			for _, hook := range rec.Hooks {
				each(hook.Manifest)
			}
		}
		return false // nobody keeps it
	})
	if err != nil {
		return fmt.Errorf("list the revisions of Helm releases: %w", err)
	}
	return ctx.Err()
}
