package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/fence"
	"github.com/fairway-cd/fairway/internal/mark"
)

// send applies an item with this evidence and returns the answer. With dry
// set the API server does all but keep it.
func (c *Cluster) send(ctx context.Context, it *item, a mark.Applied, dry bool) (*unstructured.Unstructured, error) {
	obj := it.obj.DeepCopy()
	a.Write(obj)
	res, err := c.client.For(it.ref)
	if err != nil {
		return nil, err
	}
	var dryRun []string
	if dry {
		dryRun = []string{metav1.DryRunAll}
	}
	validation := metav1.FieldValidationStrict
	if it.settings.skipValidate {
		validation = metav1.FieldValidationIgnore
	}
	if it.settings.replace {
		if it.live == nil {
			return res.Create(ctx, obj, metav1.CreateOptions{FieldManager: mark.FieldManager, FieldValidation: validation, DryRun: dryRun})
		}
		obj.SetResourceVersion(it.live.GetResourceVersion())
		return res.Update(ctx, obj, metav1.UpdateOptions{FieldManager: mark.FieldManager, FieldValidation: validation, DryRun: dryRun})
	}
	if !dry && fence.From(ctx) != nil {
		obj.SetResourceVersion(decidedOn(it.live))
	}
	body, err := json.Marshal(obj.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", it.ref, err)
	}
	force := true
	return res.Patch(ctx, it.ref.Name, types.ApplyPatchType, body, metav1.PatchOptions{
		FieldManager: mark.FieldManager, Force: &force, FieldValidation: validation, DryRun: dryRun,
	})
}

// write brings an examined item into the cluster and returns what is there
// now. The item's verdict is create or configure. One that can only be made
// anew is deleted, and waits for that.
func (c *Cluster) write(ctx context.Context, d core.Dialect, it *item) (*unstructured.Unstructured, error) {
	if it.remake {
		it.await(UntilCleared, core.Progressing, fmt.Sprint("finalizers: ", it.live.GetFinalizers()))
		return nil, c.remove(ctx, it.live, metav1.DeletePropagationBackground)
	}
	if it.live != nil && !it.settings.merge {
		if err := c.adopt(ctx, d, it.live); err != nil {
			return nil, err
		}
	}
	evidence := func(from *unstructured.Unstructured) mark.Applied {
		return mark.Applied{Digest: it.digest, Owned: mark.Owned(from, mark.ReadIgnored(from))}
	}
	first := evidence(it.merged)
	live, err := c.send(ctx, it, first, false)
	if err != nil {
		return nil, err
	}
	// What was answered is not what the dry-run said where an admission
	// changes fields of ours to something else each time, or somebody else
	// wrote in between. The evidence then tells of what is there.
	if again := evidence(live); again != first {
		it.live = live
		return c.send(ctx, it, again, false)
	}
	return live, nil
}

// replaceable fails where the item would be refused even with the live object
// out of the way, so that it is not deleted for nothing. The API server answers
// a rehearsed creation under a name that is taken with AlreadyExists, and does
// so after validation and admission.
//
// A quota that has no place beside the live object, or a node port of a Service
// that the live one keeps, is refused with the rest: what is there stays.
func (c *Cluster) replaceable(ctx context.Context, it *item) error {
	res, err := c.client.For(it.ref)
	if err != nil {
		return err
	}
	obj := it.obj.DeepCopy()
	mark.Applied{Digest: it.digest, Owned: "0"}.Write(obj)
	validation := metav1.FieldValidationStrict
	if it.settings.skipValidate {
		validation = metav1.FieldValidationIgnore
	}
	_, err = res.Create(ctx, obj, metav1.CreateOptions{FieldManager: mark.FieldManager, FieldValidation: validation, DryRun: []string{metav1.DryRunAll}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// remove deletes just this object, as the decision was made on it: one of the
// same name that came in its place meanwhile is left alone, and one that was
// changed meanwhile is deleted only where that has changed nothing of whose it
// is and of what it asks for. That it is gone already is no error. The error of a change is a Conflict: it is to be decided anew.
func (c *Cluster) remove(ctx context.Context, live *unstructured.Unstructured, how metav1.DeletionPropagation) error {
	res, err := c.client.For(refOf(live))
	if err != nil {
		return err
	}
	uid := live.GetUID()
	for try := 0; ; try++ {
		version := live.GetResourceVersion()
		err := res.Delete(ctx, live.GetName(), metav1.DeleteOptions{
			PropagationPolicy: &how, Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
		})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if !apierrors.IsConflict(err) || try == mostConflicts {
			return err
		}
		now, readErr := c.ourselves().get(ctx, refOf(live))
		switch {
		case readErr != nil:
			return readErr
		case now == nil || now.GetUID() != uid:
			return nil
		case !maps.Equal(asked(now), asked(live)):
			return err
		}
		live = now
	}
}

// asked are the labels and annotations of an object that say whose it is, what
// was applied of it and how it is to be treated. Others are of controllers that
// write as they go.
func asked(obj *unstructured.Unstructured) map[string]string {
	out := map[string]string{}
	for _, set := range []map[string]string{obj.GetLabels(), obj.GetAnnotations()} {
		for key, value := range set {
			group, _, _ := strings.Cut(key, "/")
			if group == "argocd.argoproj.io" || group == core.Group || group == "helm.sh" || strings.HasSuffix(group, ".toolkit.fluxcd.io") {
				out[key] = value
			}
		}
	}
	return out
}
