package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/retry"
)

const (
	// restoreManager owns what is brought back until its own managers do.
	restoreManager = "fairway-restore"
	// restoreWorkers is how many objects are written at the same time.
	restoreWorkers = 16
	// restorePatience is how long nothing may go on before what is left has
	// failed: kinds that were just defined, and accounts that Kubernetes makes
	// for new namespaces, are there within seconds.
	restorePatience = 30 * time.Second
	restorePause    = 250 * time.Millisecond
)

// Restore brings objects into a cluster in which nothing works on them yet:
// in order, with the statuses of custom resources, with the same field managers
// and owners. What a new cluster has by itself is replaced.
// done, where set, is told how many are there.
func (c *Cluster) Restore(ctx context.Context, objects []*unstructured.Unstructured, done func(int)) error {
	r := &restoration{Cluster: c, uids: map[objectID]types.UID{}, custom: map[schema.GroupKind]bool{}, done: done}
	ranks := make([][]*unstructured.Unstructured, lastRank+1)
	for _, o := range objects {
		n := rank(o.GroupVersionKind().GroupKind())
		ranks[n] = append(ranks[n], o)
	}
	for _, some := range ranks[:lastRank] {
		if err := r.all(ctx, some, r.put); err != nil {
			return err
		}
	}
	// The UIDs of owners are all known now.
	before := slices.Concat(ranks[:lastRank]...)
	last := ranks[lastRank]
	for _, step := range []struct {
		objects []*unstructured.Unstructured
		do      func(context.Context, *unstructured.Unstructured) error
	}{
		{before, r.own}, {before, r.manage},
		// What refuses others has nothing to refuse any more.
		{last, r.put}, {last, r.own}, {last, r.manage},
	} {
		if err := r.all(ctx, step.objects, step.do); err != nil {
			return err
		}
	}
	return nil
}

// objectID names an object within a cluster, whatever the version.
type objectID struct {
	schema.GroupKind
	namespace, name string
}

type restoration struct {
	*Cluster
	done func(int)

	mu sync.Mutex
	// uids are those of what is there again.
	uids map[objectID]types.UID
	// custom are the kinds that definitions define.
	custom map[schema.GroupKind]bool
	count  int
}

// all calls do with each object, several at a time, and again with those that
// failed for as long as that gets any of them through.
func (r *restoration) all(ctx context.Context, objects []*unstructured.Unstructured, do func(context.Context, *unstructured.Unstructured) error) error {
	progress := time.Now()
	for left := objects; len(left) > 0; {
		failed, errs := r.round(ctx, left, do)
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(failed) == 0 {
			return nil
		}
		if len(failed) < len(left) {
			progress = time.Now()
		}
		if time.Since(progress) > restorePatience {
			return fmt.Errorf("%d objects cannot be restored: %w", len(failed), errors.Join(errs[:min(len(errs), 5)]...))
		}
		left = failed
		r.mapper.Reset()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restorePause):
		}
	}
	return nil
}

func (r *restoration) round(ctx context.Context, objects []*unstructured.Unstructured, do func(context.Context, *unstructured.Unstructured) error) (failed []*unstructured.Unstructured, errs []error) {
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(restoreWorkers)
	for _, o := range objects {
		group.Go(func() error {
			if err := do(ctx, o); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed, errs = append(failed, o), append(errs, told(o, err))
			}
			return nil
		})
	}
	_ = group.Wait() // errors are in errs
	return failed, errs
}

// told is the error without what may be a secret's value.
func told(o *unstructured.Unstructured, err error) error {
	if o.GetKind() == "Secret" {
		err = fmt.Errorf("refused: %s", apierrors.ReasonForError(err))
	}
	return fmt.Errorf("%s %s: %w", o.GroupVersionKind().GroupKind(), objectName(o), err)
}

func objectName(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetName()
	}
	return o.GetNamespace() + "/" + o.GetName()
}

// client is for the object's kind and namespace.
func (r *restoration) client(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := o.GroupVersionKind()
	mapping, err := r.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return r.dynamic.Resource(mapping.Resource).Namespace(o.GetNamespace()), nil
	}
	return r.dynamic.Resource(mapping.Resource), nil
}

func idOf(o *unstructured.Unstructured) objectID {
	return objectID{o.GroupVersionKind().GroupKind(), o.GetNamespace(), o.GetName()}
}

