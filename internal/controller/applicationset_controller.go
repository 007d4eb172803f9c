package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

// applicationSets reconciles ApplicationSets.
type applicationSets struct {
	*Engine
	wake *waker
	// bySource is by repository URL; a set that asks for clusters depends on
	// dependsOnClusters too.
	bySource *index

	mu       sync.Mutex
	memories map[types.NamespacedName]*setMemory
}

// dependsOnClusters stands for the clusters' Secrets. It is no URL.
const dependsOnClusters = "clusters"

// setMemory is what is remembered of a set between its reconciles. It only
// saves work.
type setMemory struct {
	// written is the object as we last wrote it.
	written *unstructured.Unstructured
	// wanted are the Applications that were generated last, of this version of
	// the spec; broken is the version of which none could be.
	wanted          []*unstructured.Unstructured
	version, broken string
	// needs is what the generation asked of the outside.
	needs setNeeds
	// wrote is when the status was written last, failures how many reconciles
	// in a row have failed, polled when external sources were last asked.
	wrote, polled time.Time
	failures      int
	// looked is when the last reconcile began, took how long it was; delayed
	// says that one which Applications have asked for waits for its time.
	looked  time.Time
	took    time.Duration
	delayed bool
}

// breath is how many times its own length a reconcile waits for more changes
// of Applications, up to settle: a set with many of them, which all change at a
// time, is not looked at for each.
const breath = 10

// setsPolled is how often what cannot call us is asked where a generator does
// not say, as in Argo CD.
const setsPolled = 30 * time.Minute

func newApplicationSets(e *Engine, clientset kubernetes.Interface) *applicationSets {
	r := &applicationSets{Engine: e, wake: newWaker(), bySource: newIndex(), memories: map[types.NamespacedName]*setMemory{}}
	e.clusters.tell(r.setsOfClustersChanged)
	return r
}

func (r *applicationSets) wakeAll(ctx context.Context) {
	r.wakeListed(ctx, argo.GroupVersion.WithKind(argo.ApplicationSetKind), r.wake)
}

// refUpdated wakes the sets that read a repository for which same holds.
func (r *applicationSets) refUpdated(same func(url string) bool) {
	for _, key := range r.bySource.on(func(dep string) bool {
		return dep != dependsOnClusters && !strings.HasPrefix(dep, forgeDep) && same(dep)
	}) {
		r.wake.wake(key, sourceMoved)
	}
}

// setsOfClustersChanged wakes the sets that have asked for clusters.
func (r *applicationSets) setsOfClustersChanged() {
	for _, key := range r.bySource.of(dependsOnClusters) {
		r.wake.wake(key, sourceMoved)
	}
}

// Reconcile has the Applications of one set be as the set says.
func (r *applicationSets) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	why := r.wake.take(req.NamespacedName)
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationSetKind))
	if err := r.client.Get(ctx, req.NamespacedName, u); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("get ApplicationSet %s: %w", req, err)
	}
	if r.others.active(core.ArgoCD) || r.others.active(argoApplicationSets) {
		return reconcile.Result{}, nil
	}
	m := r.memory(req.NamespacedName)
	if why == timerFired && m.delayed {
		why = drifted
	}
	m.delayed = false
	u = newer(m.written, u)
	set, err := readApplicationSet(u, r.opts.ArgoNamespace)
	run := &setRun{applicationSets: r, setMemory: m, key: req.NamespacedName, why: why, object: u, set: set, now: time.Now()}
	if set.DeletionTimestamp != nil {
		return run.finalize(ctx)
	}
	return run.reconcile(ctx, err)
}

func (r *applicationSets) memory(key types.NamespacedName) *setMemory {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.memories[key] == nil {
		r.memories[key] = &setMemory{}
	}
	return r.memories[key]
}

func (r *applicationSets) forget(key types.NamespacedName) {
	r.mu.Lock()
	delete(r.memories, key)
	r.mu.Unlock()
	r.bySource.set(key)
}

// readApplicationSet reads the object, strictly: the error is a *SpecError.
// The set is returned even then, with what could be read.
func readApplicationSet(u *unstructured.Unstructured, argoNamespace string) (*argo.ApplicationSet, error) {
	set := &argo.ApplicationSet{}
	refused, err := readObject(u, &set.ObjectMeta, &set.Spec, &set.Status)
	if err != nil {
		return set, err
	}
	if err := refused.orNil(); err != nil {
		return set, err
	}
	for _, problem := range appset.Check(set) {
		refused.add(problem.Path, "%s", problem.Problem)
	}
	if set.Namespace != argoNamespace {
		for i := range set.Spec.Generators {
			refusePrivileged(&set.Spec.Generators[i], fmt.Sprintf("spec.generators[%d]", i), argoNamespace, refused)
		}
	}
	return set, refused.orNil()
}

// refusePrivileged refuses generators that look at what is not of the set's
// namespace: other clusters, and the network with our address.
func refusePrivileged(gen *argo.ApplicationSetGenerator, at, argoNamespace string, refused *SpecError) {
	for kind, set := range map[string]bool{"clusters": gen.Clusters != nil, "scmProvider": gen.SCMProvider != nil, "pullRequest": gen.PullRequest != nil} {
		if set {
			refused.add(at+"."+kind, "is for ApplicationSets in namespace %q", argoNamespace)
		}
	}
	for i, inner := range appset.Nested(gen) {
		refusePrivileged(inner, fmt.Sprintf("%s.generators[%d]", at, i), argoNamespace, refused)
	}
}

// setRun is one reconcile of one set.
type setRun struct {
	*applicationSets
	*setMemory
	key    types.NamespacedName
	why    reason
	object *unstructured.Unstructured
	set    *argo.ApplicationSet
	now    time.Time
	// after is when to look again, at the latest.
	after time.Duration
}

