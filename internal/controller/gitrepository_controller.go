package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
)

// unsupportedGitRepository are the fields of a GitRepository that we know and
// do not do.
var unsupportedGitRepository = map[string]string{
	"spec.proxySecretRef":     "proxies are not supported",
	"spec.recurseSubmodules":  "submodules are not supported",
	"spec.serviceAccountName": "cloud identities are not supported",
	"spec.accessFrom":         "access rules are not supported",
}

// reasonAccessDenied is Flux' reason for a reference that is not permitted
// (fluxcd/pkg/apis/acl).
const reasonAccessDenied = "AccessDenied"

// artifact is a GitRepository as Kustomizations read it.
type artifact struct {
	snapshot core.Snapshot
	request  SourceRequest
	// ignore identifies what the tree leaves out, and what was added to it.
	ignore string
	// shape makes the same of another revision.
	shape shape
}

// id is of what can be read.
func (a artifact) id() string {
	return a.request.URL + "\n" + a.snapshot.Revision.String() + "\n" + a.ignore
}

// gitRepositories reconciles GitRepositories.
type gitRepositories struct {
	*Engine
	wake     *waker
	memories *memories
	bySource *index
	// includes is by the GitRepositories that are included.
	includes *index

	mu        sync.RWMutex
	artifacts map[types.NamespacedName]artifact
}

func newGitRepositories(e *Engine) *gitRepositories {
	return &gitRepositories{Engine: e, wake: newWaker(), memories: newMemories(), bySource: newIndex(), includes: newIndex(), artifacts: map[types.NamespacedName]artifact{}}
}

func (r *gitRepositories) wakeAll(ctx context.Context) { r.wakeListed(ctx, flux.GitRepository, r.wake) }

// artifact is what the GitRepository has, if it was resolved in this process.
func (r *gitRepositories) artifact(key types.NamespacedName) (artifact, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	a, ok := r.artifacts[key]
	return a, ok
}

// store keeps the artifact and wakes whom it concerns, where it is a new one.
func (r *gitRepositories) store(ctx context.Context, key types.NamespacedName, a artifact) {
	r.mu.Lock()
	old, known := r.artifacts[key]
	r.artifacts[key] = a
	r.mu.Unlock()
	if known && old.id() == a.id() {
		return
	}
	var changed []string
	if known {
		var err error
		if changed, err = changedPlaces(ctx, old.snapshot.Tree, a.snapshot.Tree); err != nil {
			// Then it concerns everybody.
			log.FromContext(ctx).V(1).Info("a change is not known", "revision", a.snapshot.Revision.String(), "error", err.Error())
			changed = nil
		}
	}
	r.kustoms.reads.advance(sourceDep(key), old.id(), a, changed)
	r.kustoms.sourceChanged(key)
	r.helm.gitChanged(key)
	for _, other := range r.includes.of(sourceDep(key)) {
		r.wake.wake(other, sourceMoved)
	}
}

// withdraw takes the artifact from who reads it.
func (r *gitRepositories) withdraw(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.artifacts, key)
}

func (r *gitRepositories) forget(key types.NamespacedName) {
	r.withdraw(key)
	r.memories.forget(key)
	r.bySource.set(key)
	r.includes.set(key)
	r.kustoms.sourceChanged(key)
	r.helm.gitChanged(key)
}

// gitRepositoryRun is one reconcile of one GitRepository.
type gitRepositoryRun struct {
	fluxObject
	repos  *gitRepositories
	spec   flux.GitRepositorySpec
	meta   metav1.ObjectMeta
	status sourcev1.GitRepositoryStatus
}

// Reconcile finds the revision that one GitRepository means now.
func (r *gitRepositories) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	why := r.wake.take(req.NamespacedName)
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(flux.GitRepository)
	if err := r.client.Get(ctx, req.NamespacedName, u); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.NamespacedName)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("get GitRepository %s: %w", req, err)
	}
	if r.others.active(core.Flux) {
		return reconcile.Result{}, nil
	}
	m := r.memories.of(req.NamespacedName)
	run := &gitRepositoryRun{repos: r, fluxObject: fluxObject{Engine: r.Engine, memory: m, key: req.NamespacedName, why: why, object: m.newest(u), now: time.Now()}}
	return run.reconcile(ctx)
}

