package controller

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// kustomizationUser is as whom the Kustomization is delivered: a ServiceAccount
// of its namespace, or "" for ourselves.
func kustomizationUser(k *kustomizationObject) string {
	if k.Spec.ServiceAccountName == "" {
		return ""
	}
	return kube.ServiceAccount(k.Namespace, k.Spec.ServiceAccountName)
}

// known is what need not be asked of the cluster, and nothing where somebody
// else's permissions have to be found out about: another spec, which may name
// another ServiceAccount, was not delivered yet, nor anything as the one that
// those have that name none.
func (k *kustomizationRun) known() func(core.ObjectRef) (mark.Seen, bool) {
	if as := k.delivery.options.As; as != "" && (as != k.actedAs || k.status.ObservedGeneration != k.k.Generation) {
		return nil
	}
	return k.stages.Watcher.Known(k.delivery.owner)
}

// reads are the objects whose health is told, which are not the
// Kustomization's own: its ServiceAccount has to be permitted to see them.
func (k *kustomizationRun) reads() []core.ObjectRef {
	if k.delivery.options.As == "" || k.k.Spec.Wait {
		return nil
	}
	return k.healthChecks()
}

// accountGone says that the ServiceAccount is not there any more. What cannot
// be found out is left to the deletion, which says why.
func (k *kustomizationRun) accountGone(ctx context.Context) bool {
	name := k.k.Spec.ServiceAccountName
	if name == "" || k.k.Spec.KubeConfig != nil {
		return false
	}
	return apierrors.IsNotFound(k.reader.Get(ctx, types.NamespacedName{Namespace: k.key.Namespace, Name: name}, &corev1.ServiceAccount{}))
}
