package controller

import (
	"context"
	"fmt"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/release"
)

// open reaches the release as who is to act on it.
func (h *helmReleaseRun) open(ctx context.Context) error {
	var err error
	h.release, err = h.cluster.Release(ctx, h.target())
	return err
}

func (h *helmReleaseRun) target() release.Target {
	t := release.Target{Name: h.hr.GetReleaseName(), Namespace: h.hr.GetReleaseNamespace(), Storage: h.hr.GetStorageNamespace()}
	if sa := h.hr.Spec.ServiceAccountName; sa != "" {
		t.User = "system:serviceaccount:" + h.key.Namespace + ":" + sa
	}
	return t
}

// targetChanged: the release that the status knows is another one than is
// wanted.
func (h *helmReleaseRun) targetChanged() bool {
	st, t := &h.hr.Status, h.target()
	latest := st.History.Latest()
	return latest != nil && (latest.Name != t.Name || latest.Namespace != t.Namespace || st.StorageNamespace != "" && st.StorageNamespace != t.Storage)
}

// moved uninstalls the release where it was before its name or namespace was
// changed.
func (h *helmReleaseRun) moved(ctx context.Context) error {
	st := &h.hr.Status
	if !h.targetChanged() {
		st.StorageNamespace = h.hr.GetStorageNamespace()
		return nil
	}
	latest := st.History.Latest()
	t := h.target()
	t.Name, t.Namespace, t.Storage = latest.Name, latest.Namespace, st.StorageNamespace
	old, err := h.cluster.Release(ctx, t)
	if err != nil {
		return err
	}
	if err := old.Uninstall(ctx, h.uninstallOptions()); err != nil {
		return fmt.Errorf("uninstall the release at its former place: %w", err)
	}
	st.ClearHistory()
	st.Inventory, st.StorageNamespace = nil, h.hr.GetStorageNamespace()
	return nil
}

// finalize uninstalls what a HelmRelease that goes has installed. One that is
// suspended leaves it.
func (h *helmReleaseRun) finalize(ctx context.Context) (reconcile.Result, error) {
	st := &h.hr.Status
	if latest := st.History.Latest(); latest != nil && !h.hr.Spec.Suspend {
		t := h.target()
		t.Name, t.Namespace = latest.Name, latest.Namespace
		if st.StorageNamespace != "" {
			t.Storage = st.StorageNamespace
		}
		old, err := h.cluster.Release(ctx, t)
		if err == nil {
			err = old.Uninstall(ctx, h.uninstallOptions())
		}
		if ctx.Err() != nil {
			return reconcile.Result{}, ctx.Err()
		}
		if err != nil {
			return h.hold(ctx, helmv2.UninstallFailedReason, err)
		}
	}
	if err := h.deleteChart(ctx); err != nil {
		return reconcile.Result{}, err
	}
	h.releases.drop(h.key)
	return reconcile.Result{}, h.removeFinalizer(ctx)
}