func (g *gitRepositoryRun) reconcile(ctx context.Context) (reconcile.Result, error) {
	refused, err := readObject(g.object, &g.meta, &g.spec, &g.status)
	if err != nil {
		return reconcile.Result{}, err
	}
	if g.meta.DeletionTimestamp != nil {
		g.repos.forget(g.key)
		return reconcile.Result{}, g.removeFinalizer(ctx)
	}
	refuseUnsupported(g.object.Object, unsupportedGitRepository, refused)
	if p := g.spec.Provider; p != "" && p != sourcev1.GitProviderGeneric {
		refused.add("spec.provider", "%q is not supported", p)
	}
	g.repos.bySource.set(g.key, g.spec.URL)
	if err := refused.orNil(); err != nil {
		return g.fail(ctx, true, "InvalidSpec", err)
	}
	if g.spec.Suspend {
		return reconcile.Result{}, nil
	}
	return g.resolveNow(ctx)
}

// resolveNow resolves the reference, hands the tree to who reads it, and then
// says so in the status: in this order, because somebody waits for the first.
func (g *gitRepositoryRun) resolveNow(ctx context.Context) (reconcile.Result, error) {
	asked := g.meta.Annotations[flux.AnnotationReconcile]
	req := SourceRequest{Namespace: g.key.Namespace, URL: g.spec.URL, Ref: gitRef(g.spec.Reference)}
	req.Fetch = g.why.has(timerFired|specChanged) || asked != g.status.LastHandledReconcileAt
	if g.spec.SecretRef != nil {
		auth, err := g.fluxAuth(ctx, types.NamespacedName{Namespace: g.key.Namespace, Name: g.spec.SecretRef.Name})
		if err != nil {
			return g.fail(ctx, false, "AuthenticationFailed", err)
		}
		req.Auth = auth
	}
	made, err := g.shape(ctx)
	if err != nil {
		return g.failShape(ctx, err)
	}
	resolving, cancel := context.WithTimeout(ctx, timeoutOf(g.spec.Timeout))
	defer cancel()
	snap, err := g.stages.Sources.Resolve(resolving, req)
	if err != nil {
		if ctx.Err() != nil {
			return reconcile.Result{}, ctx.Err()
		}
		if errors.As(err, new(*RepositoryDeniedError)) {
			// What was read before the permission was taken is not read on.
			g.repos.withdraw(g.key)
			return g.fail(ctx, false, reasonAccessDenied, err)
		}
		return g.fail(ctx, false, sourcev1.GitOperationFailedReason, err)
	}
	if snap, err = made.of(ctx, snap); err != nil {
		return g.failShape(ctx, err)
	}
	g.repos.store(ctx, g.key, artifact{snap, req, made.id, made})
	return g.succeed(ctx, snap, asked)
}

// failShape says what of the spec, or of the revision, keeps it from being
// read.
func (g *gitRepositoryRun) failShape(ctx context.Context, err error) (reconcile.Result, error) {
	switch {
	case ctx.Err() != nil:
		return reconcile.Result{}, ctx.Err()
	case errors.As(err, new(*SpecError)):
		return g.fail(ctx, true, "InvalidSpec", err)
	case errors.As(err, new(*VerifyError)), errors.As(err, new(*keysError)):
		g.setVerified(metav1.ConditionFalse, reasonUnverified, err.Error())
		return g.fail(ctx, false, reasonUnverified, err)
	case errors.As(err, new(*includeError)):
		return g.fail(ctx, false, "IncludeUnavailable", err)
	}
	return g.fail(ctx, false, sourcev1.GitOperationFailedReason, err)
}

// reasonUnverified is Flux' reason for a signature that does not count.
const reasonUnverified = "VerificationError"

func (g *gitRepositoryRun) setVerified(status metav1.ConditionStatus, reason, message string) {
	apimeta.SetStatusCondition(&g.status.Conditions, metav1.Condition{
		Type: sourcev1.SourceVerifiedCondition, Status: status, Reason: reason, Message: message, ObservedGeneration: g.meta.Generation,
	})
}

