package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/secrets/sealed"
)

// sealedSecretDialect is that of Sealed Secrets, whose controller may be
// another one.
const sealedSecretDialect core.Dialect = v1alpha1.GroupName

// sealedSecretKind is the kind of the objects.
var sealedSecretKind = v1alpha1.SchemeGroupVersion.WithKind(sealed.Kind)

// labelUnsealed is on the Secrets that we make of SealedSecrets, to hear of
// their changes without following all Secrets.
const labelUnsealed = "fairway-cd.io/unsealed"

// The reasons of events, as sealed-secrets' controller has them.
const (
	eventUnsealed     = "Unsealed"
	eventUnsealFailed = "ErrUnsealFailed"
	eventUpdateFailed = "ErrUpdateFailed"
)

// sealedSecrets makes Secrets of SealedSecrets.
type sealedSecrets struct {
	*Engine
	wake *waker
	keys *sealingKeys
}

func newSealedSecrets(e *Engine) *sealedSecrets {
	return &sealedSecrets{Engine: e, wake: newWaker(), keys: newSealingKeys(e)}
}

// add adds the controller, and what it hears of, to mgr.
func (r *sealedSecrets) add(mgr manager.Manager) error {
	if err := mgr.Add(manager.RunnableFunc(r.keys.renew)); err != nil {
		return err
	}
	watch, err := r.followSecrets(mgr.GetConfig())
	if err != nil {
		return err
	}
	if err := mgr.Add(manager.RunnableFunc(watch)); err != nil {
		return err
	}
	return r.addController(mgr, "sealedsecret", sealedSecretKind, r, r.wake)
}

func (r *sealedSecrets) wakeAll(ctx context.Context) { r.wakeListed(ctx, sealedSecretKind, r.wake) }

// Reconcile brings the Secret of one SealedSecret to what is sealed in it. The
// garbage collector removes it with its owner.
func (r *sealedSecrets) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	r.wake.take(req.NamespacedName)
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(sealedSecretKind)
	if err := r.client.Get(ctx, req.NamespacedName, u); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if r.others.active(sealedSecretDialect) || u.GetDeletionTimestamp() != nil {
		return reconcile.Result{}, nil
	}
	s := &v1alpha1.SealedSecret{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, s); err != nil {
		return reconcile.Result{}, r.done(ctx, u, s, eventUnsealFailed, errors.New("the SealedSecret is malformed"))
	}
	keys, err := r.keys.get(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	wanted, err := sealed.Unseal(ctx, s, keys, r.fill)
	if err != nil {
		// A key that comes, or a change of the object, wakes us.
		return reconcile.Result{}, r.done(ctx, u, s, eventUnsealFailed, err)
	}
	changed, err := r.write(ctx, s, wanted)
	if err != nil {
		var refused *secretRefusedError
		done := r.done(ctx, u, s, eventUpdateFailed, err)
		if errors.As(err, &refused) {
			return reconcile.Result{}, done // until something changes
		}
		return reconcile.Result{}, errors.Join(err, done)
	}
	reason := ""
	if changed {
		reason = eventUnsealed
	}
	return reconcile.Result{}, r.done(ctx, u, s, reason, nil)
}

// fill fills in templates in a worker.
func (r *sealedSecrets) fill(ctx context.Context, templates map[string]string, values map[string][]byte) (map[string][]byte, error) {
	if r.stages.Fill == nil {
		return nil, &sealed.Error{Problems: []string{"spec.template.data is not supported here"}}
	}
	return r.stages.Fill(ctx, templates, values)
}

// write brings the Secret to what is wanted. An error holds nothing of it; it
// is a *secretRefusedError where trying again changes nothing.
func (r *sealedSecrets) write(ctx context.Context, s *v1alpha1.SealedSecret, wanted *corev1.Secret) (changed bool, err error) {
	if wanted.Labels == nil {
		wanted.Labels = map[string]string{}
	}
	wanted.Labels[labelUnsealed] = "true"
	if wanted.Type == "" {
		wanted.Type = corev1.SecretTypeOpaque
	}
	live := &corev1.Secret{}
	err = r.reader.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	if apierrors.IsNotFound(err) {
		return true, secretError("create", wanted, r.client.Create(ctx, wanted))
	}
	if err != nil {
		return false, secretError("read", wanted, err)
	}
	managed := live.Annotations[v1alpha1.SealedSecretManagedAnnotation] == "true"
	patched := live.Annotations[v1alpha1.SealedSecretPatchAnnotation] == "true"
	if !metav1.IsControlledBy(live, s) && !managed && !patched {
		return false, &secretRefusedError{fmt.Sprintf("Secret %q already exists and is not managed by SealedSecret", live.Name)}
	}
	next := brought(live, wanted, patched, managed)
	if apiequality.Semantic.DeepEqual(live, next) {
		return false, nil
	}
	if live.Immutable != nil && *live.Immutable && !apiequality.Semantic.DeepEqual(live.Data, next.Data) {
		return false, &secretRefusedError{fmt.Sprintf("Secret %q is immutable, and what is sealed is something else: delete the Secret to have it made again", live.Name)}
	}
	return true, secretError("update", next, r.client.Update(ctx, next))
}

