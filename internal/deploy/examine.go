package deploy

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// lastApplied is kubectl's annotation. It goes when an object is adopted.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// examine looks at the cluster and gives each item its verdict or its error.
// It writes nothing.
func (c *Cluster) examine(ctx context.Context, pre *prepared, items []*item) {
	each(ctx, c.concurrency, items, func(ctx context.Context, it *item) {
		if err := c.examineOne(ctx, pre, it); err != nil {
			it.err = objectError("validate", it.ref, err)
		}
	})
}

func (c *Cluster) examineOne(ctx context.Context, pre *prepared, it *item) error {
	if it.settings.leave {
		it.verdict, it.note = skip, "its annotations say not to reconcile it"
		return nil
	}
	if pre.plan.Known != nil && it.hook == nil {
		if seen, ok := pre.plan.Known(it.ref.Key()); ok && seen.Digest == it.digest {
			it.verdict, it.seen = known, seen
			return nil
		}
	}
	if it.hook == nil && !it.settings.replace && len(it.ignored) == 0 {
		// Nothing of the live object goes into what is sent, and a new one need
		// not be asked for: the API server gives no version to what it does not
		// keep.
		if merged, err := c.send(ctx, it, mark.Applied{Digest: it.digest, Owned: "0"}, true); err == nil {
			if it.merged = merged; merged.GetResourceVersion() == "" {
				it.verdict = create
				return nil
			}
		}
	}
	live, err := c.get(ctx, it.ref)
	if err != nil {
		return it.comesLater(pre, err)
	}
	it.live = live
	if it.hook != nil {
		// It is made anew each time; all that can be known now is whether the
		// manifest is sound, and only where there is no old one in the way.
		it.verdict = create
		if live != nil {
			return nil
		}
	}
	if live != nil {
		if done, err := c.yields(ctx, pre, it); done || err != nil {
			return err
		}
	}
	for try := range 3 {
		if try == 0 && it.merged != nil && it.live != nil {
			it.judge(pre, mark.Ignored{})
		} else if err := c.rehearse(ctx, pre, it); err != nil {
			return err
		}
		if it.live == nil || it.remake || it.merged == nil || it.merged.GetResourceVersion() == it.live.GetResourceVersion() {
			return nil
		}
		// Somebody wrote between the two answers, so that they do not compare.
		if it.live, err = c.get(ctx, it.ref); err != nil {
			return err
		}
	}
	return nil
}

// get returns the live object, or nil where there is none.
func (c *Cluster) get(ctx context.Context, ref core.ObjectRef) (*unstructured.Unstructured, error) {
	res, err := c.client.For(ref)
	if err != nil {
		return nil, err
	}
	live, err := res.Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return live, err
}

// comesLater leaves an item undecided whose kind, namespace or service account
// is not there but comes with the plan, or that may wait for its kind;
// otherwise the error stands.
func (it *item) comesLater(pre *prepared, err error) error {
	var kind *kube.MissingKindError
	gk := schema.GroupKind{Group: it.ref.Group, Kind: it.ref.Kind}
	it.lacks = err
	switch {
	case errors.As(err, &kind):
		if _, ok := pre.kinds[gk]; ok || it.settings.skipDryRunMissing {
			return nil
		}
	case missingNamespace(it.ref, err) && pre.namespaces[it.ref.Namespace]:
		return nil
	case it.live == nil && apierrors.IsForbidden(err) && pre.bringsAccount(it.obj):
		return nil
	}
	return err
}

// bringsAccount says whether the service account of a bare Pod, without which
// admission forbids the Pod, comes with the plan: as an object, or, if it is
// the default one, with its namespace.
func (pre *prepared) bringsAccount(obj *unstructured.Unstructured) bool {
	if gvk := obj.GroupVersionKind(); gvk.Group != "" || gvk.Kind != "Pod" {
		return false
	}
	name, _, _ := unstructured.NestedString(obj.Object, "spec", "serviceAccountName")
	if name == "" {
		name = "default"
	}
	account := core.ObjectRef{Kind: "ServiceAccount", Namespace: obj.GetNamespace(), Name: name}
	return pre.all[account.Key()] || name == "default" && pre.namespaces[obj.GetNamespace()]
}

