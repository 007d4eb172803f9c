package controller

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/health"
	"github.com/fairway-cd/fairway/internal/orphan"
)

// Options are the engine's. The zero value is ready for use.
type Options struct {
	// ArgoNamespace is where Applications, AppProjects and the Secrets of
	// repositories are, as in Argo CD; default "argocd". Applications of other
	// namespaces need a project that names them in sourceNamespaces.
	ArgoNamespace string
	// Poll is how often external repositories of Applications are asked; default
	// three minutes, as Argo CD does. It is jittered.
	Poll time.Duration
	// Resync is the slow safety net that counts what the events have missed;
	// default one hour, jittered.
	Resync time.Duration
	// Workers is how many objects of a kind are worked on at a time; default 64.
	// What waits holds none; the stages bound the real work.
	Workers int
	// SyncTimeout is how long a sync of an Application may take, hooks, waves and
	// retries included, before it is terminated; default 24 hours, negative is
	// for ever (Argo CD's controller.sync.timeout.seconds, whose default that
	// is). A sync that waits for a person's confirmation has no limit.
	SyncTimeout time.Duration
	// Lockdown is what Flux' kinds are held to.
	Lockdown Lockdown
	// Shards divide the work among several replicas; nil is for one alone.
	Shards Shards
}

func (o *Options) setDefaults() {
	if o.ArgoNamespace == "" {
		o.ArgoNamespace = "argocd"
	}
	if o.Poll == 0 {
		o.Poll = 3 * time.Minute
	}
	if o.Resync == 0 {
		o.Resync = time.Hour
	}
	if o.Workers == 0 {
		o.Workers = 64
	}
	if o.SyncTimeout == 0 {
		o.SyncTimeout = 24 * time.Hour
	}
}

// Engine is the running reconcilers.
type Engine struct {
	client client.Client
	reader client.Reader // past the cache
	events events.EventRecorder
	stages Stages
	opts   Options
	// clusters are those that Argo CD's Secrets describe.
	clusters *clusterSecrets
	// kubeconfigs are those that Flux' kinds name.
	kubeconfigs *kubeconfigs
	connected   *prometheus.GaugeVec
	others      *others
	readiness   *health.Readiness
	orphans     *orphan.Watcher
	stats       *stats

	apps    *applications
	kustoms *kustomizations
	repos   *gitRepositories
	sets    *applicationSets
	helm    *helmKinds
	sealed  *sealedSecrets
	private *discreet
	sharded []*sharded
	open    openShards
	healing healing
}

// RefUpdated wakes those, and only those, whose source is the repository that
// the update is of, and whom it concerns. It does not block, and telling twice
// does no harm.
func (e *Engine) RefUpdated(update core.RefUpdate) {
	same := func(url string) bool { return e.stages.Sources.Same(url, update) }
	e.sets.refUpdated(same)
	for _, key := range e.repos.bySource.on(same) {
		e.repos.wake.wake(key, sourceMoved)
	}
	e.apps.updates.Add(update)
}

// watchDrift wakes the owners of what has drifted, until ctx ends.
func (e *Engine) watchDrift(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case owner, open := <-e.stages.Watcher.Changes():
			if !open {
				return nil
			}
			e.wake(owner, drifted)
		}
	}
}

func (e *Engine) wake(owner core.Owner, r reason) {
	key := types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name}
	switch owner.Dialect {
	case core.ArgoCD:
		e.apps.wake.wake(key, r)
	case core.Flux:
		e.kustoms.wake.wake(key, r)
	}
}

// wakeDialect wakes everything of a dialect: another controller of it has
// gone, so it is ours again.
func (e *Engine) wakeDialect(ctx context.Context, d core.Dialect) {
	log.FromContext(ctx).Info("reconciling the dialect", "dialect", d)
	switch d {
	case core.ArgoCD:
		e.apps.wakeAll(ctx)
		e.sets.wakeAll(ctx)
	case argoApplicationSets:
		e.sets.wakeAll(ctx)
	case sealedSecretDialect:
		e.sealed.keys.forget()
		e.sealed.wakeAll(ctx)
	case core.Flux:
		e.repos.wakeAll(ctx)
		e.helm.wakeAll(ctx)
		e.kustoms.wakeAll(ctx)
	}
}
