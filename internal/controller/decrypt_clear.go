package controller

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
)

// annotationClear says whether Secrets may stand in Git in clear: on an
// AppProject for its Applications, on a Namespace for the Kustomizations in it.
// Both are for who administers, not for who delivers.
const annotationClear = "fairway-cd.io/secrets-in-git"

// The values of annotationClear. Without it, everything is permitted.
const (
	clearRefused   = "refuse"
	clearPermitted = "permit"
)

// reasonClear is the reason of a Kustomization that is refused for it.
const reasonClear = "SecretInClear"

// ClearSecretError says that Secrets stand in Git in clear, and whose policy
// does not permit it.
type ClearSecretError struct {
	Secrets []core.ObjectRef
	By      string
}

func (e *ClearSecretError) Error() string {
	const most = 10
	names := make([]string, 0, most+1)
	for _, ref := range e.Secrets {
		if len(names) == most {
			names = append(names, "…")
			break
		}
		names = append(names, ref.String())
	}
	verb := "has"
	if len(e.Secrets) > 1 {
		verb = "have"
	}
	return fmt.Sprintf("%s %s values in clear in Git, which %s does not permit", strings.Join(names, ", "), verb, e.By)
}

// Hint says what to do instead.
func (e *ClearSecretError) Hint() string {
	return "encrypt it with sops or kubeseal, and change the value: Git keeps what was pushed"
}

// permitsClear holds Secrets in clear against the annotations of what has a say.
// A value that is not known refuses.
func permitsClear(t *target, by string, annotations map[string]string) error {
	value := annotations[annotationClear]
	switch {
	case len(t.clear) == 0 || value == "" || value == clearPermitted:
		return nil
	case value != clearRefused:
		by = fmt.Sprintf("%s (%s is %q, which is neither %q nor %q)", by, annotationClear, value, clearRefused, clearPermitted)
	}
	return &ClearSecretError{t.clear, by}
}

// permitsClear asks the Kustomization's namespace.
func (e *Engine) permitsClear(ctx context.Context, namespace string, t *target) error {
	if len(t.clear) == 0 {
		return nil
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := e.client.Get(ctx, types.NamespacedName{Name: namespace}, u); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("ask namespace %s whether Secrets may be in clear: %w", namespace, err)
	}
	return permitsClear(t, "namespace "+namespace, u.GetAnnotations())
}

// permitsClearIn asks the Application's project.
func permitsClearIn(p *argo.AppProject, t *target) error {
	return permitsClear(t, fmt.Sprintf("project %q", p.Name), p.Annotations)
}

// clearPolicies wakes the Kustomizations of a namespace whose policy changes.
func (e *Engine) clearPolicies(mgr manager.Manager) ctrlsource.Source {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	return ctrlsource.Kind[client.Object](mgr.GetCache(), u, handler.Funcs{
		UpdateFunc: func(ctx context.Context, ev event.UpdateEvent, _ queue) {
			if ev.ObjectOld.GetAnnotations()[annotationClear] == ev.ObjectNew.GetAnnotations()[annotationClear] {
				return
			}
			e.wakeListed(ctx, flux.Kustomization, e.kustoms.wake, client.InNamespace(ev.ObjectNew.GetName()))
		},
	})
}
