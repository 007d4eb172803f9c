package app

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
	"github.com/fairway-cd/fairway/internal/fleet"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/release"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/secrets/sealed"
)

// stages are the parts that the reconcilers call.
type stages struct {
	renderer render.Renderer
	fleet    *fleet.Fleet
	sources  *sources
	commits  *commits
	releases *release.Cluster
	// workers runs the render workers, which run templates too.
	workers   func(context.Context) error
	templates appset.Templates
	fill      sealed.Fill
	health    *health.Owners
}

// newStages composes render, deploy and drift for the cluster.
func (s *Server) newStages(config *rest.Config, st *stores) (*stages, error) {
	client, err := kube.New(config)
	if err != nil {
		return nil, err
	}
	missed, err := countMissed(metrics.Registry)
	if err != nil {
		return nil, err
	}
	rules := &health.Owners{}
	out := &stages{
		sources: s.newSources(st),
		commits: &commits{store: st.git},
		health:  rules,
	}
	if out.releases, err = release.New(config); err != nil {
		return nil, err
	}
	watcher := drift.New(client, drift.WithMissed(missed), drift.WithHealth(rules.Of))
	out.fleet = fleet.New(&fleet.Parts{
		Client:   client,
		Deployer: deploy.New(client, deploy.WithAnswered(watcher.Observe), deploy.WithHealth(rules.Of)),
		Watcher:  watcher,
		Releases: out.releases,
	}, fleet.Opener(client, rules.Of, missed))
	out.renderer, err = s.newRenderer(out)
	return out, err
}

// newRenderer makes the renderer: hostile code runs in workers, and what has
// been rendered once is not rendered again.
func (s *Server) newRenderer(out *stages) (render.Renderer, error) {
	pool := render.NewPool(render.PoolOptions{})
	out.workers = func(ctx context.Context) error {
		return pool.Run(logr.NewContext(ctx, logr.FromSlogHandler(slog.Default().Handler())))
	}
	out.templates, out.fill = appset.Worker(pool.Call), sealed.FillBy(pool.Call)
	return render.NewCached(pool, s.inst.path("render"), render.CacheLimits{})
}

func (s *stages) forController(st *stores) controller.Stages {
	return controller.Stages{
		Sources: controller.Guard(s.sources, st.access), Renderer: s.renderer, Deployer: s.fleet, Watcher: s.fleet, Fleet: s.fleet, Health: s.health,
		Commits: s.commits, Access: st.access, Packages: s.sources, Releases: s.releases, Templates: s.templates, Fill: s.fill,
	}
}

// gitAuth is a source's credential in Git's words.
func gitAuth(a controller.Auth) git.Auth {
	return git.Auth{
		Username: a.Username, Password: a.Password, Token: a.BearerToken,
		SSHKey: a.SSHIdentity, KnownHosts: a.SSHKnownHosts, CA: a.CA, Insecure: a.Insecure,
	}
}