// put makes the object what it was, but for its owners and managers.
func (r *restoration) put(ctx context.Context, o *unstructured.Unstructured) error {
	client, err := r.client(o)
	if err != nil {
		return err
	}
	status := r.statusOf(o)
	live, err := r.write(ctx, client, clean(o, status))
	if err != nil {
		return err
	}
	if status != nil {
		if err := putStatus(ctx, client, o, live, status); err != nil {
			return fmt.Errorf("its status: %w", err)
		}
	}
	if resumed(o) {
		if err := patch(ctx, client, o.GetName(), map[string]any{"spec": map[string]any{"suspend": false}}); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.uids[idOf(o)] = live.GetUID()
	if o.GetKind() == "CustomResourceDefinition" {
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
		r.custom[schema.GroupKind{Group: group, Kind: kind}] = true
	}
	if r.count++; r.done != nil {
		r.done(r.count)
	}
	return nil
}

// write creates the object, or puts it in place of the one that is there.
func (r *restoration) write(ctx context.Context, client dynamic.ResourceInterface, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live, err := client.Create(ctx, o, metav1.CreateOptions{FieldManager: restoreManager})
	if !apierrors.IsAlreadyExists(err) {
		return live, err
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		there, err := client.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		in := o.DeepCopy()
		in.SetResourceVersion(there.GetResourceVersion())
		live, err = client.Update(ctx, in, metav1.UpdateOptions{FieldManager: restoreManager})
		return err
	})
	return live, err
}

// statusOf is the status that comes back: of custom resources, which nobody
// would make again, and of Jobs that have ended, which would run again.
func (r *restoration) statusOf(o *unstructured.Unstructured) map[string]any {
	status, _, _ := unstructured.NestedMap(o.Object, "status")
	if len(status) == 0 {
		return nil
	}
	r.mu.Lock()
	custom := r.custom[o.GroupVersionKind().GroupKind()]
	r.mu.Unlock()
	if custom || delivers(o.GroupVersionKind().Group) || finishedJob(o) {
		return status
	}
	return nil
}

func putStatus(ctx context.Context, client dynamic.ResourceInterface, o, live *unstructured.Unstructured, status map[string]any) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		in := live.DeepCopy()
		in.Object["status"] = observed(status, o.GetGeneration(), live.GetGeneration())
		_, err := client.UpdateStatus(ctx, in, metav1.UpdateOptions{FieldManager: restoreManager})
		switch {
		case apierrors.IsNotFound(err):
			return nil // it has no such subresource: the status came with the object
		case apierrors.IsConflict(err):
			if now, gerr := client.Get(ctx, o.GetName(), metav1.GetOptions{}); gerr == nil {
				live = now
			}
		}
		return err
	})
}

// own gives the object its owners again, by their new UIDs. An owner that is
// no more stays away: Kubernetes would remove the object at once.
func (r *restoration) own(ctx context.Context, o *unstructured.Unstructured) error {
	var refs []metav1.OwnerReference
	for _, ref := range o.GetOwnerReferences() {
		gk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind).GroupKind()
		for _, namespace := range []string{o.GetNamespace(), ""} {
			if uid, ok := r.uids[objectID{gk, namespace, ref.Name}]; ok {
				ref.UID = uid
				refs = append(refs, ref)
				break
			}
		}
	}
	if len(refs) == 0 {
		return nil
	}
	client, err := r.client(o)
	if err != nil {
		return err
	}
	return patch(ctx, client, o.GetName(), map[string]any{"metadata": map[string]any{"ownerReferences": refs}})
}

// manage gives the object its field managers again. An API server takes them
// as they are written where nothing else is.
func (r *restoration) manage(ctx context.Context, o *unstructured.Unstructured) error {
	fields := o.GetManagedFields()
	if len(fields) == 0 {
		return nil
	}
	client, err := r.client(o)
	if err != nil {
		return err
	}
	return patch(ctx, client, o.GetName(), map[string]any{"metadata": map[string]any{"managedFields": fields}})
}

func patch(ctx context.Context, client dynamic.ResourceInterface, name string, change map[string]any) error {
	data, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = client.Patch(ctx, name, types.MergePatchType, data, metav1.PatchOptions{FieldManager: restoreManager})
	if apierrors.IsNotFound(err) {
		return nil // its time was over, such as that of a Job which ended long ago
	}
	return err
}
