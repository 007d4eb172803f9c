package registry_test

import (
	"testing"

	"github.com/fairway-cd/fairway/internal/registry"
	"github.com/fairway-cd/fairway/internal/registry/conformance"
)

func TestConformance(t *testing.T) {
	h := newHouse(t, func(o *registry.Options) {
		o.Limits.Uploads = 40
		o.Limits.ManifestBytes = 1 << 20
	})
	for _, names := range [][2]string{{"web-app", "other"}, {"default/apps/web", "default/apps/other"}} {
		t.Run(names[0], func(t *testing.T) {
			conformance.Run(t, conformance.Target{
				URL: h.server.URL, Username: "alice", Password: "alice-token",
				Repository: names[0], Other: names[1], Denied: "secret/web-app",
				UploadLimit: 40, ManifestLimit: 1 << 20, SHA512: true,
			})
		})
	}
}
