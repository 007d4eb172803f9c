package controller

import (
	"context"
	"errors"
	"fmt"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/fleet"
)

// reasonAway and reasonKubeConfig are why a Kustomization or HelmRelease is not
// ready.
const (
	reasonAway       = "ClusterAway"
	reasonKubeConfig = "KubeConfigError"
)

// refuseConfigMap refuses by name what takes a cloud's exchange of tokens.
func refuseConfigMap(ref *meta.KubeConfigReference, refused *SpecError) {
	switch {
	case ref == nil:
	case ref.ConfigMapRef != nil:
		refused.add("spec.kubeConfig.configMapRef", "cloud identities are not supported, give a kubeconfig in spec.kubeConfig.secretRef")
	case ref.SecretRef == nil || ref.SecretRef.Name == "":
		refused.add("spec.kubeConfig.secretRef.name", "is required")
	}
}

// locateFlux binds the owner to the cluster of its kubeconfig.
func (e *Engine) locateFlux(owner core.Owner, ref *meta.KubeConfigReference) (fresh bool, err error) {
	at, err := e.kubeconfigs.of(owner, ref)
	if err != nil {
		return false, err
	}
	return e.bind(owner, at)
}

// forgetPlace forgets where the owner's objects are.
func (e *Engine) forgetPlace(owner core.Owner) {
	e.kubeconfigs.forget(owner)
	e.unbind(owner)
}

// kubeconfigChanged wakes the owner, whose kubeconfig is another one.
func (e *Engine) kubeconfigChanged(owner core.Owner) { e.clusterNews(owner, fleet.Changed) }

// enter has the Kustomization's cluster ready for this run, and takes a turn in
// it. Where leave is nil the run has ended, and the rest is its result.
func (k *kustomizationRun) enter(ctx context.Context) (leave func(), res reconcile.Result, err error) {
	if k.k.Spec.Suspend || k.k.DeletionTimestamp != nil && !k.removes() {
		return func() {}, res, nil
	}
	owner := fluxOwner(k.key)
	fresh, located := k.locateFlux(owner, k.k.Spec.KubeConfig)
	if located != nil && k.k.DeletionTimestamp != nil && len(k.inventory()) == 0 {
		fresh, located = k.bind(owner, home) // nothing was applied anywhere
	}
	if fresh {
		k.startOver()
	}
	var connecting *fleet.ConnectingError
	switch {
	case errors.As(located, &connecting):
		k.kustoms.wake.put(k.key, k.why)
		return nil, reconcile.Result{RequeueAfter: lookAgain}, nil
	case located != nil:
		k.kustoms.wake.put(k.key, k.why)
		res, err = k.fail(ctx, reasonUnplaced(located), k.stuck(located))
		return nil, res, err
	}
	if leave = k.turn(owner); leave == nil {
		k.kustoms.wake.put(k.key, k.why)
		return nil, reconcile.Result{RequeueAfter: noTurn()}, nil
	}
	return leave, res, nil
}

// reasonUnplaced says why a cluster cannot be had.
func reasonUnplaced(err error) string {
	if unreachable(err) {
		return reasonAway
	}
	return reasonKubeConfig
}

// removes says that the Kustomization's end is that of its objects.
func (k *kustomizationRun) removes() bool {
	switch k.k.GetDeletionPolicy() {
	case kustomizev1.DeletionPolicyDelete, kustomizev1.DeletionPolicyWaitForTermination:
		return true
	case kustomizev1.DeletionPolicyMirrorPrune:
		return k.k.Spec.Prune
	}
	return false
}

// stuck says how to let go of what was applied, where the Kustomization is
// being deleted.
func (k *kustomizationRun) stuck(err error) error {
	if k.k.DeletionTimestamp == nil {
		return err
	}
	return fmt.Errorf("what was applied is still there: %w", &stuckFluxError{err, "spec.deletionPolicy: Orphan"})
}

// stuckFluxError says how to let go of what is in a cluster that is gone.
type stuckFluxError struct {
	error
	out string
}

func (e *stuckFluxError) Unwrap() error { return e.error }

// Hint is for people.
func (e *stuckFluxError) Hint() string {
	return "if the cluster is gone for good, let it go without its objects: set " + e.out
}

func helmOwner(key types.NamespacedName) core.Owner {
	return core.Owner{Dialect: core.Flux, Kind: helmv2.HelmReleaseKind, Namespace: key.Namespace, Name: key.Name}
}

// enter is that of a Kustomization. The context that it returns ends with the
// connection to the cluster, because Helm's actions wait by themselves.
func (h *helmReleaseRun) enter(ctx context.Context) (inside context.Context, leave func(), res reconcile.Result, err error) {
	h.cluster = h.stages.Releases
	if h.hr.Spec.Suspend || h.hr.DeletionTimestamp != nil && h.hr.Status.History.Latest() == nil {
		return ctx, func() {}, res, nil
	}
	owner := helmOwner(h.key)
	fresh, located := h.locateFlux(owner, h.hr.Spec.KubeConfig)
	if fresh {
		h.startOver()
	}
	var connecting *fleet.ConnectingError
	switch {
	case errors.As(located, &connecting):
		h.releases.wake.put(h.key, h.why)
		return ctx, nil, reconcile.Result{RequeueAfter: lookAgain}, nil
	case located != nil:
		h.releases.wake.put(h.key, h.why)
		if h.hr.DeletionTimestamp != nil {
			located = fmt.Errorf("the release is still there: %w", &stuckFluxError{located, "spec.suspend: true"})
		}
		res, err = h.hold(ctx, reasonUnplaced(located), located)
		return ctx, nil, res, err
	}
	done := h.turn(owner)
	if done == nil {
		h.releases.wake.put(h.key, h.why)
		return ctx, nil, reconcile.Result{RequeueAfter: noTurn()}, nil
	}
	inside, parts, end, err := h.stages.Fleet.Inside(ctx, owner)
	if err != nil {
		done()
		h.releases.wake.put(h.key, h.why)
		return ctx, nil, reconcile.Result{RequeueAfter: noTurn()}, nil
	}
	h.cluster = parts.Releases
	return inside, func() { end(); done() }, res, nil
}

// reachFlux is locateFlux for somebody who only looks. The place is known even
// where the error is that it is away.
func (e *Engine) reachFlux(owner core.Owner, ref *meta.KubeConfigReference) (place, error) {
	at, err := e.kubeconfigs.of(owner, ref)
	if err != nil {
		return at, err
	}
	return at, e.stages.Fleet.Reach(owner, at.cluster)
}
