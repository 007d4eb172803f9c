package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

// applications reconciles Applications.
type applications struct {
	*Engine
	wake     *waker
	memories *memories
	// bySource is by repository URL, byProject by project.
	bySource, byProject *index
	// byCluster are those that may be for another cluster.
	byCluster *index
	reads     *reads
	updates   workqueue.TypedInterface[core.RefUpdate]
}

func newApplications(e *Engine) *applications {
	r := &applications{
		Engine: e, wake: newWaker(), memories: newMemories().counted(e.stats.fightsOf(argo.ApplicationKind)), bySource: newIndex(), byProject: newIndex(), byCluster: newIndex(),
		reads: newReads(), updates: workqueue.NewTyped[core.RefUpdate](),
	}
	r.wake.shown = append(r.wake.shown, r.memories.shown)
	return r
}

func (r *applications) wakeAll(ctx context.Context) {
	r.wakeListed(ctx, argo.GroupVersion.WithKind(argo.ApplicationKind), r.wake)
}

// Reconcile brings one Application to where its source says.
func (r *applications) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	why := r.wake.take(req.NamespacedName)
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	if err := r.client.Get(ctx, req.NamespacedName, u); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("get Application %s: %w", req, err)
	}
	if r.others.active(core.ArgoCD) {
		return reconcile.Result{}, nil
	}
	m := r.memories.of(req.NamespacedName)
	u = m.newest(u)
	app, err := readApplication(u)
	run := &applicationRun{
		applications: r, key: req.NamespacedName, why: m.owe(why), memory: m,
		object: u, app: app, status: app.Status.DeepCopy(), now: time.Now(),
	}
	leave, res, failed := run.enter(ctx)
	if leave == nil {
		return res, failed
	}
	defer leave()
	if app.DeletionTimestamp != nil {
		return run.finalize(ctx)
	}
	return run.reconcile(ctx, err)
}

// forget drops what is known of an Application that is gone.
func (r *applications) forget(key types.NamespacedName) {
	r.memories.forget(key)
	r.reads.leave(key)
	r.bySource.set(key)
	r.byProject.set(key)
	r.byCluster.set(key)
	owner := core.Owner{Dialect: core.ArgoCD, Kind: argo.ApplicationKind, Namespace: key.Namespace, Name: key.Name}
	r.private.forget(owner)
	r.orphans.Leave(owner)
	r.stages.Watcher.Forget(owner)
	r.unbind(owner)
}

// applicationRun is one reconcile of one Application. status is what will be
// written at its end.
type applicationRun struct {
	*applications
	*memory
	key    types.NamespacedName
	why    reason
	object *unstructured.Unstructured
	app    *argo.Application
	status *argo.ApplicationStatus
	now    time.Time

	delivery *delivery
	// projectIs is the Application's project, once it was read.
	projectIs *argo.AppProject
	// at is the cluster that it is for; located is why it cannot be had.
	at      place
	located error
	// conditions are those that hold now.
	conditions []argo.ApplicationCondition
	// refreshed is the refresh annotation that this run answers; operated says
	// that the operation is done and is to be removed.
	refreshed string
	operated  bool
	// resuming says that what waits goes on, whatever the source has by now.
	resuming bool
	// confirm are the objects whose prune somebody has to confirm.
	confirm map[core.ObjectRef]bool
	// looked says that the sources were asked in this run.
	looked bool
	// after is when to look again, at the latest.
	after time.Duration
}

