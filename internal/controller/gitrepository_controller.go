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
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	sourceRun
	repos *gitRepositories
	spec  flux.GitRepositorySpec
	st    sourcev1.GitRepositoryStatus
}

// Reconcile finds the revision that one GitRepository means now.
func (r *gitRepositories) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	return r.reconcileFlux(ctx, flux.GitRepository, req.NamespacedName, r.wake, r.memories, r.forget, func(o fluxObject) (reconcile.Result, error) {
		run := &gitRepositoryRun{repos: r}
		run.fluxObject = o
		return run.reconcile(ctx)
	})
}

func (g *gitRepositoryRun) reconcile(ctx context.Context) (reconcile.Result, error) {
	refused, err := readObject(g.object, &g.meta, &g.spec, &g.st)
	if err != nil {
		return reconcile.Result{}, err
	}
	g.status = &g.st
	g.view = sourceView{&g.st.Conditions, &g.st.ObservedGeneration, &g.st.LastHandledReconcileAt, &g.st.Artifact, g.spec.Interval.Duration}
	g.changed = g.unread
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
	req := SourceRequest{Namespace: g.key.Namespace, URL: g.spec.URL, Ref: gitRef(g.spec.Reference)}
	req.Fetch = g.due()
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
	return g.stored(ctx, snap)
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
	apimeta.SetStatusCondition(&g.st.Conditions, metav1.Condition{
		Type: sourcev1.SourceVerifiedCondition, Status: status, Reason: reason, Message: message, ObservedGeneration: g.meta.Generation,
	})
}

// noteShape writes what was made of the revision.
func (g *gitRepositoryRun) noteShape(revision string) {
	g.st.ObservedIgnore, g.st.ObservedInclude, g.st.ObservedSparseCheckout = g.spec.Ignore, g.spec.Include, g.spec.SparseCheckout
	g.st.SourceVerificationMode = nil
	if g.spec.Verification == nil {
		apimeta.RemoveStatusCondition(&g.st.Conditions, sourcev1.SourceVerifiedCondition)
		return
	}
	mode := g.spec.Verification.GetMode()
	g.st.SourceVerificationMode = &mode
	g.setVerified(metav1.ConditionTrue, meta.SucceededReason, fmt.Sprintf("verified signature of revision '%s'", revision))
}

// stored says which tree there is. There is no tarball: the objects are read
// straight from Git, and the digest is of the tree's object name.
func (g *gitRepositoryRun) stored(ctx context.Context, snap core.Snapshot) (reconcile.Result, error) {
	root, err := snap.Tree.Entry(ctx, ".")
	if err != nil {
		return g.fail(ctx, false, sourcev1.GitOperationFailedReason, err)
	}
	revision, sum := snap.Revision.String(), sha256.Sum256([]byte(root.Hash))
	g.noteShape(revision)
	return g.succeed(ctx, revision, "sha256:"+hex.EncodeToString(sum[:]),
		fmt.Sprintf("gitrepository/%s/%s/%s", g.key.Namespace, g.key.Name, snap.Revision.Commit), g.spec.URL, nil,
		meta.SucceededReason, fmt.Sprintf("stored artifact for revision '%s'", revision))
}

// unread wakes who reads it and has nothing to go on with, to say why.
func (g *gitRepositoryRun) unread() {
	if _, ok := g.repos.artifact(g.key); !ok {
		g.kustoms.sourceChanged(g.key)
		g.helm.gitChanged(g.key)
	}
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
