package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// setWriters is how many Applications of one set are written at a time.
const setWriters = 16

// fieldSetOwner is the index of Applications by the UID of their set.
const fieldSetOwner = "fairway.applicationset"

// ownerSet is the index' key of an Application.
func ownerSet(obj client.Object) []string {
	owner := metav1.GetControllerOfNoCopy(obj)
	if owner == nil || owner.Kind != argo.ApplicationSetKind {
		return nil
	}
	return []string{string(owner.UID)}
}

// live are the Applications that the set owns, and those that have a name that
// it wants. They are the cache's: nobody may change them.
func (s *setRun) live(ctx context.Context) ([]*unstructured.Unstructured, error) {
	owned, err := s.owned(ctx)
	if err != nil {
		return nil, err
	}
	have := make(map[string]bool, len(owned))
	for _, app := range owned {
		have[app.GetName()] = true
	}
	for _, app := range s.wanted {
		if have[app.GetName()] {
			continue
		}
		u := newApplicationObject(s.key.Namespace, app.GetName())
		err := s.client.Get(ctx, client.ObjectKeyFromObject(u), u)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get Application %s: %w", app.GetName(), err)
		}
		owned = append(owned, u)
	}
	return owned, nil
}

// owned are the Applications that the set has made.
func (s *setRun) owned(ctx context.Context) ([]*unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind + "List"))
	err := s.client.List(ctx, list, client.InNamespace(s.key.Namespace), client.MatchingFields{fieldSetOwner: string(s.object.GetUID())}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list the Applications of ApplicationSet %s: %w", s.key, err)
	}
	out := make([]*unstructured.Unstructured, len(list.Items))
	for i := range list.Items {
		out[i] = &list.Items[i]
	}
	return out, nil
}

func newApplicationObject(namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// carryOut does what the plan says. Nothing is deleted before all else has
// succeeded. The reason is that of the first failure, as Argo CD names it.
func (s *setRun) carryOut(ctx context.Context, plan []appset.Change) (reason string, err error) {
	for _, step := range []struct {
		action appset.Action
		reason string
		do     func(context.Context, *appset.Change) error
	}{
		{appset.Create, "CreateApplicationError", s.create},
		{appset.Update, "UpdateApplicationError", s.update},
		{appset.Delete, "DeleteApplicationError", s.remove},
	} {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(setWriters)
		done := 0
		for i := range plan {
			if plan[i].Action == step.action {
				done++
				group.Go(func() error { return step.do(ctx, &plan[i]) })
			}
		}
		if err := group.Wait(); err != nil {
			return step.reason, err
		}
		if done > 0 {
			log.FromContext(ctx).V(1).Info("Applications were written", "applicationset", s.key, "action", step.action, "count", done)
		}
	}
	return "", nil
}

// create makes an Application. One that is there after all, which the cache
// does not know yet, is looked at again when it does.
func (s *setRun) create(ctx context.Context, c *appset.Change) error {
	err := s.client.Create(ctx, c.Wanted.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		u := newApplicationObject(s.key.Namespace, c.Name)
		if err := s.reader.Get(ctx, client.ObjectKeyFromObject(u), u); err != nil {
			return fmt.Errorf("get Application %s: %w", c.Name, err)
		}
		if appset.Owns(s.set, u) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("create Application %s: %w", c.Name, err)
	}
	return nil
}

func (s *setRun) update(ctx context.Context, c *appset.Change) error {
	meta, _ := c.Patch["metadata"].(map[string]any)
	_, finalizers := meta["finalizers"]
	if _, owners := meta["ownerReferences"]; owners || finalizers {
		// A list is written whole: only onto what it was made of.
		meta["resourceVersion"] = c.Live.GetResourceVersion()
	}
	return s.patchApplication(ctx, c.Name, c.Patch)
}

// patchApplication writes a merge patch.
func (s *setRun) patchApplication(ctx context.Context, name string, patch map[string]any) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode a patch of Application %s: %w", name, err)
	}
	err = s.client.Patch(ctx, newApplicationObject(s.key.Namespace, name), client.RawPatch(types.MergePatchType, data))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("update Application %s: %w", name, err)
	}
	return nil
}

// remove deletes an Application that is not wanted any more. What it has
// deployed stays where the set says so, though its finalizer is from before.
func (s *setRun) remove(ctx context.Context, c *appset.Change) error {
	uid := c.Live.GetUID()
	if p := s.set.Spec.SyncPolicy; p != nil && p.PreserveResourcesOnDeletion {
		kept := slices.DeleteFunc(slices.Clone(c.Live.GetFinalizers()), func(f string) bool { return strings.HasPrefix(f, argo.Finalizer) })
		if len(kept) != len(c.Live.GetFinalizers()) {
			meta := map[string]any{"finalizers": kept, "uid": uid, "resourceVersion": c.Live.GetResourceVersion()}
			if err := s.patchApplication(ctx, c.Name, map[string]any{"metadata": meta}); err != nil {
				return err
			}
		}
	}
	err := s.client.Delete(ctx, newApplicationObject(s.key.Namespace, c.Name), client.Preconditions{UID: &uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete Application %s: %w", c.Name, err)
	}
	return nil
}
