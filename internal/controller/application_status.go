package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
)

// explain is the error's text with its hint, if it has one.
func explain(err error) string {
	var hinted core.Hinted
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		return err.Error() + " (" + hinted.Hint() + ")"
	}
	return err.Error()
}

// applied takes the outcome of an apply into the status. partial says that
// the apply was not of the whole target.
func (a *applicationRun) applied(t *target, outcome *deploy.Outcome, partial bool) {
	a.appliedSoFar(t, outcome, partial)
	a.stages.Watcher.Expect(a.delivery.owner, outcome.Inventory)
}

// appliedSoFar does so with an apply that waits. What it has not come to, and
// nobody has seen, is not expected to be there.
func (a *applicationRun) appliedSoFar(t *target, outcome *deploy.Outcome, partial bool) {
	before := resourcesByKey(a.status.Resources)
	after := map[core.ObjectRef]argo.ResourceStatus{}
	if partial {
		after = before
	} else {
		for _, o := range t.objects.list() {
			if !isHook(o) {
				ref := a.placed(refOf(o), outcome)
				after[ref.Key()] = carry(before, ref, argo.SyncOutOfSync)
			}
		}
		for _, ref := range outcome.Inventory {
			if _, wanted := after[ref.Key()]; !wanted {
				r := carry(before, ref, argo.SyncOutOfSync)
				r.RequiresPruning = true
				after[ref.Key()] = r
			}
		}
	}
	for _, result := range outcome.Results {
		a.takeResult(after, before, result)
	}
	for key, r := range after {
		r.RequiresDeletionConfirmation = a.confirm[key]
		after[key] = r
	}
	a.setResources(after)
	a.warn(outcome.Warnings)
	var seen []core.ObjectRef
	for _, ref := range outcome.Inventory {
		if r, known := after[ref.Key()]; known && r.Health != nil {
			seen = append(seen, ref)
		}
	}
	a.stages.Watcher.Expect(a.delivery.owner, seen)
}

// placed is where the deployer has put an object that names no namespace.
func (a *applicationRun) placed(ref core.ObjectRef, outcome *deploy.Outcome) core.ObjectRef {
	if ref.Namespace != "" {
		return ref
	}
	in := ref
	in.Namespace = a.delivery.options.Namespace
	for _, list := range [][]core.ObjectRef{outcome.Inventory, resultRefs(outcome.Results)} {
		if slices.ContainsFunc(list, func(r core.ObjectRef) bool { return r.Key() == in.Key() }) {
			return in
		}
	}
	return ref
}

func resultRefs(results []deploy.ObjectResult) []core.ObjectRef {
	refs := make([]core.ObjectRef, len(results))
	for i, r := range results {
		refs[i] = r.Ref
	}
	return refs
}

func (a *applicationRun) takeResult(after, before map[core.ObjectRef]argo.ResourceStatus, result deploy.ObjectResult) {
	if result.Hook != "" {
		return
	}
	key := result.Ref.Key()
	r, known := after[key]
	if !known {
		r = carry(before, result.Ref, argo.SyncOutOfSync)
	}
	switch result.Action {
	case deploy.Created, deploy.Configured, deploy.Unchanged:
		r.Status, r.RequiresPruning = argo.SyncSynced, false
	case deploy.Pruned:
		delete(after, key)
		return
	case deploy.PruneSkipped:
		r.Status, r.RequiresPruning = argo.SyncOutOfSync, true
	case deploy.Failed:
		r.Status = argo.SyncUnknown
	case deploy.Skipped:
		if !known {
			return
		}
	}
	r.SyncWave = int64(result.Wave)
	if result.Health != "" {
		r.Health = a.health(r.Health, result.Health, result.Message)
	}
	after[key] = r
}