// yields says whether the item is left as it is: because its annotations say
// so, or because another delivery has it.
func (c *Cluster) yields(ctx context.Context, pre *prepared, it *item) (bool, error) {
	if pre.plan.Owner.Dialect == core.Flux {
		// Flux reads these from the cluster too.
		s, err := settingsOf(pre.plan.Owner, it.live, Options{})
		if err == nil && s.leave {
			it.verdict, it.note = skip, "its annotations in the cluster say not to reconcile it"
			return true, nil
		}
	}
	if it.settings.absentOnly {
		it.verdict, it.note = skip, "it is there already (ssa: IfNotPresent)"
		return true, nil
	}
	owner, taken, err := c.rival(ctx, pre.plan.Owner, it.live)
	if err != nil || !taken {
		return false, err
	}
	it.owner = owner
	if pre.plan.Options.FailOnSharedResource || pre.plan.Owner.Dialect == core.Flux {
		return false, &ObjectError{Ref: it.ref, Op: "apply", Reason: Shared,
			Err: fmt.Errorf("it is part of %s", owner)}
	}
	it.verdict, it.note = shared, fmt.Sprintf("it is part of %s and was left alone", owner)
	return true, nil
}

// rehearse sends the item with dry-run and compares the answer.
func (c *Cluster) rehearse(ctx context.Context, pre *prepared, it *item) error {
	ig, err := ignoredIn(ctx, it.ignored, it.live, it.obj)
	if err != nil {
		return &ObjectError{Ref: it.ref, Op: "compare", Reason: Invalid, Err: err}
	}
	if !ig.Empty() {
		send := it.obj.DeepCopy()
		ig.Write(send)
		if pre.plan.Options.RespectIgnoreDifferences && it.live != nil {
			respect(send, it.live, ig)
		}
		it.obj = send
	}
	merged, err := c.send(ctx, it, mark.Applied{Digest: it.digest, Owned: "0"}, true)
	if err != nil && it.settings.skipValidate && isSchema(err) {
		// A server-side apply cannot be without a schema; a replacement can.
		it.settings.replace = true
		merged, err = c.send(ctx, it, mark.Applied{Digest: it.digest, Owned: "0"}, true)
	}
	if err != nil {
		if isImmutable(err) && it.live != nil && it.settings.force {
			it.verdict, it.merged, it.remake = configure, nil, true
			return c.replaceable(ctx, it)
		}
		return it.comesLater(pre, err)
	}
	it.merged = merged
	it.judge(pre, ig)
	return nil
}

// judge compares what an apply would make of the live object with the object.
func (it *item) judge(pre *prepared, ig mark.Ignored) {
	switch {
	case it.live == nil:
		it.verdict = create
	case !it.settings.merge && mark.HasPredecessor(pre.plan.Owner.Dialect, it.live) != "",
		!equality.Semantic.DeepEqual(content(it.live, ig).Object, content(it.merged, ig).Object):
		it.verdict = configure
	case !it.evident():
		it.verdict = refresh
	default:
		it.verdict = unchanged
	}
}

// evident says whether the live object tells of this very apply.
func (it *item) evident() bool {
	applied, ok := mark.ReadApplied(it.live)
	return ok && applied.Digest == it.digest && mark.Intact(it.live)
}

// content is obj without what an apply does not decide: the API server's
// own fields, the status, the evidence, and what is ignored.
func content(obj *unstructured.Unstructured, ig mark.Ignored) *unstructured.Unstructured {
	obj = obj.DeepCopy()
	for _, f := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(obj.Object, "metadata", f)
	}
	unstructured.RemoveNestedField(obj.Object, "status")
	for _, k := range []string{mark.AnnotationApplied, mark.AnnotationIgnored} {
		unstructured.RemoveNestedField(obj.Object, "metadata", "annotations", k)
	}
	if len(obj.GetAnnotations()) == 0 {
		unstructured.RemoveNestedField(obj.Object, "metadata", "annotations")
	}
	for _, p := range ig.Pointers {
		remove(obj.Object, p)
	}
	return obj
}
