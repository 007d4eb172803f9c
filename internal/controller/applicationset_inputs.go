package controller

import (
	"context"
	"slices"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/appset/scm"
	"github.com/fairway-cd/fairway/internal/core"
)

// setNeeds is what a generation has asked of the outside.
type setNeeds struct {
	urls []string
	// clusters: it has asked for clusters; externalGit: a repository was not
	// ours; provider: it has asked a provider.
	clusters, externalGit, provider bool
	// forges are what was asked of providers, as ForgeNoticed finds it.
	forges []string
}

func (n *setNeeds) add(other setNeeds) {
	for _, url := range other.urls {
		n.url(url)
	}
	n.clusters = n.clusters || other.clusters
	n.externalGit = n.externalGit || other.externalGit
	n.provider = n.provider || other.provider
	n.forges = append(n.forges, other.forges...)
}

func (n *setNeeds) url(url string) {
	if !slices.Contains(n.urls, url) {
		n.urls = append(n.urls, url)
	}
}

// names are the needs by which a set is found when they change.
func (n *setNeeds) names() []string {
	names := slices.Concat(n.urls, n.forges)
	if n.clusters {
		names = append(names, dependsOnClusters)
	}
	return names
}

// setInputs answers the generators of one set, in one generation: what it has
// answered once it answers the same again.
type setInputs struct {
	*applicationSets
	set *argo.ApplicationSet
	// fetch has external repositories asked again.
	fetch bool
	needs setNeeds
	snaps map[string]core.Snapshot
}

var _ appset.Inputs = (*setInputs)(nil)

// Snapshot implements appset.Inputs. The repository is read as an Application
// of the set's namespace reads it.
func (in *setInputs) Snapshot(ctx context.Context, url, revision string) (core.Snapshot, error) {
	known := revision + " " + url
	if snap, ok := in.snaps[known]; ok {
		return snap, nil
	}
	in.needs.url(url)
	if _, embedded := in.stages.Sources.Embedded(url); !embedded {
		in.needs.externalGit = true
	}
	if err := in.permits(ctx, url); err != nil {
		return core.Snapshot{}, err
	}
	s := source{from: SourceRequest{Namespace: in.set.Namespace, URL: url, Ref: SourceRef{Revision: revision}}}
	snap, err := in.resolveSource(ctx, s, "", in.fetch)
	if err != nil {
		return core.Snapshot{}, err
	}
	if in.snaps == nil {
		in.snaps = map[string]core.Snapshot{}
	}
	in.snaps[known] = snap
	return snap, nil
}

// permits has a set outside of Argo CD's namespace read only what its project
// lets its Applications read: credentials of repositories are for all.
func (in *setInputs) permits(ctx context.Context, url string) error {
	if in.set.Namespace == in.opts.ArgoNamespace {
		return nil
	}
	app := &argo.Application{ObjectMeta: in.set.ObjectMeta, Spec: argo.ApplicationSpec{Project: in.set.Spec.Template.Spec.Project}}
	p, err := in.project(ctx, app)
	if err != nil {
		return err
	}
	if !permitsSource(p, in.stages.Sources.Names(url)) {
		return &ProjectError{p.Name, "does not permit the source " + withoutPassword(url)}
	}
	return nil
}

// Clusters implements appset.Inputs.
func (in *setInputs) Clusters(ctx context.Context) ([]appset.Cluster, error) {
	in.needs.clusters = true
	return in.clusters.list(ctx)
}

// Repositories implements appset.Inputs.
func (in *setInputs) Repositories(ctx context.Context, gen *argo.SCMProviderGenerator) ([]appset.Repository, error) {
	in.needs.provider = true
	in.needs.forges = append(in.needs.forges, repositoryDeps(gen)...)
	return in.provider().Repositories(ctx, gen)
}

// PullRequests implements appset.Inputs.
func (in *setInputs) PullRequests(ctx context.Context, gen *argo.PullRequestGenerator) ([]appset.PullRequest, error) {
	in.needs.provider = true
	in.needs.forges = append(in.needs.forges, pullRequestDeps(gen)...)
	return in.provider().PullRequests(ctx, gen)
}

func (in *setInputs) provider() *scm.Client {
	return &scm.Client{Credentials: setCredentials{in.Engine, in.set.Namespace}}
}
