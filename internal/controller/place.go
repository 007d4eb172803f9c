package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/fleet"
	"github.com/fairway-cd/fairway/internal/kube"
)

// unreachable says that an error is because a cluster cannot be asked now. Who
// has it is woken when that changes.
func unreachable(err error) bool {
	var away *fleet.AwayError
	var connecting *fleet.ConnectingError
	return errors.As(err, &away) || errors.As(err, &connecting)
}

// bind says in which cluster the owner's objects are. Fresh is as in
// fleet.Bind.
func (e *Engine) bind(owner core.Owner, at place) (fresh bool, err error) {
	return e.stages.Fleet.Bind(owner, at.cluster)
}

// unbind forgets where the owner's objects are.
func (e *Engine) unbind(owner core.Owner) { e.stages.Fleet.Unbind(owner) }

// turn takes one of the turns that there are in the owner's cluster; leave is
// nil where there is none now.
func (e *Engine) turn(owner core.Owner) (leave func()) { return e.stages.Fleet.Enter(owner) }

// noTurn is how long somebody waits who has found no turn.
func noTurn() time.Duration { return 300*time.Millisecond + rand.N(400*time.Millisecond) }

// here is the client of the cluster that we run in.
func (e *Engine) here() *kube.Client { return e.stages.Fleet.Home().Client }

// clientOf is the client of the cluster where the owner's objects are: the one
// that we run in, where nothing else is known.
func (e *Engine) clientOf(owner core.Owner) (*kube.Client, error) {
	if e.stages.Fleet.Of(owner) == nil {
		return e.here(), nil
	}
	parts, err := e.stages.Fleet.Parts(owner)
	if err != nil {
		return nil, err
	}
	return parts.Client, nil
}

// capsOf are what the owner's cluster can do.
func (e *Engine) capsOf(owner core.Owner) (capabilities, error) {
	client, err := e.clientOf(owner)
	if err != nil {
		return capabilities{}, err
	}
	return client.Capabilities()
}

// clusterNews passes on what has happened to an owner's cluster.
func (e *Engine) clusterNews(owner core.Owner, news fleet.News) {
	key := types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name}
	switch {
	case owner.Dialect == core.ArgoCD:
		e.apps.wake.wake(key, specChanged)
	case owner.Kind == helmv2.HelmReleaseKind && news == fleet.Released:
		e.helm.releases.wake.wake(key, drifted)
	case owner.Kind == helmv2.HelmReleaseKind:
		e.helm.releases.interrupt(key, func(acting) bool { return true })
		e.helm.releases.wake.wake(key, specChanged)
	default:
		e.kustoms.wake.wake(key, specChanged)
	}
}

// clustersChanged wakes the Applications whose destination is looked up among
// the Secrets, and says which clusters are to be kept in touch with.
func (e *Engine) clustersChanged() {
	for _, key := range e.apps.byCluster.of(otherClusters) {
		e.apps.wake.wake(key, specChanged)
	}
	if !e.clusters.listed() {
		return
	}
	known, err := e.clusters.known(context.Background())
	if err != nil {
		return
	}
	var keep []*fleet.Cluster
	for _, k := range known {
		if k.cluster != nil {
			keep = append(keep, k.cluster)
		}
	}
	e.stages.Fleet.Keep(keep)
	e.measureClusters()
}

// otherClusters is what Applications depend on that do not say plainly that
// they are for the cluster that we run in.
const otherClusters = "clusters"

func plainlyHome(dest argo.ApplicationDestination) bool {
	return dest.Name == "" && fleet.NormalServer(dest.Server) == argo.InClusterServer
}

// owner is the Application's.
func (a *applicationRun) owner() core.Owner {
	return core.Owner{Dialect: core.ArgoCD, Kind: argo.ApplicationKind, Namespace: a.key.Namespace, Name: a.key.Name}
}

// findPlace finds the cluster of the Application's destination.
func (a *applicationRun) findPlace(ctx context.Context) (err error) {
	dest := a.app.Spec.Destination
	if plainlyHome(dest) {
		a.at = home
		return nil
	}
	a.at, err = a.clusters.find(ctx, dest, projectName(a.app))
	return err
}

// locate binds the Application to the cluster of its destination.
func (a *applicationRun) locate(ctx context.Context) error {
	if plainlyHome(a.app.Spec.Destination) {
		a.byCluster.set(a.key)
	} else {
		a.byCluster.set(a.key, otherClusters)
	}
	if err := a.findPlace(ctx); err != nil {
		return err
	}
	fresh, err := a.bind(a.owner(), a.at)
	if fresh {
		a.startOver()
	}
	return err
}