// reconcile does what the reasons ask for. specErr is what was found wrong
// while reading the object.
func (a *applicationRun) reconcile(ctx context.Context, specErr error) (reconcile.Result, error) {
	a.refreshed = a.app.Annotations[argo.AnnotationRefresh]
	if err := a.model(ctx, specErr); err != nil {
		return a.refuse(ctx, argo.ConditionInvalidSpecError, err)
	}
	a.notePin()
	switch {
	case a.removed():
		return a.cutOff(ctx, "the operation was removed")
	case a.waits() && a.undisturbed():
		return a.goOn(ctx)
	}
	if a.why.has(drifted) && a.stages.Watcher.Foreign(a.delivery.owner) {
		a.deployed = ""
	}
	if a.warm() {
		a.noteTarget(a.target)
		return a.observe(ctx)
	}
	if wait, sees := a.sees(a.memory, a.delivery.owner, inventoryOf(a.status.Resources), &a.why, a.now); !sees && a.app.Operation == nil {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := a.permitsSources(ctx); err != nil {
		return a.refuse(ctx, argo.ConditionInvalidSpecError, err)
	}
	// Until it is done it is woken by whatever is committed.
	a.reads.leave(a.key)
	a.looked = true
	t, err := a.find(ctx, nil)
	switch {
	case err != nil && a.waits():
		return a.goOnWithout(ctx, err)
	case err != nil:
		return a.refuse(ctx, argo.ConditionComparisonError, err)
	}
	if err := a.permitted(ctx, t); err != nil {
		return a.refuse(ctx, argo.ConditionInvalidSpecError, err)
	}
	a.target = t
	a.met()
	return a.advance(ctx, t)
}

// model reads the spec into the model, and checks the project.
func (a *applicationRun) model(ctx context.Context, specErr error) error {
	a.delivery = &delivery{owner: core.Owner{Dialect: core.ArgoCD, Kind: argo.ApplicationKind, Namespace: a.key.Namespace, Name: a.key.Name}}
	if specErr != nil {
		return specErr
	}
	if a.located != nil {
		return a.located
	}
	caps, err := a.capsOf(a.delivery.owner)
	if err != nil {
		return err
	}
	d, err := applicationDelivery(a.app, caps)
	a.delivery = d
	a.bySource.set(a.key, d.urls()...)
	a.byProject.set(a.key, projectName(a.app))
	if err != nil {
		return err
	}
	if err := a.actAs(ctx); err != nil {
		return err
	}
	return a.unlock(ctx, d)
}

// warm says that nothing but the cluster's objects has changed since the last
// reconcile, so that neither Git nor a renderer has to be asked.
func (a *applicationRun) warm() bool {
	return a.why == drifted && a.app.Operation == nil && a.refreshed == "" &&
		a.target != nil && a.target.digest == a.deployed && a.target.params == a.delivery.work()
}

// find resolves and renders what is wanted; revisions are in place of the
// sources' own. What is the same as last time is not rendered again.
func (a *applicationRun) find(ctx context.Context, revisions []string) (*target, error) {
	if a.delivery.pin.Revision != "" {
		var err error
		if revisions, err = a.delivery.revisionsAt(a.delivery.pin.Revision); err != nil {
			return nil, err
		}
	}
	snaps, err := a.resolve(ctx, a.delivery, revisions, a.refreshed != "" || a.pollDue())
	if err != nil {
		return nil, err
	}
	if err := a.verified(ctx, snaps); err != nil {
		return nil, err
	}
	if a.target.same(a.delivery, snaps) && a.refreshed != "hard" {
		return a.target, nil
	}
	return a.render(ctx, a.delivery, snaps)
}

// pollDue says whether external repositories are to be asked again, and if so
// notes that they were.
func (a *applicationRun) pollDue() bool {
	if a.now.Before(a.polled.Add(a.opts.Poll)) {
		return false
	}
	a.polled = a.now
	return true
}

// external says whether a source of the delivery has to be polled.
func (a *applicationRun) external() bool {
	for _, s := range a.delivery.sources {
		if _, embedded := a.stages.Sources.Embedded(s.from.URL); !embedded {
			return true
		}
	}
	return false
}

// notePin says in the status that the Application is held.
func (a *applicationRun) notePin() {
	if a.delivery.pin.Revision != "" {
		a.condition(argo.ConditionPinned, a.delivery.pin.String())
	}
}

// condition adds a condition to those that hold.
func (a *applicationRun) condition(kind, message string) {
	for _, c := range a.conditions {
		if c.Type == kind && c.Message == message {
			return
		}
	}
	a.conditions = append(a.conditions, argo.ApplicationCondition{Type: kind, Message: message})
}

// within asks for another look after d at the latest.
func (a *applicationRun) within(d time.Duration) {
	if d > 0 && (a.after == 0 || d < a.after) {
		a.after = d
	}
}

// refuse ends the reconcile because of what the user has to put right: the
// status says it, the last good state stays applied.
func (a *applicationRun) refuse(ctx context.Context, kind string, err error) (reconcile.Result, error) {
	switch {
	case ctx.Err() != nil:
		return reconcile.Result{}, ctx.Err()
	case unreachable(err):
		return a.away(ctx, err)
	}
	a.condition(kind, explain(err))
	a.status.Sync.Status = argo.SyncUnknown
	if a.status.Health.Status == "" {
		a.status.Health = argo.AppHealthStatus{Status: string(core.Unknown), LastTransitionTime: &metav1.Time{Time: a.now}}
	}
	if a.app.Operation != nil {
		if err := a.leaveWait(ctx); err != nil {
			return reconcile.Result{}, err
		}
		a.failOperation(explain(err))
	}
	if !permanent(err) {
		a.failures++
		a.within(retryAfter(a.failures, a.opts.Poll))
	}
	return a.end(ctx)
}

// permanent says that only a change of the object or of its source can put
// the error right; both are events.
func permanent(err error) bool {
	var refused *SpecError
	var wrong *render.Error
	return errors.As(err, &refused) || errors.As(err, &wrong) && wrong.Reason != render.LimitExceeded
}

// end writes the status and says when to look again.
func (a *applicationRun) end(ctx context.Context) (reconcile.Result, error) {
	a.noteFights()
	if a.external() {
		a.within(jitter(a.opts.Poll))
	}
	a.within(jitter(a.opts.Resync))
	a.noteOrphans()
	if err := a.write(ctx); err != nil {
		return reconcile.Result{}, err
	}
	if a.looked {
		a.follow()
	}
	return reconcile.Result{RequeueAfter: a.after}, nil
}

// jitter spreads d by a tenth up.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/10+1) }

// retryAfter is the pause after the nth failure in a row: 2 s, doubled up to
// limit. What made it fail is an event most of the time; this is for the rest.
func retryAfter(n int, limit time.Duration) time.Duration {
	d := time.Second
	for range min(n, 10) {
		d *= 2
	}
	return jitter(min(d, limit))
}
