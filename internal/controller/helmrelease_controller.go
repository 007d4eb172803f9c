package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/fluxcd/pkg/apis/meta"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/release"
)

// unsupportedHelmRelease are the fields that we know and do not do.
var unsupportedHelmRelease = map[string]string{
	"spec.chart.spec.verify": "signature verification is not supported yet",
}

// helmKinds are the reconcilers of Helm in Flux.
type helmKinds struct {
	repositories *helmRepositories
	charts       *helmCharts
	artifacts    *ociRepositories
	releases     *helmReleases
}

func newHelmKinds(e *Engine) *helmKinds {
	return &helmKinds{newHelmRepositories(e), newHelmCharts(e), newOCIRepositories(e), newHelmReleases(e)}
}

// addHelm adds the controllers of Helm's kinds, where there are the stages for
// them.
func (e *Engine) addHelm(mgr manager.Manager) error {
	if e.stages.Packages == nil || e.stages.Releases == nil {
		return nil
	}
	if err := e.addController(mgr, "helmrepository", flux.HelmRepository, e.helm.repositories, e.helm.repositories.wake); err != nil {
		return err
	}
	if err := e.addController(mgr, "ocirepository", flux.OCIRepository, e.helm.artifacts, e.helm.artifacts.wake); err != nil {
		return err
	}
	if err := e.addController(mgr, "helmchart", flux.HelmChart, e.helm.charts, e.helm.charts.wake); err != nil {
		return err
	}
	r := e.helm.releases
	err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		return e.stages.Releases.Run(ctx, func(owner types.NamespacedName) { r.wake.wake(owner, drifted) })
	}))
	if err != nil {
		return err
	}
	if err := mgr.Add(manager.RunnableFunc(r.watchValues(mgr.GetConfig()))); err != nil {
		return err
	}
	return e.addController(mgr, "helmrelease", flux.HelmRelease, r, r.wake, watched(mgr, flux.HelmRelease, r.specChanged))
}

func (k *helmKinds) wakeAll(ctx context.Context) {
	k.repositories.wakeListed(ctx, flux.HelmRepository, k.repositories.wake)
	k.artifacts.wakeListed(ctx, flux.OCIRepository, k.artifacts.wake)
	k.charts.wakeListed(ctx, flux.HelmChart, k.charts.wake)
	k.releases.wakeListed(ctx, flux.HelmRelease, k.releases.wake)
}

// gitChanged wakes the charts of a GitRepository.
func (k *helmKinds) gitChanged(key types.NamespacedName) { k.charts.wakeReaders(sourceDep(key)) }

// helmReleases reconciles HelmReleases.
type helmReleases struct {
	*Engine
	wake     *waker
	memories *memories
	// depends is by source ("HelmChart ns/name") and by other HelmReleases.
	depends *index

	mu     sync.Mutex
	acting map[types.NamespacedName]acting
}

// acting is an action that runs: of which spec, and what ends its waits.
type acting struct {
	generation int64
	end        context.CancelCauseFunc
}

func newHelmReleases(e *Engine) *helmReleases {
	return &helmReleases{Engine: e, wake: newWaker(), memories: newMemories().counted(e.stats.fightsOf(helmv2.HelmReleaseKind)), depends: newIndex(), acting: map[types.NamespacedName]acting{}}
}

func helmReleaseDep(key types.NamespacedName) string { return "HelmRelease " + key.String() }

// wakeDependents wakes who depends on dep, and ends what they wait for where
// it is their chart that has changed.
func (r *helmReleases) wakeDependents(dep string, why reason) {
	for _, key := range r.depends.of(dep) {
		if why.has(sourceMoved) {
			r.interrupt(key, func(acting) bool { return true })
		}
		r.wake.wake(key, why)
	}
}

// errNews ends an action for which there is something newer to do.
var errNews = errors.New("something newer is to be released")

// interrupt ends the waits of the action that runs, if it is one that matches:
// what it waits for is wanted no more.
func (r *helmReleases) interrupt(key types.NamespacedName, match func(acting) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.acting[key]; ok && match(a) {
		a.end(errNews)
	}
}

// specChanged ends the action of an older spec.
func (r *helmReleases) specChanged(key types.NamespacedName) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(flux.HelmRelease)
	if err := r.client.Get(context.Background(), key, u); err != nil { // of the cache
		return
	}
	r.interrupt(key, func(a acting) bool { return a.generation < u.GetGeneration() })
}

// interruptible is ctx until something newer is to be done.
func (r *helmReleases) interruptible(ctx context.Context, key types.NamespacedName, generation int64) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	r.mu.Lock()
	r.acting[key] = acting{generation, cancel}
	r.mu.Unlock()
	return ctx, func() {
		r.mu.Lock()
		delete(r.acting, key)
		r.mu.Unlock()
		cancel(nil)
	}
}

