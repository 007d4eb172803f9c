package app

import (
	"context"
	"log/slog"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"

	argoproj "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
)

// sweepEvery is how often mirrors of external repositories are looked through
// for those that nobody refers to.
const sweepEvery = time.Hour

// sweepMirrors removes what nobody refers to any more, until ctx ends.
func (e *engine) sweepMirrors(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		urls, err := e.repositoryURLs(ctx)
		var removed []string
		if err == nil {
			removed, err = e.st.git.Sweep(ctx, urls)
		}
		if len(removed) > 0 {
			slog.Info("removed mirrors that nobody refers to", "repositories", removed)
		}
		if err != nil && ctx.Err() == nil {
			slog.Error("removing mirrors that nobody refers to", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// repositoryURLs are those that an object refers to: to deliver from them now,
// or to roll back to what was delivered from them.
func (e *engine) repositoryURLs(ctx context.Context) ([]string, error) {
	apps, err := listAs[argoproj.Application](ctx, e.mgr.GetCache(), applicationKind)
	if err != nil {
		return nil, err
	}
	repositories, err := listAs[sourcev1.GitRepository](ctx, e.mgr.GetCache(), flux.GitRepository)
	if err != nil {
		return nil, err
	}
	var urls []string
	add := func(one *argoproj.ApplicationSource, several []argoproj.ApplicationSource) {
		if one != nil {
			urls = append(urls, one.RepoURL)
		}
		for _, s := range several {
			urls = append(urls, s.RepoURL)
		}
	}
	for i := range apps {
		add(apps[i].Spec.Source, apps[i].Spec.Sources)
		for _, h := range apps[i].Status.History {
			add(&h.Source, h.Sources)
		}
	}
	for i := range repositories {
		urls = append(urls, repositories[i].Spec.URL)
	}
	return urls, nil
}