// noteShape writes what was made of the revision.
func (g *gitRepositoryRun) noteShape(revision string) {
	g.status.ObservedIgnore, g.status.ObservedInclude, g.status.ObservedSparseCheckout = g.spec.Ignore, g.spec.Include, g.spec.SparseCheckout
	g.status.SourceVerificationMode = nil
	if g.spec.Verification == nil {
		apimeta.RemoveStatusCondition(&g.status.Conditions, sourcev1.SourceVerifiedCondition)
		return
	}
	mode := g.spec.Verification.GetMode()
	g.status.SourceVerificationMode = &mode
	g.setVerified(metav1.ConditionTrue, meta.SucceededReason, fmt.Sprintf("verified signature of revision '%s'", revision))
}

func (g *gitRepositoryRun) succeed(ctx context.Context, snap core.Snapshot, asked string) (reconcile.Result, error) {
	root, err := snap.Tree.Entry(ctx, ".")
	if err != nil {
		return g.fail(ctx, false, sourcev1.GitOperationFailedReason, err)
	}
	revision := snap.Revision.String()
	g.failures = 0
	g.status.ObservedGeneration = g.meta.Generation
	g.status.LastHandledReconcileAt = asked
	g.noteShape(revision)
	sum := sha256.Sum256([]byte(root.Hash))
	if a := g.status.Artifact; a == nil || a.Revision != revision || a.Digest != "sha256:"+hex.EncodeToString(sum[:]) {
		g.status.Artifact = &meta.Artifact{
			// There is no tarball: the objects are read straight from Git. The
			// digest is of the tree's object name.
			Path:           fmt.Sprintf("gitrepository/%s/%s/%s", g.key.Namespace, g.key.Name, snap.Revision.Commit),
			URL:            g.spec.URL,
			Revision:       revision,
			Digest:         "sha256:" + hex.EncodeToString(sum[:]),
			LastUpdateTime: metav1.NewTime(g.now),
		}
	}
	message := fmt.Sprintf("stored artifact for revision '%s'", revision)
	setReady(&g.status.Conditions, g.meta.Generation, metav1.ConditionTrue, meta.SucceededReason, message)
	apimeta.RemoveStatusCondition(&g.status.Conditions, "FetchFailed")
	apimeta.SetStatusCondition(&g.status.Conditions, metav1.Condition{
		Type: "ArtifactInStorage", Status: metav1.ConditionTrue, Reason: meta.SucceededReason, Message: message, ObservedGeneration: g.meta.Generation,
	})
	if err := g.writeStatus(ctx, &g.status); err != nil {
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: jitter(max(g.spec.Interval.Duration, time.Second))}, nil
}

// fail says what is wrong; the last artifact stays. stalled is for what only
// a change of the spec can put right.
func (g *gitRepositoryRun) fail(ctx context.Context, stalled bool, reason string, err error) (reconcile.Result, error) {
	g.failures++
	g.status.ObservedGeneration = g.meta.Generation
	g.status.LastHandledReconcileAt = g.meta.Annotations[flux.AnnotationReconcile]
	var refused *SpecError
	if errors.As(err, &refused) || stalled {
		setStalled(&g.status.Conditions, g.meta.Generation, reason, explain(err))
	} else {
		setReady(&g.status.Conditions, g.meta.Generation, metav1.ConditionFalse, reason, explain(err))
	}
	apimeta.SetStatusCondition(&g.status.Conditions, metav1.Condition{
		Type: "FetchFailed", Status: metav1.ConditionTrue, Reason: reason, Message: explain(err), ObservedGeneration: g.meta.Generation,
	})
	if err := g.writeStatus(ctx, &g.status); err != nil {
		return reconcile.Result{}, err
	}
	if _, ok := g.repos.artifact(g.key); !ok {
		// Who reads it has nothing to go on with, and says why.
		g.kustoms.sourceChanged(g.key)
		g.helm.gitChanged(g.key)
	}
	if stalled {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: retryAfter(g.failures, max(g.spec.Interval.Duration, time.Second))}, nil
}

// gitRef is Flux' reference; its default is the branch master.
func gitRef(r *sourcev1.GitRepositoryRef) SourceRef {
	if r == nil {
		return SourceRef{Branch: "master"}
	}
	ref := SourceRef{Commit: r.Commit, Name: r.Name, SemVer: r.SemVer, Tag: r.Tag, Branch: r.Branch}
	if ref == (SourceRef{}) {
		ref.Branch = "master"
	}
	return ref
}

func timeoutOf(d *metav1.Duration) time.Duration {
	if d == nil || d.Duration <= 0 {
		return time.Minute
	}
	return d.Duration
}
