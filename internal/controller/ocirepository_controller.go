package controller

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"

	"github.com/fluxcd/pkg/apis/meta"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/api/flux"
)

// unsupportedOCIRepository are the fields that we know and do not do.
var unsupportedOCIRepository = map[string]string{
	"spec.verify":             "signature verification is not supported yet",
	"spec.serviceAccountName": "cloud identities are not supported",
	"spec.proxySecretRef":     "proxies are not supported",
}

// ociRepositories reconciles OCIRepositories.
type ociRepositories struct {
	*Engine
	wake     *waker
	memories *memories
	byURL    *index

	mu        sync.RWMutex
	artifacts map[types.NamespacedName]ociArtifact
}

// ociArtifact is an OCIRepository as Kustomizations and HelmReleases read it.
type ociArtifact struct {
	artifact
	asked ArtifactRequest
}

func newOCIRepositories(e *Engine) *ociRepositories {
	return &ociRepositories{Engine: e, wake: newWaker(), memories: newMemories(), byURL: newIndex(), artifacts: map[types.NamespacedName]ociArtifact{}}
}

func ociRepositoryDep(key types.NamespacedName) string { return "OCIRepository " + key.String() }

func (r *ociRepositories) artifact(key types.NamespacedName) (ociArtifact, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	a, ok := r.artifacts[key]
	return a, ok
}

// store keeps the artifact and wakes who reads it, where it is a new one.
func (r *ociRepositories) store(ctx context.Context, key types.NamespacedName, a ociArtifact) {
	r.mu.Lock()
	old, known := r.artifacts[key]
	r.artifacts[key] = a
	r.mu.Unlock()
	if known && old.id() == a.id() {
		return
	}
	var changed []string // nil: everything
	if known {
		var err error
		if changed, err = changedPlaces(ctx, old.snapshot.Tree, a.snapshot.Tree); err != nil {
			changed = nil
		}
	}
	r.kustoms.reads.advance(ociRepositoryDep(key), old.id(), a.artifact, changed)
	r.changed(key)
}

// changed wakes who reads the OCIRepository.
func (r *ociRepositories) changed(key types.NamespacedName) {
	dep := ociRepositoryDep(key)
	r.helm.releases.wakeDependents(dep, sourceMoved)
	a, there := r.artifact(key)
	r.kustoms.artifactChanged(dep, a.artifact, there)
}

func (r *ociRepositories) forget(key types.NamespacedName) {
	r.memories.forget(key)
	r.byURL.set(key)
	r.mu.Lock()
	delete(r.artifacts, key)
	r.mu.Unlock()
	r.changed(key)
}

// ociRepositoryRun is one reconcile of one OCIRepository.
type ociRepositoryRun struct {
	sourceRun
	repos *ociRepositories
	spec  sourcev1.OCIRepositorySpec
	st    sourcev1.OCIRepositoryStatus
}

// Reconcile finds the artifact that one OCIRepository means now.
func (r *ociRepositories) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	return r.reconcileFlux(ctx, flux.OCIRepository, req.NamespacedName, r.wake, r.memories, r.forget, func(o fluxObject) (reconcile.Result, error) {
		run := &ociRepositoryRun{repos: r}
		run.fluxObject = o
		return run.reconcile(ctx)
	})
}

func (o *ociRepositoryRun) reconcile(ctx context.Context) (reconcile.Result, error) {
	refused, err := readObject(o.object, &o.meta, &o.spec, &o.st)
	if err != nil {
		return reconcile.Result{}, err
	}
	o.status = &o.st
	o.view = sourceView{&o.st.Conditions, &o.st.ObservedGeneration, &o.st.LastHandledReconcileAt, &o.st.Artifact, o.spec.Interval.Duration}
	o.changed = func() { o.repos.changed(o.key) }
	if o.meta.DeletionTimestamp != nil {
		o.repos.forget(o.key)
		return reconcile.Result{}, o.removeFinalizer(ctx)
	}
	refuseUnsupported(o.object.Object, unsupportedOCIRepository, refused)
	if u, err := url.Parse(o.spec.URL); err != nil || u.Scheme != "oci" || u.Host == "" {
		refused.add("spec.url", "want oci://HOST/NAME")
	}
	if p := o.spec.Provider; p != "" && p != sourcev1.GenericOCIProvider {
		refused.add("spec.provider", "%q is not supported; want generic", p)
	}
	if err := refused.orNil(); err != nil {
		return o.fail(ctx, true, sourcev1.URLInvalidReason, err)
	}
	o.repos.byURL.set(o.key, strings.TrimSuffix(o.spec.URL, "/"))
	if o.spec.Suspend {
		return reconcile.Result{}, nil
	}
	return o.pull(ctx)
}

