package deploy

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/fence"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// extra is what earlier plans applied and this one no longer has.
type extra struct {
	ref      core.ObjectRef
	live     *unstructured.Unstructured // nil where it is gone
	settings settings
	// keep says why it is not to be pruned; "" prunes it.
	keep string
	// unconfirmed: it is kept only until somebody confirms its end.
	unconfirmed bool
	// forget: it is no longer the owner's business.
	forget bool
	err    *ObjectError
}

// extras looks at what the inventory has and the plan has not. A part of a
// plan has the extras that were named.
func (c *Cluster) extras(ctx context.Context, pre *prepared) []*extra {
	named := map[core.ObjectRef]bool{}
	for _, r := range pre.plan.Only {
		named[r.Key()] = true
	}
	var list []*extra
	seen := map[core.ObjectRef]bool{}
	for _, ref := range pre.plan.Inventory {
		key := ref.Key()
		if pre.all[key] || seen[key] || pre.partial && !named[key] {
			continue
		}
		seen[key] = true
		list = append(list, &extra{ref: ref})
	}
	each(ctx, c.concurrency, list, func(ctx context.Context, x *extra) {
		if err := c.examineExtra(ctx, pre.plan, x); err != nil {
			x.err = objectError("prune", x.ref, err)
		}
	})
	return list
}

// examineExtra decides what becomes of an extra. What is gone, or has become
// somebody else's, is forgotten.
func (c *Cluster) examineExtra(ctx context.Context, p Plan, x *extra) error {
	live, err := c.ourselves().get(ctx, x.ref)
	if err != nil && !kube.IsMissingKind(err) {
		return err
	}
	if live == nil || !c.tracking.Tracks(p.Owner, live) {
		x.forget = true
		return nil
	}
	x.live = live
	// What an object's annotations ask for and we do not know must not be
	// found out by deleting it.
	s, err := settingsOf(p.Owner, live, p.Options)
	if err != nil {
		return &ObjectError{Ref: x.ref, Op: "prune", Reason: Unsupported, Err: err}
	}
	x.settings = s
	switch flux := p.Owner.Dialect == core.Flux; {
	case flux && (!p.Options.Prune || s.keep || s.leave):
		// Flux drops what it does not prune from its inventory.
		x.keep, x.forget = "pruning is disabled", true
	case s.keep:
		x.keep = "ignored (no prune)"
	case !p.Options.Prune:
		x.keep = "ignored (requires pruning)"
	case s.confirmPrune && !p.Options.Confirmed:
		x.keep, x.unconfirmed = "waits for its prune to be confirmed (Prune=confirm)", true
	}
	return nil
}

// prune deletes the extras that are to be pruned, all at once.
func (c *Cluster) prune(ctx context.Context, p Plan, list []*extra) {
	how := propagation(p.Owner.Dialect, p.Options.PropagationPolicy)
	each(ctx, c.concurrency, list, func(ctx context.Context, x *extra) {
		if x.err != nil || x.keep != "" || x.forget || x.live.GetDeletionTimestamp() != nil || p.Options.DryRun {
			return
		}
		if err := c.remove(ctx, x.live, how); err != nil {
			x.err = objectError("prune", x.ref, err)
		}
	})
}

// result says what became of the extra.
func (x *extra) result() ObjectResult {
	r := ObjectResult{Ref: x.ref, Wave: x.settings.wave, Action: Pruned, Health: core.Missing}
	switch {
	case x.err != nil:
		r.Action, r.Err, r.Message, r.Health = Failed, x.err, x.err.Error(), core.Unknown
	case x.keep != "":
		r.Action, r.Message, r.Live, r.Health = PruneSkipped, x.keep, x.live, core.Healthy
	}
	return r
}

// propagation is Argo CD's foreground or Flux' background, where nothing else
// is asked for.
func propagation(d core.Dialect, policy string) metav1.DeletionPropagation {
	switch policy {
	case "background":
		return metav1.DeletePropagationBackground
	case "orphan":
		return metav1.DeletePropagationOrphan
	case "foreground":
		return metav1.DeletePropagationForeground
	}
	if d == core.Flux {
		return metav1.DeletePropagationBackground
	}
	return metav1.DeletePropagationForeground
}

// guardEmpty refuses to prune all because nothing is left in the source, which
// Argo CD allows only with allowEmpty. Flux knows no such guard.
func guardEmpty(pre *prepared) error {
	o := pre.plan.Options
	if pre.empty && !pre.partial && o.Prune && !o.AllowEmpty &&
		pre.plan.Owner.Dialect == core.ArgoCD && len(pre.plan.Inventory) > 0 {
		return &EmptyPlanError{Owner: pre.plan.Owner}
	}
	return nil
}

// createNamespace makes the delivery's namespace where it is not there, and
// sets the metadata that are asked for. It is nobody's: it is not in the
// inventory and never pruned, as with Argo CD. We own just the metadata,
// under a name of their own, so that a Namespace in some manifest does not
// lose or gain any by it.
func (c *Cluster) createNamespace(ctx context.Context, pre *prepared) error {
	o := pre.plan.Options
	ref := core.ObjectRef{Version: "v1", Kind: "Namespace", Name: o.Namespace}
	if !o.CreateNamespace || o.Namespace == "" || pre.all[ref.Key()] || o.DryRun {
		return nil
	}
	err := c.applyNamespace(ctx, ref, o)
	for try := 0; try < mostConflicts && fence.From(ctx) != nil && apierrors.IsConflict(err); try++ {
		err = c.applyNamespace(ctx, ref, o)
	}
	if err != nil {
		return objectError("create", ref, fmt.Errorf("namespace for the delivery: %w", err))
	}
	return nil
}

func (c *Cluster) applyNamespace(ctx context.Context, ref core.ObjectRef, o Options) error {
	live, err := c.get(ctx, ref)
	if err != nil || live != nil && len(o.NamespaceLabels)+len(o.NamespaceAnnotations) == 0 {
		return err
	}
	ns := &unstructured.Unstructured{}
	ns.SetGroupVersionKind(ref.GroupVersionKind())
	ns.SetName(ref.Name)
	ns.SetLabels(o.NamespaceLabels)
	ns.SetAnnotations(o.NamespaceAnnotations)
	if fence.From(ctx) != nil {
		ns.SetResourceVersion(decidedOn(live))
	}
	res, err := c.client.For(ref)
	if err != nil {
		return err
	}
	_, err = res.Apply(ctx, ref.Name, ns, metav1.ApplyOptions{FieldManager: mark.FieldManager + "-namespace", Force: true})
	return err
}