// brought is the live Secret as it is to be (sealed-secrets' controller.unseal).
func brought(live, wanted *corev1.Secret, patched, managed bool) *corev1.Secret {
	next := live.DeepCopy()
	next.Type = wanted.Type
	if !patched {
		next.Data, next.Labels, next.Annotations = wanted.Data, wanted.Labels, wanted.Annotations
		next.OwnerReferences = wanted.OwnerReferences
		if next.Immutable == nil {
			next.Immutable = wanted.Immutable
		}
		return next
	}
	next.Data = overlaid(next.Data, wanted.Data)
	next.Labels = overlaid(next.Labels, wanted.Labels)
	next.Annotations = overlaid(next.Annotations, wanted.Annotations)
	if managed {
		next.OwnerReferences = wanted.OwnerReferences
	}
	return next
}

func overlaid[V any](below, above map[string]V) map[string]V {
	if len(below)+len(above) == 0 {
		return nil
	}
	out := maps.Clone(below)
	if out == nil {
		out = map[string]V{}
	}
	maps.Copy(out, above)
	return out
}

// done writes the status, and an event where there is a reason for one.
func (r *sealedSecrets) done(ctx context.Context, u *unstructured.Unstructured, s *v1alpha1.SealedSecret, reason string, failed error) error {
	status, message := corev1.ConditionTrue, ""
	kind, text := corev1.EventTypeNormal, "SealedSecret unsealed successfully"
	if failed != nil {
		status, message = corev1.ConditionFalse, failed.Error()
		kind, text = corev1.EventTypeWarning, message
	}
	var before *v1alpha1.SealedSecretCondition
	if s.Status != nil {
		for i := range s.Status.Conditions {
			if s.Status.Conditions[i].Type == v1alpha1.SealedSecretSynced {
				before = &s.Status.Conditions[i]
			}
		}
	}
	if before != nil && before.Status == status && before.Message == message && s.Status.ObservedGeneration == u.GetGeneration() {
		if reason == eventUnsealed {
			r.event(u, kind, reason, text)
		}
		return nil
	}
	now := metav1.Now()
	condition := v1alpha1.SealedSecretCondition{Type: v1alpha1.SealedSecretSynced, Status: status, Message: message, LastUpdateTime: now, LastTransitionTime: now}
	if before != nil && before.Status == status {
		condition.LastTransitionTime = before.LastTransitionTime
	}
	if reason != "" {
		r.event(u, kind, reason, text)
	}
	patch, err := json.Marshal(map[string]any{"status": v1alpha1.SealedSecretStatus{
		ObservedGeneration: u.GetGeneration(), Conditions: []v1alpha1.SealedSecretCondition{condition},
	}})
	if err != nil {
		return fmt.Errorf("encode the status: %w", err)
	}
	if err := r.client.Status().Patch(ctx, u.DeepCopy(), client.RawPatch(types.MergePatchType, patch)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the status of SealedSecret %s/%s: %w", u.GetNamespace(), u.GetName(), err)
	}
	return nil
}

// secretRefusedError says why a Secret is not written, without its values.
type secretRefusedError struct{ msg string }

func (e *secretRefusedError) Error() string { return e.msg }

// secretError is what the API server says of a Secret, without what it quotes
// of it.
func secretError(verb string, s *corev1.Secret, err error) error {
	var answer apierrors.APIStatus
	if err == nil || !errors.As(err, &answer) {
		return err
	}
	status := answer.Status()
	what := fmt.Sprintf("%s Secret %q: %s", verb, s.Name, status.Reason)
	if status.Details != nil {
		fields := map[string]bool{}
		for _, cause := range status.Details.Causes {
			fields[cause.Field] = true
		}
		if len(fields) > 0 {
			what += " (" + strings.Join(slices.Sorted(maps.Keys(fields)), ", ") + ")"
		}
	}
	switch status.Reason {
	case metav1.StatusReasonInvalid, metav1.StatusReasonBadRequest, metav1.StatusReasonForbidden, metav1.StatusReasonRequestEntityTooLarge:
		return &secretRefusedError{what}
	}
	return errors.New(what)
}