// reach is locate for somebody who only looks.
func (a *applicationRun) reach(ctx context.Context) error {
	if err := a.findPlace(ctx); err != nil {
		return err
	}
	return a.stages.Fleet.Reach(a.owner(), a.at.cluster)
}

// looks is reach, and returns what the cluster can do. Where it is away that is
// taken to be what ours can: what Git has can be looked at and rolled back all
// the same, and the cluster itself says that it is away.
func (a *applicationRun) looks(ctx context.Context) (capabilities, error) {
	err := a.reach(ctx)
	if err == nil {
		var caps capabilities
		if caps, err = a.capsOf(a.owner()); err == nil {
			return caps, nil
		}
	}
	if unreachable(err) {
		return a.here().Capabilities()
	}
	return capabilities{}, err
}

// enter has the Application's cluster ready for this run, and takes a turn in
// it. Where leave is nil the run has ended, and the rest is its result.
func (a *applicationRun) enter(ctx context.Context) (leave func(), res reconcile.Result, err error) {
	a.located = a.locate(ctx)
	var connecting *fleet.ConnectingError
	switch {
	case errors.As(a.located, &connecting):
		a.wake.put(a.key, a.why)
		return nil, reconcile.Result{RequeueAfter: lookAgain}, nil
	case a.located != nil && a.leavesNothing():
		return func() {}, res, nil
	case unreachable(a.located):
		a.wake.put(a.key, a.why)
		res, err = a.away(ctx, a.located)
		return nil, res, err
	case a.located != nil:
		return func() {}, res, nil
	}
	if leave = a.turn(a.owner()); leave == nil {
		a.wake.put(a.key, a.why)
		return nil, reconcile.Result{RequeueAfter: noTurn()}, nil
	}
	a.moved()
	return leave, res, nil
}

// leavesNothing says that the Application is deleted and has delivered nothing:
// the status has each object before it is applied.
func (a *applicationRun) leavesNothing() bool {
	return a.app.DeletionTimestamp != nil && len(a.status.Resources) == 0
}

// moved says that the objects of another cluster stay there, where the
// destination was another one before: what is known of them is not of this one.
func (a *applicationRun) moved() {
	before := a.status.Sync.ComparedTo
	if before == nil || len(a.status.Resources) == 0 || before.Destination.Server == "" && before.Destination.Name == "" {
		return
	}
	was, is := before.Destination, a.app.Spec.Destination
	if fleet.NormalServer(was.Server) == fleet.NormalServer(is.Server) && was.Name == is.Name {
		return
	}
	if fleet.NormalServer(was.Server) == a.at.server || was.Name != "" && was.Name == a.at.name {
		return // another word for the same
	}
	left := was.Name
	if left == "" {
		left = was.Server
	}
	a.event(a.object, "Warning", "DestinationChanged", fmt.Sprintf("%d objects stay in cluster %s, which it was for before", len(a.status.Resources), left))
	a.status.Resources = nil
}

// away says that the cluster cannot be asked now. An operation stays as it is,
// and goes on when it is back, which wakes the Application.
func (a *applicationRun) away(ctx context.Context, err error) (reconcile.Result, error) {
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	if a.delivery == nil {
		a.delivery = &delivery{owner: a.owner()}
	}
	kind := argo.ConditionClusterAwayError
	if a.app.DeletionTimestamp != nil {
		kind = argo.ConditionDeletionError
		err = fmt.Errorf("what was delivered is still there: %w", &stuckError{err, a.key})
	}
	a.condition(kind, explain(err))
	a.status.Sync.Status = argo.SyncUnknown
	a.status.Health = argo.AppHealthStatus(*a.health((*argo.HealthStatus)(&a.status.Health), core.Unknown, err.Error()))
	a.within(jitter(a.opts.Resync))
	return reconcile.Result{RequeueAfter: a.after}, a.write(ctx)
}

// stuckError says how to let go of an Application whose cluster is gone.
type stuckError struct {
	error
	key types.NamespacedName
}

func (e *stuckError) Unwrap() error { return e.error }

// Hint is for people.
func (e *stuckError) Hint() string {
	return fmt.Sprintf("if the cluster is gone for good, let the Application go without its objects: fairway app delete %s --app-namespace %s --cascade=false", e.key.Name, e.key.Namespace)
}

// startOver forgets what was known of a delivery's objects, as a restart does.
func (m *memory) startOver() {
	m.deployed, m.tried, m.heal, m.wait, m.parting = "", "", healBackoff{}, nil, nil
	m.ready, m.due = applied{}, due{}
}

// mapping is the resource of a kind in the Application's cluster.
func (a *applicationRun) mapping(gvk schema.GroupVersionKind) (*meta.RESTMapping, error) {
	client, err := a.clientOf(a.owner())
	if err != nil {
		return nil, err
	}
	return client.Mapping(gvk)
}
