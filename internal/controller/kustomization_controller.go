package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/render"
)

// kustomizations reconciles Kustomizations.
type kustomizations struct {
	*Engine
	wake     *waker
	memories *memories
	// depends is by source ("GitRepository ns/name") and by other
	// Kustomizations ("Kustomization ns/name").
	depends *index
	reads   *reads
}

func newKustomizations(e *Engine) *kustomizations {
	r := &kustomizations{Engine: e, wake: newWaker(), memories: newMemories().counted(e.stats.fightsOf(kustomizev1.KustomizationKind)), depends: newIndex(), reads: newReads()}
	r.wake.shown = append(r.wake.shown, r.memories.shown)
	return r
}

func (r *kustomizations) wakeAll(ctx context.Context) { r.wakeListed(ctx, flux.Kustomization, r.wake) }

func sourceDep(key types.NamespacedName) string { return "GitRepository " + key.String() }
func kustomDep(key types.NamespacedName) string { return "Kustomization " + key.String() }

// sourceChanged wakes who reads the GitRepository, but for those that are done
// with it as it is now.
func (r *kustomizations) sourceChanged(key types.NamespacedName) {
	a, there := r.repos.artifact(key)
	r.artifactChanged(sourceDep(key), a, there)
}

// artifactChanged is sourceChanged for any kind of source.
func (r *kustomizations) artifactChanged(source string, a artifact, there bool) {
	for _, reader := range r.depends.of(source) {
		if !there || !r.reads.follows(reader, source, a) {
			r.wake.wake(reader, sourceMoved)
		}
	}
}

func (r *kustomizations) wakeDependents(dep string, why reason) {
	for _, key := range r.depends.of(dep) {
		r.wake.wake(key, why)
	}
}

// kustomizationRun is one reconcile of one Kustomization.
type kustomizationRun struct {
	fluxObject
	kustoms  *kustomizations
	k        *kustomizationObject
	status   *kustomizev1.KustomizationStatus
	delivery *delivery
	asked    string
	// full says that all of it was applied in this run.
	full bool
}

// Reconcile brings one Kustomization to where its source says.
func (r *kustomizations) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	why := r.wake.take(req.NamespacedName)
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(flux.Kustomization)
	if err := r.client.Get(ctx, req.NamespacedName, u); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("get Kustomization %s: %w", req, err)
	}
	if r.others.active(core.Flux) {
		return reconcile.Result{}, nil
	}
	m := r.memories.of(req.NamespacedName)
	run := &kustomizationRun{kustoms: r, fluxObject: fluxObject{Engine: r.Engine, memory: m, key: req.NamespacedName, why: m.owe(why), object: m.newest(u), now: time.Now()}}
	before := run.object.GetResourceVersion()
	defer func() { r.depends.tellAnyChange(r.wake, kustomDep(run.key), run.fluxObject, before) }()
	k, err := r.opts.Lockdown.kustomization(run.object)
	run.k, run.status = k, k.Status.DeepCopy()
	run.asked = k.Annotations[flux.AnnotationReconcile]
	leave, res, failed := run.enter(ctx)
	if leave == nil {
		return res, failed
	}
	defer leave()
	if k.DeletionTimestamp != nil {
		return run.finalize(ctx)
	}
	res, err = run.reconcile(ctx, err)
	if err != nil {
		m.due = due{} // it is tried again whatever was planned
	}
	res.RequeueAfter = m.sooner(res.RequeueAfter)
	return res, err
}

// forget drops what is known of a Kustomization that is gone.
func (r *kustomizations) forget(key types.NamespacedName) {
	owner := fluxOwner(key)
	r.memories.forget(key)
	r.reads.leave(key)
	r.private.forget(owner)
	r.forgetHealth(owner)
	r.depends.set(key)
	r.stages.Watcher.Forget(owner)
	r.forgetPlace(owner)
}

