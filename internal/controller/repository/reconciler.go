// Package repository reconciles Repository objects of fairway-cd.io: one
// stands for each Git repository that the instance serves, so that
// permissions on it are Kubernetes RBAC.
package repository

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	fairway "github.com/fairway-cd/fairway/api/fairway/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// Finalizer keeps a Repository object until the repository itself is gone.
const Finalizer = "fairway-cd.io/repository"

// Store is what keeps the repositories. Implementations are safe for
// concurrent use.
type Store interface {
	List(ctx context.Context) ([]core.Name, error)
	Exists(ctx context.Context, name core.Name) (bool, error)
	Create(ctx context.Context, name core.Name) error
	Delete(ctx context.Context, name core.Name) error
	Describe(ctx context.Context, name core.Name) (Description, error)
	// SetDefaultBranch has clones check the branch out. One that is not there
	// changes nothing.
	SetDefaultBranch(ctx context.Context, name core.Name, branch string) error
	// Limit sets the repository's own limits, nil for none.
	Limit(ctx context.Context, name core.Name, limits *fairway.RepositoryLimits) error
	// InsteadOf returns the URLs that the repository serves, SetInsteadOf
	// replaces them. A URL that another repository serves is an error.
	InsteadOf(ctx context.Context, name core.Name) ([]string, error)
	SetInsteadOf(ctx context.Context, name core.Name, urls []string) error
}

// Description is how a repository stands.
type Description struct {
	URL           string
	DefaultBranch string
	// Size is in bytes, and may be a minute old.
	Size     int64
	Branches int
	LastPush *fairway.Push
}

// Reconciler makes the store and the objects agree. An object makes a
// repository; a repository without an object, as after a lost cluster, gets
// one; an object deleted deletes the repository.
type Reconciler struct {
	client client.Client
	store  Store
	pushed chan event.TypedGenericEvent[*fairway.Repository]
}

// New makes a Reconciler.
func New(c client.Client, store Store) *Reconciler {
	return &Reconciler{client: c, store: store, pushed: make(chan event.TypedGenericEvent[*fairway.Repository], 256)}
}

// SetupWithManager starts it with the manager.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).For(&fairway.Repository{}).
		WatchesRawSource(source.Channel(r.pushed, &handler.TypedEnqueueRequestForObject[*fairway.Repository]{})).
		Named("repository").Complete(r)
}

// Pushed says that a reference of the repository has moved. It never blocks:
// where the queue is full, the object's status is late until the next push or
// resync, and nothing else depends on it.
func (r *Reconciler) Pushed(name core.Name) {
	obj := &fairway.Repository{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name}}
	select {
	case r.pushed <- event.TypedGenericEvent[*fairway.Repository]{Object: obj}:
	default:
	}
}

// Adopt makes objects for the repositories that have none.
func (r *Reconciler) Adopt(ctx context.Context) error {
	names, err := r.store.List(ctx)
	if err != nil {
		return fmt.Errorf("listing repositories: %w", err)
	}
	for _, name := range names {
		if err := r.Ensure(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// Ensure makes the object of a repository, if there is none.
func (r *Reconciler) Ensure(ctx context.Context, name core.Name) error {
	urls, err := r.store.InsteadOf(ctx, name)
	if err != nil {
		return err
	}
	obj := &fairway.Repository{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: name.Name,
		Finalizers: []string{Finalizer}}}
	obj.Spec.InsteadOf = urls
	err = r.client.Create(ctx, obj)
	if client.IgnoreAlreadyExists(err) != nil {
		return fmt.Errorf("making the Repository object %s: %w", name, err)
	}
	return nil
}

// statusDelay bounds how often a busy repository's status is written.
const statusDelay = 2 * time.Second

// sizeDelay is how long after something has changed the size is told of: longer
// than a Description's may be old.
const sizeDelay = time.Minute + time.Second

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	obj := &fairway.Repository{}
	if err := r.client.Get(ctx, req.NamespacedName, obj); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	name := core.Name{Namespace: obj.Namespace, Name: obj.Name}
	if !obj.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, r.remove(ctx, obj, name)
	}
	if controllerutil.AddFinalizer(obj, Finalizer) {
		if err := r.client.Update(ctx, obj); err != nil {
			return ctrl.Result{}, err
		}
	}
	before := obj.DeepCopy()
	cause := r.make(ctx, obj, name)
	r.describe(ctx, obj, name)
	setReady(obj, cause)
	if equality.Semantic.DeepEqual(before.Status, obj.Status) {
		return ctrl.Result{}, cause
	}
	// What it takes on the disk is measured now and then: the last push of many
	// is told of by the time that this is due.
	later := ctrl.Result{RequeueAfter: sizeDelay}
	if last := before.Status.LastPush; cause == nil && last != nil && time.Since(last.Time.Time) < statusDelay && obj.Status.ObservedGeneration == before.Status.ObservedGeneration {
		return ctrl.Result{RequeueAfter: statusDelay}, nil
	}
	if err := r.client.Status().Patch(ctx, obj, client.MergeFrom(before)); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if cause != nil {
		return ctrl.Result{}, cause
	}
	return later, nil
}

func (r *Reconciler) remove(ctx context.Context, obj *fairway.Repository, name core.Name) error {
	if !controllerutil.ContainsFinalizer(obj, Finalizer) {
		return nil
	}
	if err := r.store.Delete(ctx, name); err != nil {
		return fmt.Errorf("deleting repository %s: %w", name, err)
	}
	controllerutil.RemoveFinalizer(obj, Finalizer)
	return client.IgnoreNotFound(r.client.Update(ctx, obj))
}

// make brings the store to what the spec says.
func (r *Reconciler) make(ctx context.Context, obj *fairway.Repository, name core.Name) error {
	there, err := r.store.Exists(ctx, name)
	if err != nil {
		return fmt.Errorf("looking for repository %s: %w", name, err)
	}
	if !there {
		if err := r.store.Create(ctx, name); err != nil {
			return fmt.Errorf("creating repository %s: %w", name, err)
		}
	}
	if err := r.store.Limit(ctx, name, obj.Spec.Limits); err != nil {
		return fmt.Errorf("limiting repository %s: %w", name, err)
	}
	if branch := obj.Spec.DefaultBranch; branch != "" {
		if err := r.store.SetDefaultBranch(ctx, name, branch); err != nil {
			return fmt.Errorf("setting the default branch of repository %s: %w", name, err)
		}
	}
	return r.store.SetInsteadOf(ctx, name, obj.Spec.InsteadOf)
}

func (r *Reconciler) describe(ctx context.Context, obj *fairway.Repository, name core.Name) {
	d, err := r.store.Describe(ctx, name)
	if err != nil {
		return // the Ready condition says it
	}
	branches := int32(d.Branches)
	obj.Status.URL = d.URL
	obj.Status.Size = resource.NewQuantity(d.Size, resource.BinarySI)
	obj.Status.Branches = &branches
	obj.Status.LastPush = d.LastPush
}

func setReady(obj *fairway.Repository, cause error) {
	c := metav1.Condition{Type: fairway.ConditionReady, Status: metav1.ConditionTrue, Reason: "Served",
		Message: "the repository is served", ObservedGeneration: obj.Generation}
	if cause != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Failed", cause.Error()
	}
	meta.SetStatusCondition(&obj.Status.Conditions, c)
	obj.Status.ObservedGeneration = obj.Generation
}