// request is what the spec asks for.
func (o *ociRepositoryRun) request(ctx context.Context) (ArtifactRequest, error) {
	req := ArtifactRequest{Namespace: o.key.Namespace, URL: strings.TrimSuffix(o.spec.URL, "/")}
	if r := o.spec.Reference; r != nil {
		req.Digest, req.SemVer, req.Filter, req.Tag = r.Digest, r.SemVer, r.SemverFilter, r.Tag
	}
	if l := o.spec.LayerSelector; l != nil {
		req.MediaType, req.Copy = l.MediaType, l.Operation == sourcev1.OCILayerCopy
	}
	if o.spec.SecretRef != nil {
		key := types.NamespacedName{Namespace: o.key.Namespace, Name: o.spec.SecretRef.Name}
		data, kind, err := o.secretData(ctx, key)
		if err == nil && kind != corev1.SecretTypeDockerConfigJson {
			err = fmt.Errorf("secret '%s' is of type %q; want %s", key, kind, corev1.SecretTypeDockerConfigJson)
		}
		if err != nil {
			return req, err
		}
		if req.Auth, err = registryAuth(data, kind, o.spec.URL); err != nil {
			return req, fmt.Errorf("secret '%s': %w", key, err)
		}
	}
	if o.spec.CertSecretRef != nil {
		if err := o.certificates(ctx, types.NamespacedName{Namespace: o.key.Namespace, Name: o.spec.CertSecretRef.Name}, &req.Auth); err != nil {
			return req, err
		}
	}
	req.Auth.Insecure = o.spec.Insecure
	return req, nil
}

func (o *ociRepositoryRun) pull(ctx context.Context) (reconcile.Result, error) {
	req, err := o.request(ctx)
	if err != nil {
		return o.fail(ctx, false, sourcev1.AuthenticationFailedReason, err)
	}
	within, cancel := context.WithTimeout(ctx, timeoutOf(o.spec.Timeout))
	defer cancel()
	snap, err := o.stages.Packages.Artifact(within, req)
	if err != nil {
		return o.fail(ctx, false, sourcev1.OCIPullFailedReason, err)
	}
	if o.spec.Ignore != nil {
		if snap.Tree, err = ignoring(snap.Tree, *o.spec.Ignore); err != nil {
			return o.fail(ctx, true, "InvalidSpec", err)
		}
	}
	a := artifact{snapshot: snap, request: req.source(snap.Revision.Commit), ignore: digest([]any{o.spec.Ignore, req.MediaType, req.Copy})}
	o.repos.store(ctx, o.key, ociArtifact{artifact: a, asked: req})
	o.st.ObservedIgnore, o.st.ObservedLayerSelector, o.st.URL = o.spec.Ignore, o.spec.LayerSelector, o.spec.URL
	revision := snap.Revision.String()
	return o.succeed(ctx, revision, snap.Revision.Commit, fmt.Sprintf("ocirepository/%s/%s/%s", o.key.Namespace, o.key.Name, snap.Revision.Commit),
		o.spec.URL, nil, meta.SucceededReason, fmt.Sprintf("stored artifact for digest '%s'", revision))
}

// ofArtifact finds the chart that an OCIRepository has.
func (h *helmReleaseRun) ofArtifact(ctx context.Context, key types.NamespacedName) (bool, error) {
	a, ok := h.helm.artifacts.artifact(key)
	if !ok {
		return false, h.notReady(ctx, flux.OCIRepository.Kind, key, h.helm.artifacts.memories)
	}
	at := strings.LastIndex(a.asked.URL, "/")
	digest := a.snapshot.Revision.Commit
	from := SourceRequest{Namespace: key.Namespace, URL: a.asked.URL[:at], Chart: a.asked.URL[at+1:], Ref: SourceRef{Revision: digest}, Auth: a.asked.Auth}
	snap, err := h.stages.Sources.Resolve(ctx, from)
	if err != nil {
		return false, fmt.Errorf("OCIRepository '%s': %w", key, err)
	}
	head, err := chartHead(ctx, snap.Tree, ".")
	if err != nil {
		return false, fmt.Errorf("OCIRepository '%s': %w", key, err)
	}
	_, hex, ok := strings.Cut(digest, ":")
	if !ok || len(hex) < 12 {
		return false, errors.New("the digest of the artifact is none")
	}
	version := head.Version + "+" + hex[:12]
	if strings.Contains(head.Version, "+") {
		version = head.Version + "." + hex[:12]
	}
	h.chart = chartArtifact{name: head.Name, version: version, digest: digest, revision: version, oci: digest, from: from, path: "."}
	return true, nil
}