// forget drops what is known of a HelmRelease that is gone, and where it was.
func (r *helmReleases) forget(key types.NamespacedName) {
	r.drop(key)
	r.forgetPlace(helmOwner(key))
}

// drop is forget for one that may still be looked at.
func (r *helmReleases) drop(key types.NamespacedName) {
	r.memories.forget(key)
	r.depends.set(key)
	r.stages.Releases.Expect(context.Background(), key, nil)
	r.forgetHealth(helmOwner(key))
	r.wakeDependents(helmReleaseDep(key), specChanged)
}

// helmReleaseRun is one reconcile of one HelmRelease.
type helmReleaseRun struct {
	fluxObject
	releases *helmReleases
	hr       *helmv2.HelmRelease
	// before is the status as it was found.
	before  *helmv2.HelmReleaseStatus
	asked   string
	forced  bool
	chart   chartArtifact
	tree    core.Tree // the chart's, once it is needed
	values  map[string]any
	private words  // of the values
	config  string // the digest of values
	source  string // of all that is wanted, for the record
	release *release.Release
	// cluster has the releases of the cluster that it is for.
	cluster *release.Cluster
	// attempted says that an action has failed in this reconcile.
	attempted bool
	// pause is how long a correction waits, so as not to fight.
	pause time.Duration
}

// Reconcile brings one HelmRelease to what it asks for.
func (r *helmReleases) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	why := r.wake.take(req.NamespacedName)
	object, err := r.loadFlux(ctx, flux.HelmRelease, req.NamespacedName, r.memories, why, r.forget)
	if object == nil || err != nil {
		return reconcile.Result{}, err
	}
	run := &helmReleaseRun{fluxObject: *object, releases: r}
	before := run.object.GetResourceVersion()
	defer func() { r.depends.tellAnyChange(r.wake, helmReleaseDep(run.key), run.fluxObject, before) }()
	hr, specErr := r.opts.Lockdown.helmRelease(run.object)
	run.hr, run.before = hr, hr.Status.DeepCopy()
	run.asked = hr.Annotations[flux.AnnotationReconcile]
	if specErr != nil && hr.DeletionTimestamp == nil {
		return run.reconcile(ctx, specErr)
	}
	inside, leave, res, err := run.enter(ctx)
	if leave == nil {
		return res, err
	}
	defer leave()
	if hr.DeletionTimestamp != nil {
		return run.finalize(inside)
	}
	return run.reconcile(inside, nil)
}

// readHelmRelease reads the object, strictly; the error is a *SpecError.
func readHelmRelease(u *unstructured.Unstructured) (*helmv2.HelmRelease, error) {
	hr := &helmv2.HelmRelease{}
	refused, err := readObject(u, &hr.ObjectMeta, &hr.Spec, &hr.Status)
	if err != nil {
		return hr, err
	}
	refuseUnsupported(u.Object, unsupportedHelmRelease, refused)
	refuseConfigMap(hr.Spec.KubeConfig, refused)
	switch {
	case hr.Spec.Chart == nil && hr.Spec.ChartRef == nil:
		refused.add("spec.chart", "neither it nor spec.chartRef says which chart")
	case hr.Spec.Chart != nil && hr.Spec.ChartRef != nil:
		refused.add("spec.chartRef", "spec.chart says already which chart")
	}
	if name := hr.GetReleaseName(); len(name) > 53 {
		refused.add("spec.releaseName", "%q has more than the 53 characters that Helm allows", name)
	}
	return hr, refused.orNil()
}

func (h *helmReleaseRun) reconcile(ctx context.Context, specErr error) (reconcile.Result, error) {
	if specErr == nil {
		specErr = h.checkReadyExprs()
	}
	if specErr == nil {
		specErr = h.setHealthRules()
	}
	if specErr != nil {
		return h.stall(ctx, reasonInvalid(specErr), reasonInvalid(specErr), specErr)
	}
	h.noteDependencies()
	if h.hr.Spec.Suspend {
		return reconcile.Result{}, nil
	}
	if err := h.addFinalizer(ctx); err != nil {
		return reconcile.Result{}, err
	}
	if err := h.dependenciesReady(ctx); err != nil {
		return h.hold(ctx, helmv2.DependencyNotReadyReason, err)
	}
	ready, err := h.findChart(ctx)
	if err != nil {
		return h.hold(ctx, "SourceNotReady", err)
	}
	if !ready {
		return h.begin(ctx) // that it is there wakes us
	}
	if h.values, h.private, err = h.composeValues(ctx, h.hr); err != nil {
		return h.hold(ctx, "ValuesError", err)
	}
	h.want()
	if h.settled() {
		return reconcile.Result{RequeueAfter: h.interval()}, nil
	}
	if err := h.open(ctx); err != nil {
		return h.hold(ctx, "ClientError", err)
	}
	if err := h.moved(ctx); err != nil {
		return h.hold(ctx, helmv2.UninstallFailedReason, err)
	}
	h.handleRequests()
	return h.drive(ctx)
}