func (k *kustomizationRun) reconcile(ctx context.Context, specErr error) (reconcile.Result, error) {
	if specErr == nil {
		k.delivery, specErr = kustomizationDelivery(k.k)
	}
	if specErr == nil {
		specErr = k.checkReadyExprs()
	}
	if specErr == nil {
		specErr = k.setHealthRules()
	}
	if specErr != nil {
		return k.fail(ctx, reasonInvalid(specErr), specErr)
	}
	k.noteDependencies()
	if k.k.Spec.Suspend {
		return reconcile.Result{}, nil
	}
	if err := k.addFinalizer(ctx); err != nil {
		return reconcile.Result{}, err
	}
	setPinned(&k.status.Conditions, k.k.Generation, k.delivery.pin)
	if k.asked != k.status.LastHandledReconcileAt {
		k.fights.drop() // whoever asks may have ended them
	}
	look := k.looks()
	k.lookIn(k.setFighting(&k.status.Conditions))
	if early := k.due.early(k.why, k.now); early > 0 {
		if !look {
			return reconcile.Result{RequeueAfter: early}, nil
		}
		k.why = drifted
	}
	if err := k.unlock(ctx, k.delivery); err != nil {
		return k.fail(ctx, meta.BuildFailedReason, err)
	}
	if k.why.has(drifted) && k.stages.Watcher.Foreign(k.delivery.owner) {
		k.deployed = ""
	}
	if k.target != nil && k.target.params == k.delivery.work() && k.why&^(drifted|timerFired) == 0 {
		switch {
		case k.wait != nil:
			return k.apply(ctx, k.wait.target)
		case k.target.digest == k.deployed && (k.why == drifted || k.ready.waiting()):
			return k.observe(ctx)
		}
	}
	if wait, sees := k.sees(k.memory, k.delivery.owner, k.inventory(), &k.why, k.now); !sees {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := k.dependenciesReady(ctx); err != nil {
		return k.fail(ctx, meta.DependencyNotReadyReason, err)
	}
	return k.fromSource(ctx)
}

// fromSource renders what the source has, and applies it.
func (k *kustomizationRun) fromSource(ctx context.Context) (reconcile.Result, error) {
	// Until it is done it is woken by whatever is committed.
	k.kustoms.reads.leave(k.key)
	k.read = artifact{}
	snap, err := k.snapshot(ctx)
	if err != nil {
		return k.fail(ctx, meta.ArtifactFailedReason, err)
	}
	if snap == nil {
		// The source is not resolved yet in this process. That it is wakes us.
		return reconcile.Result{}, nil
	}
	revision := snap.Revision.String()
	k.status.LastAttemptedRevision = revision
	t := k.target
	if !t.same(k.delivery, []core.Snapshot{*snap}) || t.from != k.read.id() || k.substitutesFromObjects() {
		if t, err = k.build(ctx, *snap); err != nil {
			return k.failBuild(ctx, err)
		}
		t.from = k.read.id()
	}
	k.target = t
	k.met()
	if err := k.permitsClear(ctx, k.key.Namespace, t); err != nil {
		return k.fail(ctx, reasonClear, err)
	}
	if k.deployed == t.digest && (k.asked == k.status.LastHandledReconcileAt || k.asked == k.ready.asked) &&
		(!k.why.has(timerFired) || k.ready.waiting()) {
		if k.ready.revision != revision {
			k.ready.revision, k.ready.message = revision, "Applied revision: "+revision
		}
		return k.observe(ctx)
	}
	return k.apply(ctx, t)
}

// snapshot is the source's tree: that of its artifact, or of the revision
// to which the delivery is pinned. It is nil while it is not known yet.
func (k *kustomizationRun) snapshot(ctx context.Context) (*core.Snapshot, error) {
	a, ok := k.sourceArtifact(k.k)
	if !ok {
		return nil, k.sourceReason(ctx, k.k)
	}
	if k.delivery.pin.Revision == "" {
		k.read = a
		return &a.snapshot, nil
	}
	req := a.request
	req.Ref, req.Fetch = SourceRef{Revision: k.delivery.pin.Revision}, false
	snap, err := k.stages.Sources.Resolve(ctx, req)
	if err == nil {
		snap, err = a.shape.of(ctx, snap)
	}
	return &snap, err
}

// readyMessage is why an object is not ready, and "" where that is not known.
func readyMessage(u *unstructured.Unstructured) string {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, item := range list {
		if c, ok := item.(map[string]any); ok && c["type"] == meta.ReadyCondition && c["status"] == "False" {
			message, _ := c["message"].(string)
			return message
		}
	}
	return ""
}

// build renders, and substitutes variables.
func (k *kustomizationRun) build(ctx context.Context, snap core.Snapshot) (*target, error) {
	t, err := k.render(ctx, k.delivery, []core.Snapshot{snap})
	if err != nil {
		return nil, err
	}
	if k.k.Spec.PostBuild == nil {
		return t, nil
	}
	if err := k.substitute(ctx, t); err != nil {
		return nil, err
	}
	return t, nil
}

// substitutesFromObjects says that the result depends on objects of the
// cluster, and so has to be built each time.
func (k *kustomizationRun) substitutesFromObjects() bool {
	return k.k.Spec.PostBuild != nil && len(k.k.Spec.PostBuild.SubstituteFrom) > 0
}

func (k *kustomizationRun) failBuild(ctx context.Context, err error) (reconcile.Result, error) {
	var wrong *render.Error
	if errors.As(err, &wrong) && wrong.Reason == render.PathNotFound {
		return k.fail(ctx, meta.ArtifactFailedReason, err)
	}
	return k.fail(ctx, meta.BuildFailedReason, err)
}

// apply brings the cluster to t.
func (k *kustomizationRun) apply(ctx context.Context, t *target) (reconcile.Result, error) {
	resumed := k.wait != nil && k.wait.target.digest == t.digest
	switch {
	case !resumed:
		k.wait = nil
	case !k.stirred():
		return k.stay(), nil
	}
	options, err := k.optionsFor(t)
	if err != nil {
		return k.fail(ctx, "InvalidSpec", err)
	}
	if err := k.announce(ctx, t, resumed); err != nil {
		return reconcile.Result{}, err
	}
	outcome, err := k.stages.Deployer.Apply(ctx, deploy.Plan{
		Owner: k.delivery.owner, Objects: t.objects.list(), Inventory: k.inventory(), Options: options,
		Known: k.known(), Revision: t.revision(), Resumed: resumed, Reads: k.reads(),
		Superseded: k.superseded(t),
	})
	switch {
	case ctx.Err() != nil:
		return reconcile.Result{}, ctx.Err()
	case unreachable(err):
		return k.fail(ctx, reasonAway, err)
	}
	k.full = true
	k.setInventory(outcome.Inventory)
	k.stages.Watcher.Expect(k.delivery.owner, outcome.Inventory)
	var waiting *deploy.WaitingError
	waits := errors.As(err, &waiting)
	if err == nil || waits {
		k.actedAs = options.As // what was asked of the cluster was all of it
	}
	if waits {
		return k.waitFor(ctx, t, outcome, waiting)
	}
	took := stepsOf(t, k.wait, outcome.Took)
	k.wait = nil
	k.follow()
	k.stats.sync(err)
	return k.applied(ctx, t, outcome, err, took)
}

// announce writes what is going to be applied, before it is, and that it is
// not ready until it is healthy.
func (k *kustomizationRun) announce(ctx context.Context, t *target, resumed bool) error {
	switch {
	case k.wasReady(t):
		// Nothing is attempted before something is found to be to do: whoever
		// takes over thousands would write twice to each.
		k.status.LastAttemptedRevision = k.k.Status.LastAttemptedRevision
	case k.checks() && !resumed && t.digest != k.deployed:
		k.setProgressing(t.revisions[0].String())
	}
	inventory := k.inventory()
	if fresh := k.planned(t.objects.list(), k.delivery.options.Namespace, inventory); len(fresh) > 0 {
		k.setInventory(append(inventory, fresh...))
	}
	return k.writeStatus(ctx, k.status)
}

// wasReady says that the status has t as applied and healthy, at this revision
// or at the one that last changed something. After a restart, which has lost
// what was deployed, it is looked at again, but nothing is said to be in
// progress before something is found to be, and nothing new afterwards.
func (k *kustomizationRun) wasReady(t *target) bool {
	latest := k.k.Status.History.Latest()
	return k.deployed == "" && latest != nil && latest.Digest == "sha256:"+t.digest && k.asked == k.status.LastHandledReconcileAt &&
		k.status.ObservedGeneration == k.k.Generation && apimeta.IsStatusConditionTrue(k.k.Status.Conditions, meta.ReadyCondition)
}

// superseded returns what the deployer asks at each safe point: whether the
// source has moved on to something else, or the Kustomization is withdrawn.
func (k *kustomizationRun) superseded(t *target) func() bool {
	return func() bool {
		news := k.kustoms.wake.peek(k.key)
		if news.has(specChanged) {
			return true
		}
		a, ok := k.sourceArtifact(k.k)
		return news.has(sourceMoved) && ok && k.delivery.pin.Revision == "" && a.snapshot.Revision != t.revisions[0]
	}
}

// applied takes the outcome into the status.
func (k *kustomizationRun) applied(ctx context.Context, t *target, outcome *deploy.Outcome, err error, took steps) (reconcile.Result, error) {
	revision := t.revisions[0].String()
	metadata := t.metadata(revision, took)
	if err != nil {
		k.deployed, k.status.LastAttemptedRevision = "", revision
		reason := meta.ReconciliationFailedReason
		var object *deploy.ObjectError
		switch {
		case errors.Is(err, deploy.ErrSuperseded):
			return k.schedule("superseded", time.Millisecond), k.writeStatus(ctx, k.status)
		case errors.As(err, &object) && object.Reason == deploy.Unhealthy:
			reason = meta.HealthCheckFailedReason
		case errors.As(err, &object) && object.Op == "prune":
			reason = meta.PruneFailedReason
		}
		k.status.History.Upsert("sha256:"+t.digest, k.now, took.all(), reason, metadata)
		k.event(k.object, "Warning", reason, k.say(err))
		return k.fail(ctx, reason, err)
	}
	if k.wasReady(t) {
		revision = k.status.LastAppliedRevision
		k.status.LastAttemptedRevision = revision
	}
	k.failures, k.deployed = 0, t.digest
	k.readyAgain(outcome, revision, took)
	return k.judge(ctx)
}

// succeed writes that it is ready, and wakes who waited for that.
func (k *kustomizationRun) succeed(ctx context.Context) (reconcile.Result, error) {
	revision := k.ready.revision
	if k.status.LastAppliedRevision != revision || k.status.History.Latest() == nil {
		k.status.History.Upsert("sha256:"+k.target.digest, k.now, k.ready.took.all(), meta.ReconciliationSucceededReason, k.target.metadata(revision, k.ready.took))
		k.stats.measure(kustomizev1.KustomizationKind, k.ready.took)
		k.event(k.object, "Normal", meta.ReconciliationSucceededReason, "applied revision "+revision)
	}
	k.status.LastAppliedRevision = revision
	k.status.ObservedGeneration = k.k.Generation
	k.status.LastHandledReconcileAt = k.asked
	setReady(&k.status.Conditions, k.k.Generation, metav1.ConditionTrue, meta.ReconciliationSucceededReason, k.ready.message)
	if k.checks() {
		k.setHealthy(metav1.ConditionTrue, meta.SucceededReason, "Health check passed")
	} else {
		apimeta.RemoveStatusCondition(&k.status.Conditions, meta.HealthyCondition)
	}
	changed := k.status.LastAppliedRevision != k.k.Status.LastAppliedRevision || !apimeta.IsStatusConditionTrue(k.k.Status.Conditions, meta.ReadyCondition)
	if err := k.writeStatus(ctx, k.status); err != nil {
		return reconcile.Result{}, err
	}
	if k.target != nil && k.delivery.pin.Revision == "" && k.target.from == k.read.id() {
		k.kustoms.reads.join(k.key, sourceRead{k.k.sourceDep(), k.read, k.target.places[0]})
	}
	if changed {
		k.kustoms.wakeDependents(kustomDep(k.key), specChanged)
	}
	return k.schedule("interval", jitter(max(k.k.Spec.Interval.Duration, time.Second))), nil
}

// say is what is wrong, for people. The health of an object may quote what is
// in it.
func (k *kustomizationRun) say(err error) string {
	return k.private.of(fluxOwner(k.key)).scrub(explain(err))
}

// fail writes what is wrong; what was applied stays.
func (k *kustomizationRun) fail(ctx context.Context, reason string, err error) (reconcile.Result, error) {
	k.failures++
	k.status.ObservedGeneration = k.k.Generation
	k.status.LastHandledReconcileAt = k.asked
	var refused *SpecError
	stalled := errors.As(err, &refused)
	if stalled {
		setStalled(&k.status.Conditions, k.k.Generation, reason, k.say(err))
	} else {
		setReady(&k.status.Conditions, k.k.Generation, metav1.ConditionFalse, reason, k.say(err))
	}
	if reason == meta.HealthCheckFailedReason {
		k.setHealthy(metav1.ConditionFalse, reason, k.say(err))
	}
	if err := k.writeStatus(ctx, k.status); err != nil {
		return reconcile.Result{}, err
	}
	if stalled {
		return reconcile.Result{}, nil
	}
	return k.schedule("retry", jitter(max(k.k.GetRetryInterval(), time.Second))), nil
}
