package controller

import (
	"context"
	"errors"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/meta"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/drift"
)

// Flux writes an object's identity as NAMESPACE_NAME_GROUP_KIND, with ":" in
// a name (of RBAC objects) as "__" (cli-utils' object.ObjMetadata).
const (
	inventorySeparator = "_"
	inventoryColon     = "__"
)

// inventoryID is the identity as Flux writes it.
func inventoryID(r core.ObjectRef) string {
	return strings.Join([]string{r.Namespace, strings.ReplaceAll(r.Name, ":", inventoryColon), r.Group, r.Kind}, inventorySeparator)
}

// parseInventoryID reads it; false is for what is none.
func parseInventoryID(id, version string) (core.ObjectRef, bool) {
	namespace, rest, ok1 := strings.Cut(id, inventorySeparator)
	i := strings.LastIndex(rest, inventorySeparator)
	if !ok1 || i < 0 {
		return core.ObjectRef{}, false
	}
	rest, kind := rest[:i], rest[i+1:]
	i = strings.LastIndex(rest, inventorySeparator)
	if i < 0 || kind == "" || rest[:i] == "" {
		return core.ObjectRef{}, false
	}
	name := strings.ReplaceAll(rest[:i], inventoryColon, ":")
	return core.ObjectRef{Group: rest[i+1:], Version: version, Kind: kind, Namespace: namespace, Name: name}, true
}

// inventory is what was applied, as the status has it.
func (k *kustomizationRun) inventory() []core.ObjectRef {
	if k.status.Inventory == nil {
		return nil
	}
	var refs []core.ObjectRef
	for _, e := range k.status.Inventory.Entries {
		if ref, ok := parseInventoryID(e.ID, e.Version); ok {
			refs = append(refs, ref)
		}
	}
	return refs
}

func (k *kustomizationRun) setInventory(refs []core.ObjectRef) {
	k.status.Inventory = &kustomizev1.ResourceInventory{Entries: []kustomizev1.ResourceRef{}}
	for _, r := range refs {
		k.status.Inventory.Entries = append(k.status.Inventory.Entries, kustomizev1.ResourceRef{ID: inventoryID(r), Version: r.Version})
	}
}

// observe heals what the watch has seen to have drifted. Flux does so once an
// interval; we do when it happens.
func (k *kustomizationRun) observe(ctx context.Context) (reconcile.Result, error) {
	due, next := k.fights.due(lostOf(k.stages.Watcher.State(k.delivery.owner)), k.now)
	k.lookIn(next)
	if len(due) == 0 {
		return k.judge(ctx)
	}
	return k.healObjects(ctx, due)
}

// healObjects applies only what has drifted, from what is already rendered.
func (k *kustomizationRun) healObjects(ctx context.Context, lost []drift.ObjectState) (reconcile.Result, error) {
	options, err := k.optionsFor(k.target)
	if err != nil {
		return k.fail(ctx, "InvalidSpec", err)
	}
	plan := deploy.Plan{Owner: k.delivery.owner, Objects: k.target.objects.list(), Inventory: k.inventory(), Options: options}
	for _, s := range lost {
		plan.Only = append(plan.Only, s.Ref)
	}
	outcome, err := k.applyHeal(ctx, plan)
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	k.tellFights(k.object, &k.fights, k.fights.healed(lost, outcome.Results, k.now))
	k.lookIn(k.setFighting(&k.status.Conditions))
	// What an admission has answered otherwise again is not news to the watch.
	_, next := k.fights.due(lostOf(k.stages.Watcher.State(k.delivery.owner)), k.now)
	k.lookIn(next)
	var waiting *deploy.WaitingError
	if errors.As(err, &waiting) { // something has to be made anew
		k.deployed = ""
		return k.apply(ctx, k.target)
	}
	if err != nil {
		k.deployed = ""
		return k.fail(ctx, meta.ReconciliationFailedReason, err)
	}
	k.stats.heals.Inc()
	k.event(k.object, "Normal", "Healed", healed(lost))
	return k.judge(ctx)
}

// deletionWait is how long a deletion may wait for what it deletes before it
// says so.
const deletionWait = 2 * time.Minute
