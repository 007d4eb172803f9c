package web

import (
	"context"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// Sources is what the API shows of where deliveries come from. Implementations
// are safe for concurrent use.
type Sources interface {
	// Sources returns those of the cluster, ordered by kind, namespace and name.
	Sources(ctx context.Context) ([]Source, error)
}

// Source is an object of Flux' source kinds, as a person wants to see it.
type Source struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// URL is without a password; of a HelmChart it is its source and the chart.
	URL string `json:"url"`
	// Ready is True, False or Unknown.
	Ready     string    `json:"ready"`
	Suspended bool      `json:"suspended,omitempty"`
	Revision  string    `json:"revision,omitempty"`
	Message   string    `json:"message,omitempty"`
	Created   time.Time `json:"created"`
}

// sourceGroup is the API group of the kinds, sourceResources what Kubernetes
// calls their objects.
const sourceGroup = "source.toolkit.fluxcd.io"

var sourceResources = map[string]string{
	"GitRepository": "gitrepositories", "OCIRepository": "ocirepositories",
	"HelmRepository": "helmrepositories", "HelmChart": "helmcharts",
}

// SourceRoutes are the API's routes for sources:
//
//	GET /api/v1/sources  those that the user may get, single ones excepted
func SourceRoutes(access core.Access, sources Sources) map[string]http.Handler {
	return map[string]http.Handler{
		"GET /api/v1/sources": answers(access, func(r *http.Request, user core.User) ([]Source, error) {
			all, err := sources.Sources(r.Context())
			if err != nil {
				return nil, err
			}
			return seenSources(r.Context(), access, user, all)
		}),
	}
}

func seenSources(ctx context.Context, access core.Access, user core.User, all []Source) ([]Source, error) {
	sights := map[string]*core.Sight{}
	for kind, resource := range sourceResources {
		sights[kind] = core.NewSight(access, user, sourceGroup, resource)
	}
	seen := []Source{}
	for _, s := range all {
		sight := sights[s.Kind]
		if sight == nil {
			continue
		}
		may, err := sight.Namespace(ctx, s.Namespace)
		if err != nil {
			return nil, err
		}
		if may {
			seen = append(seen, s)
		}
	}
	return seen, nil
}