// begin says of a new HelmRelease that it was seen.
func (h *helmReleaseRun) begin(ctx context.Context) (reconcile.Result, error) {
	if apimeta.FindStatusCondition(h.hr.Status.Conditions, meta.ReadyCondition) == nil {
		h.progress("Fulfilling prerequisites")
		return reconcile.Result{}, h.writeStatus(ctx, &h.hr.Status)
	}
	return reconcile.Result{}, nil
}

// want says what is wanted, in one digest.
func (h *helmReleaseRun) want() {
	h.config = release.ConfigDigest(h.values)
	spec := &h.hr.Spec
	h.source = digest([]any{
		h.chart.name, h.chart.version, h.chart.oci, h.chart.valuesFiles, h.config,
		spec.PostRenderers, spec.PostRenderStrategy, spec.CommonMetadata,
	})[:40]
}

// settled: nothing has changed since it was found to be as it is wanted, and
// nobody asks to look again.
func (h *helmReleaseRun) settled() bool {
	st := &h.hr.Status
	return h.deployed == h.source && !h.why.has(timerFired|drifted) && h.asked == st.LastHandledReconcileAt && st.ObservedGeneration == h.hr.Generation &&
		apimeta.IsStatusConditionTrue(st.Conditions, meta.ReadyCondition) && !h.targetChanged()
}

func (h *helmReleaseRun) interval() time.Duration {
	return jitter(max(h.hr.Spec.Interval.Duration, time.Second))
}

// noteDependencies says whom to wake this HelmRelease for.
func (h *helmReleaseRun) noteDependencies() {
	deps := []string{h.chartDep()}
	for _, d := range h.hr.Spec.DependsOn {
		deps = append(deps, helmReleaseDep(dependencyKey(h.key, d)))
		if d.ReadyExpr != "" {
			deps = append(deps, anyChange(helmReleaseDep(dependencyKey(h.key, d))))
		}
	}
	for _, from := range h.hr.Spec.ValuesFrom {
		deps = append(deps, valuesDep(from.Kind, types.NamespacedName{Namespace: h.key.Namespace, Name: from.Name}))
	}
	h.releases.depends.set(h.key, deps...)
}

// checkReadyExprs refuses expressions that cannot be evaluated. The error is a
// *SpecError.
func (h *helmReleaseRun) checkReadyExprs() error {
	refused := &SpecError{}
	for i, d := range h.hr.Spec.DependsOn {
		h.checkReadyExpr(indexed("spec.dependsOn", i)+".readyExpr", d.ReadyExpr, refused)
	}
	return refused.orNil()
}

// dependenciesReady is an error while another HelmRelease has to come first.
func (h *helmReleaseRun) dependenciesReady(ctx context.Context) error {
	for _, d := range h.hr.Spec.DependsOn {
		key := dependencyKey(h.key, d)
		u, err := h.referredTo(ctx, flux.HelmRelease, key, h.releases.memories)
		if isNotThere(err) {
			return &notReadyError{key, "is not there"}
		}
		if err != nil {
			return err
		}
		if d.ReadyExpr != "" {
			if err := h.readyBy(d.ReadyExpr, h.object, u); err != nil {
				return err
			}
			continue
		}
		other, _ := readHelmRelease(u)
		ready := apimeta.FindStatusCondition(other.Status.Conditions, meta.ReadyCondition)
		if ready == nil || ready.Status != metav1.ConditionTrue || other.Status.ObservedGeneration != other.Generation {
			return &notReadyError{key, "is not ready"}
		}
	}
	return nil
}

// handleRequests takes notice of what annotations ask for, and of a new
// desired state, for which failures are counted anew.
func (h *helmReleaseRun) handleRequests() {
	st := &h.hr.Status
	h.forced = helmv2.ShouldHandleForceRequest(h.hr)
	reset := helmv2.ShouldHandleResetRequest(h.hr)
	if reset || st.LastAttemptedGeneration != h.hr.Generation || st.LastAttemptedRevision != h.chart.revision ||
		st.LastAttemptedRevisionDigest != h.chart.oci || st.LastAttemptedConfigDigest != h.config {
		st.ClearFailures()
	}
	st.LastAttemptedGeneration, st.LastAttemptedRevision = h.hr.Generation, h.chart.revision
	st.LastAttemptedRevisionDigest, st.LastAttemptedConfigDigest = h.chart.oci, h.config
	st.LastHandledReconcileAt = h.asked
}