// compared takes a comparison into the status.
func (a *applicationRun) compared(c *deploy.Comparison) {
	before := resourcesByKey(a.status.Resources)
	after := map[core.ObjectRef]argo.ResourceStatus{}
	for _, d := range c.Differences {
		if d.Hook != "" {
			continue
		}
		r := carry(before, d.Ref, argo.SyncOutOfSync)
		switch d.State {
		case deploy.InSync:
			r.Status = argo.SyncSynced
		case deploy.Extra:
			r.RequiresPruning = true
		case deploy.Uncompared:
			r.Status = argo.SyncUnknown
			if d.Err != nil {
				a.condition(argo.ConditionComparisonError, explain(d.Err))
			}
		}
		if d.Health != "" {
			r.Health = a.health(r.Health, d.Health, d.Message)
		}
		after[d.Ref.Key()] = r
	}
	a.setResources(after)
	a.warn(c.Warnings)
	a.stages.Watcher.Expect(a.delivery.owner, inventoryOf(a.status.Resources))
}

// observed takes what the watch knows into the status, and returns what has
// drifted.
func (a *applicationRun) observed(ctx context.Context, states []drift.ObjectState) []drift.ObjectState {
	resources := resourcesByKey(a.status.Resources)
	var lost []drift.ObjectState
	freed := false
	for _, s := range states {
		r, known := resources[s.Ref.Key()]
		if !known || r.RequiresPruning {
			continue
		}
		r.Status = argo.SyncSynced
		switch {
		case s.TakenBy != nil && a.gone(ctx, *s.TakenBy):
			r.Status, freed = argo.SyncOutOfSync, true
			lost = append(lost, s)
		case s.TakenBy != nil:
			r.Status = argo.SyncOutOfSync
			a.condition(argo.ConditionSharedResourceWarning, fmt.Sprintf("%s is part of %s and of %s", s.Ref, a.delivery.owner, s.TakenBy))
		case s.Drift != drift.None:
			r.Status = argo.SyncOutOfSync
			lost = append(lost, s)
		}
		if s.Health != "" {
			r.Health = a.health(r.Health, s.Health, s.Message)
		}
		resources[s.Ref.Key()] = r
	}
	a.setResources(resources)
	// What the last operation has warned of still holds, unless another
	// delivery has let go of an object.
	for _, c := range a.app.Status.Conditions {
		if !freed && c.Type == argo.ConditionSharedResourceWarning {
			a.condition(c.Type, c.Message)
		}
	}
	return lost
}

// gone says that there is no such delivery any more, so that what it has left
// behind can be taken.
func (a *applicationRun) gone(ctx context.Context, o core.Owner) bool {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	if o.Dialect == core.Flux {
		u.SetGroupVersionKind(flux.Kustomization)
	}
	return apierrors.IsNotFound(a.client.Get(ctx, types.NamespacedName{Namespace: o.Namespace, Name: o.Name}, u))
}

// warn turns the deployer's warnings into conditions.
func (a *applicationRun) warn(warnings []deploy.Warning) {
	for _, w := range warnings {
		a.condition(string(w.Kind), w.Message)
	}
}

