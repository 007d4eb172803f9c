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
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/api/flux"
)

// unsupportedHelmRepository are the fields that we know and do not do.
var unsupportedHelmRepository = map[string]string{
	"spec.accessFrom": "access rules are not supported",
}

// helmRepositories reconciles HelmRepositories.
type helmRepositories struct {
	*Engine
	wake     *waker
	memories *memories

	mu sync.RWMutex
	// digests are of the index of each, where it was read in this process.
	digests map[types.NamespacedName]string
}

func newHelmRepositories(e *Engine) *helmRepositories {
	return &helmRepositories{Engine: e, wake: newWaker(), memories: newMemories(), digests: map[types.NamespacedName]string{}}
}

func helmRepositoryDep(key types.NamespacedName) string { return "HelmRepository " + key.String() }

func (r *helmRepositories) forget(key types.NamespacedName) {
	r.memories.forget(key)
	r.mu.Lock()
	delete(r.digests, key)
	r.mu.Unlock()
	r.helm.charts.wakeReaders(helmRepositoryDep(key))
}

// digest is of the repository's index, and "" where it was not read yet.
func (r *helmRepositories) digest(key types.NamespacedName) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.digests[key]
}

// store keeps the digest, and wakes who reads the repository where it is new.
func (r *helmRepositories) store(key types.NamespacedName, digest string) {
	r.mu.Lock()
	old := r.digests[key]
	r.digests[key] = digest
	r.mu.Unlock()
	if old != digest {
		r.helm.charts.wakeReaders(helmRepositoryDep(key))
	}
}

// helmRepositoryRun is one reconcile of one HelmRepository.
type helmRepositoryRun struct {
	sourceRun
	repos *helmRepositories
	spec  sourcev1.HelmRepositorySpec
	st    sourcev1.HelmRepositoryStatus
}

// Reconcile reads the index of one HelmRepository.
func (r *helmRepositories) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	return r.reconcileFlux(ctx, flux.HelmRepository, req.NamespacedName, r.wake, r.memories, r.forget, func(o fluxObject) (reconcile.Result, error) {
		run := &helmRepositoryRun{repos: r}
		run.fluxObject = o
		return run.reconcile(ctx)
	})
}

func (h *helmRepositoryRun) reconcile(ctx context.Context) (reconcile.Result, error) {
	refused, err := readObject(h.object, &h.meta, &h.spec, &h.st)
	if err != nil {
		return reconcile.Result{}, err
	}
	h.status = &h.st
	h.view = sourceView{&h.st.Conditions, &h.st.ObservedGeneration, &h.st.LastHandledReconcileAt, &h.st.Artifact, h.spec.Interval.Duration}
	if h.view.interval == 0 {
		h.view.interval = defaultPoll
	}
	h.changed = func() { h.helm.charts.wakeReaders(helmRepositoryDep(h.key)) }
	if h.meta.DeletionTimestamp != nil {
		h.repos.forget(h.key)
		return reconcile.Result{}, h.removeFinalizer(ctx)
	}
	refuseUnsupported(h.object.Object, unsupportedHelmRepository, refused)
	checkHelmRepository(&h.spec, refused)
	if err := refused.orNil(); err != nil {
		return h.fail(ctx, true, sourcev1.URLInvalidReason, err)
	}
	if h.spec.Suspend {
		return reconcile.Result{}, nil
	}
	if h.spec.Type == sourcev1.HelmRepositoryTypeOCI {
		// There is no index: each chart is asked for by itself. As in Flux, the
		// object has no status.
		h.repos.store(h.key, digest([]any{h.spec, h.meta.Generation}))
		return reconcile.Result{}, nil
	}
	return h.read(ctx)
}