// reconcile does what the reasons ask for. specErr is what was found wrong
// while reading the object.
func (s *setRun) reconcile(ctx context.Context, specErr error) (reconcile.Result, error) {
	if specErr != nil {
		return s.fail(ctx, reasonValidation, specErr)
	}
	if pause := min(breath*s.took, settle) - s.now.Sub(s.looked); s.why == drifted && pause > 0 {
		s.delayed = true
		return reconcile.Result{RequeueAfter: pause}, nil
	}
	s.looked = s.now
	defer func() { s.took = time.Since(s.looked) }()
	if s.why == drifted && s.broken == s.specVersion() {
		// No change of an Application puts it right.
		return s.look(ctx, s.set.Status.DeepCopy())
	}
	if err := s.keepFinalizer(ctx); err != nil {
		return reconcile.Result{}, err
	}
	if s.mustGenerate() {
		if err := s.generate(ctx); err != nil {
			return s.fail(ctx, reasonOf(err), err)
		}
	}
	live, err := s.live(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	plan, err := appset.Plan(s.set, appset.Manual(s.set, s.wanted), live)
	if err != nil {
		return s.fail(ctx, reasonValidation, err)
	}
	if reason, err := s.carryOut(ctx, plan); err != nil {
		return s.fail(ctx, reason, err)
	}
	s.failures = 0
	return s.finish(ctx, plan)
}

// mustGenerate says whether anything but the Applications has changed since
// the last generation.
func (s *setRun) mustGenerate() bool {
	return s.wanted == nil || s.why.has(sourceMoved|specChanged|timerFired) && !s.onlyStatus() || s.version != s.specVersion()
}

// onlyStatus: the timer was for the status alone.
func (s *setRun) onlyStatus() bool {
	return s.why == timerFired && s.version == s.specVersion() && !s.due()
}

// due says whether external sources are to be asked again.
func (s *setRun) due() bool {
	every := s.every()
	return every > 0 && !s.now.Before(s.polled.Add(every)) || !s.now.Before(s.polled.Add(s.opts.Resync))
}

// specVersion changes with what a generation reads of the object.
func (s *setRun) specVersion() string {
	return digest([]any{s.object.GetUID(), s.object.Object["spec"], s.set.Annotations[appset.AnnotationAllowedProjects]})
}

// generate makes the Applications that are wanted. What it has read is known
// even where it fails, so that its change wakes us.
func (s *setRun) generate(ctx context.Context) error {
	in := &setInputs{applicationSets: s.applicationSets, set: s.set, fetch: s.why.has(specChanged|timerFired) || s.refreshAsked()}
	if in.fetch {
		s.polled = s.now
	}
	wanted, err := appset.Generate(ctx, s.set, in, s.templates(), appset.Limits{})
	if err != nil {
		in.needs.add(s.needs)
	}
	s.needs = in.needs
	s.bySource.set(s.key, in.needs.names()...)
	if err != nil {
		s.wanted, s.broken = nil, s.specVersion()
		return err
	}
	if wanted == nil {
		wanted = []*unstructured.Unstructured{}
	}
	s.wanted, s.version, s.broken = wanted, s.specVersion(), ""
	return nil
}

func (s *setRun) templates() appset.Templates {
	if s.stages.Templates != nil {
		return s.stages.Templates
	}
	return appset.Direct{}
}

// refreshAsked says whether somebody has asked for a refresh.
func (s *setRun) refreshAsked() bool {
	return s.set.Annotations[argo.AnnotationSetRefresh] == "true"
}

// every is how often what cannot call us is to be asked; zero is never.
func (s *setRun) every() time.Duration {
	var all []time.Duration
	if s.needs.externalGit {
		all = append(all, s.opts.Poll)
	}
	if s.needs.provider {
		all = append(all, setsPolled)
	}
	if asked := requeueAfter(s.set.Spec.Generators); asked > 0 && (s.needs.externalGit || s.needs.provider) {
		all = []time.Duration{asked}
	}
	if len(all) == 0 {
		return 0
	}
	return slices.Min(all)
}

// requeueAfter is the shortest of the generators' own, not below ten seconds;
// zero where they say none.
func requeueAfter(gens []argo.ApplicationSetGenerator) time.Duration {
	shortest := time.Duration(0)
	note := func(seconds *int64) {
		if seconds == nil || *seconds <= 0 {
			return
		}
		d := max(time.Duration(min(*seconds, 1<<31))*time.Second, 10*time.Second)
		if shortest == 0 || d < shortest {
			shortest = d
		}
	}
	for i := range gens {
		gen := &gens[i]
		if gen.Git != nil {
			note(gen.Git.RequeueAfterSeconds)
		}
		if gen.SCMProvider != nil {
			note(gen.SCMProvider.RequeueAfterSeconds)
		}
		if gen.PullRequest != nil {
			note(gen.PullRequest.RequeueAfterSeconds)
		}
		for _, inner := range appset.Nested(gen) {
			if d := requeueAfter([]argo.ApplicationSetGenerator{*inner}); d > 0 && (shortest == 0 || d < shortest) {
				shortest = d
			}
		}
	}
	return shortest
}

// within asks for another look after d at the latest.
func (s *setRun) within(d time.Duration) {
	if d > 0 && (s.after == 0 || d < s.after) {
		s.after = d
	}
}

// setPermanent says that only a change of the set, or of what it has read, can
// put the error right; both are events. A template that takes too much would
// take it again.
func setPermanent(err error) bool {
	return appset.Permanent(err) || errors.As(err, new(*SpecError)) || errors.As(err, new(*render.Error))
}