// setResources sets the resources, and with them the sync status and health of
// the whole.
func (a *applicationRun) setResources(by map[core.ObjectRef]argo.ResourceStatus) {
	list := make([]argo.ResourceStatus, 0, len(by))
	for _, r := range by {
		list = append(list, r)
	}
	slices.SortFunc(list, func(x, y argo.ResourceStatus) int {
		return cmp.Or(cmp.Compare(x.Group, y.Group), cmp.Compare(x.Kind, y.Kind),
			cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	a.status.Resources = list
	sync, worst, message := argo.SyncSynced, core.Healthy, ""
	for _, r := range list {
		if syncRank[r.Status] > syncRank[sync] {
			sync = r.Status
		}
		if r.Health != nil && healthRank[core.Health(r.Health.Status)] > healthRank[worst] {
			worst = core.Health(r.Health.Status)
			message = fmt.Sprintf("%s %s: %s", r.Kind, r.Name, r.Health.Message)
		}
	}
	a.status.Sync.Status = sync
	h := a.health((*argo.HealthStatus)(&a.status.Health), worst, message)
	a.status.Health = argo.AppHealthStatus(*h)
}

// The orders in which the worst of many is found.
var (
	syncRank   = map[argo.SyncStatusCode]int{argo.SyncSynced: 0, argo.SyncOutOfSync: 1, argo.SyncUnknown: 2}
	healthRank = map[core.Health]int{core.Healthy: 0, core.Suspended: 1, core.Progressing: 2, core.Missing: 3, core.Degraded: 4, core.Unknown: 5}
)

// health is h with a new status; its time changes with the status only.
func (a *applicationRun) health(h *argo.HealthStatus, status core.Health, message string) *argo.HealthStatus {
	if h != nil && h.Status == string(status) && h.LastTransitionTime != nil {
		return &argo.HealthStatus{Status: h.Status, Message: message, LastTransitionTime: h.LastTransitionTime}
	}
	return &argo.HealthStatus{Status: string(status), Message: message, LastTransitionTime: &metav1.Time{Time: a.now}}
}

func resourcesByKey(list []argo.ResourceStatus) map[core.ObjectRef]argo.ResourceStatus {
	by := make(map[core.ObjectRef]argo.ResourceStatus, len(list))
	for _, r := range list {
		by[resourceRef(r).Key()] = r
	}
	return by
}

func resourceRef(r argo.ResourceStatus) core.ObjectRef {
	return core.ObjectRef{Group: r.Group, Version: r.Version, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
}

// inventoryOf are the resources as the deployer wants them.
func inventoryOf(list []argo.ResourceStatus) []core.ObjectRef {
	refs := make([]core.ObjectRef, len(list))
	for i, r := range list {
		refs[i] = resourceRef(r)
	}
	return refs
}

// carry is the resource with what was known of its health before.
func carry(before map[core.ObjectRef]argo.ResourceStatus, ref core.ObjectRef, status argo.SyncStatusCode) argo.ResourceStatus {
	return argo.ResourceStatus{
		Group: ref.Group, Version: ref.Version, Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name,
		Status: status, Health: before[ref.Key()].Health, SyncWave: before[ref.Key()].SyncWave,
	}
}

// annotationHook marks what is no resource but part of an operation.
const annotationHook = "argocd.argoproj.io/hook"

func isHook(o *unstructured.Unstructured) bool {
	_, argoHook := o.GetAnnotations()[annotationHook]
	_, helmHook := o.GetAnnotations()["helm.sh/hook"]
	return argoHook || helmHook
}

// syncResult is the outcome as Argo CD writes it down.
func (a *applicationRun) syncResult(t *target, outcome *deploy.Outcome) *argo.SyncOperationResult {
	r := &argo.SyncOperationResult{Source: a.sourceOf(), Sources: a.app.Spec.Sources}
	if len(a.app.Spec.Sources) > 0 {
		r.Revisions = t.commits()
	} else {
		r.Revision = t.revision()
	}
	if p := a.app.Spec.SyncPolicy; p != nil {
		r.ManagedNamespaceMetadata = p.ManagedNamespaceMetadata
	}
	codes := map[deploy.Action]argo.ResultCode{
		deploy.Created: argo.ResultSynced, deploy.Configured: argo.ResultSynced, deploy.Unchanged: argo.ResultSynced,
		deploy.Pruned: argo.ResultPruned, deploy.PruneSkipped: argo.ResultPruneSkipped, deploy.Failed: argo.ResultSyncFailed,
	}
	for _, o := range outcome.Results {
		message := o.Message
		if message == "" {
			message = string(o.Action)
		}
		if o.Err != nil {
			message = explain(o.Err)
		}
		phase := argo.OperationPhase("")
		if o.Hook != "" && o.Action != deploy.Skipped {
			switch {
			case o.Err != nil:
				phase = argo.OperationFailed
			case o.Health == core.Healthy:
				phase = argo.OperationSucceeded
			default:
				phase = argo.OperationRunning
			}
		}
		r.Resources = append(r.Resources, argo.ResourceResult{
			Group: o.Ref.Group, Version: o.Ref.Version, Kind: o.Ref.Kind, Namespace: o.Ref.Namespace, Name: o.Ref.Name,
			Status: codes[o.Action], Message: message, HookType: o.Hook, HookPhase: phase,
		})
	}
	return r
}