// checkHelmRepository refuses what the repository cannot be.
func checkHelmRepository(spec *sourcev1.HelmRepositorySpec, refused *SpecError) {
	u, err := url.Parse(spec.URL)
	if err != nil || u.Host == "" {
		refused.add("spec.url", "it is no URL")
		return
	}
	if u.User != nil {
		refused.add("spec.url", "credentials belong into spec.secretRef")
	}
	switch spec.Type {
	case sourcev1.HelmRepositoryTypeOCI:
		if u.Scheme != "oci" {
			refused.add("spec.url", "the scheme is %q; want oci:// for a repository of type oci", u.Scheme)
		}
	case "", sourcev1.HelmRepositoryTypeDefault:
		if u.Scheme != "http" && u.Scheme != "https" {
			refused.add("spec.url", "the scheme is %q; want http:// or https://, or spec.type oci", u.Scheme)
		}
	default:
		refused.add("spec.type", "%q is not supported; want default or oci", spec.Type)
	}
	if spec.Provider != "" && spec.Provider != sourcev1.GenericOCIProvider {
		refused.add("spec.provider", "%q is not supported; want generic", spec.Provider)
	}
}

// read reads the index.
func (h *helmRepositoryRun) read(ctx context.Context) (reconcile.Result, error) {
	auth, err := h.helmAuth(ctx, h.key.Namespace, &h.spec)
	if err != nil {
		return h.fail(ctx, false, sourcev1.AuthenticationFailedReason, err)
	}
	within, cancel := context.WithTimeout(ctx, timeoutOf(h.spec.Timeout))
	defer cancel()
	index, err := h.stages.Packages.Index(within, SourceRequest{Namespace: h.key.Namespace, URL: h.spec.URL, Auth: auth, Fetch: h.due() || h.repos.digest(h.key) == ""})
	if err != nil {
		return h.fail(ctx, false, sourcev1.IndexationFailedReason, err)
	}
	h.st.URL = strings.TrimSuffix(h.spec.URL, "/") + "/index.yaml"
	h.repos.store(h.key, index.Digest)
	message := fmt.Sprintf("stored artifact: revision '%s'", index.Digest)
	return h.succeed(ctx, index.Digest, index.Digest, fmt.Sprintf("helmrepository/%s/%s/index", h.key.Namespace, h.key.Name), h.st.URL, &index.Size, meta.SucceededReason, message)
}

// helmAuth reads the Secrets that a HelmRepository refers to.
func (e *Engine) helmAuth(ctx context.Context, namespace string, spec *sourcev1.HelmRepositorySpec) (Auth, error) {
	var auth Auth
	if spec.SecretRef != nil {
		data, kind, err := e.secretData(ctx, types.NamespacedName{Namespace: namespace, Name: spec.SecretRef.Name})
		if err != nil {
			return auth, err
		}
		if auth, err = registryAuth(data, kind, spec.URL); err != nil {
			return auth, fmt.Errorf("secret '%s/%s': %w", namespace, spec.SecretRef.Name, err)
		}
	}
	if spec.CertSecretRef != nil {
		if err := e.certificates(ctx, types.NamespacedName{Namespace: namespace, Name: spec.CertSecretRef.Name}, &auth); err != nil {
			return auth, err
		}
	}
	auth.PassCredentials = spec.PassCredentials
	if spec.Type == sourcev1.HelmRepositoryTypeOCI {
		auth.Insecure = spec.Insecure
	}
	return auth, nil
}

// certificates adds what a certSecretRef has.
func (e *Engine) certificates(ctx context.Context, key types.NamespacedName, auth *Auth) error {
	data, _, err := e.secretData(ctx, key)
	if err != nil {
		return err
	}
	auth.CA, auth.ClientCert, auth.ClientKey = data["ca.crt"], data["tls.crt"], data["tls.key"]
	switch {
	case len(auth.CA)+len(auth.ClientCert)+len(auth.ClientKey) == 0:
		return fmt.Errorf("secret '%s' has none of ca.crt, tls.crt and tls.key", key)
	case len(auth.ClientCert) == 0 != (len(auth.ClientKey) == 0):
		return fmt.Errorf("secret '%s' has one of tls.crt and tls.key without the other", key)
	}
	return nil
}

var errNoCredentials = errors.New("it has neither username and password nor .dockerconfigjson")
