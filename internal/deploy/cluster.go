package deploy

import (
	"context"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Cluster is the Deployer of one cluster. It holds no state of its own.
type Cluster struct {
	client *kube.Client
	owners *kube.Client
	// self is the deployer that acts as ourselves, where this one acts as
	// somebody else.
	self        *Cluster
	tracking    mark.Tracking
	health      health.Owned
	concurrency int
	answered    func(*unstructured.Unstructured)
}

var _ Deployer = (*Cluster)(nil)

// Option changes a Cluster's defaults.
type Option func(*Cluster)

// WithAnswered sets what is called with each object that the API server has
// answered to a write, from many goroutines: drift.Cluster.Observe, so that
// the watch does not lag behind an apply. It must not keep or change the
// object.
func WithAnswered(f func(*unstructured.Unstructured)) Option {
	return func(c *Cluster) { c.answered = f }
}

// WithHealth sets the rules of health; without it they are those that are
// shipped.
func WithHealth(f health.Owned) Option { return func(c *Cluster) { c.health = f } }

// WithOwners sets where the deliveries themselves are, where that is another
// cluster.
func WithOwners(client *kube.Client) Option { return func(c *Cluster) { c.owners = client } }

// New returns a deployer that works on the client's cluster.
func New(client *kube.Client, opts ...Option) *Cluster {
	c := &Cluster{
		client:      client,
		owners:      client,
		tracking:    mark.Tracking{ArgoNamespace: "argocd"},
		health:      new(health.Owners).Of,
		concurrency: 16,
		answered:    func(*unstructured.Unstructured) {},
	}
	for _, o := range opts {
		o(c)
	}
	return c
}

// each calls f for every element, several at a time. It ends when all ended.
// f must keep its own errors: one that fails does not stop the others.
func each[T any](ctx context.Context, limit int, list []T, f func(context.Context, T)) {
	if len(list) == 1 {
		f(ctx, list[0])
		return
	}
	var g errgroup.Group
	g.SetLimit(limit)
	for _, e := range list {
		g.Go(func() error {
			f(ctx, e)
			return nil
		})
	}
	_ = g.Wait()
}
