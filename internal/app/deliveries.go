package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argoproj "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/web"
)

var _ web.Deliveries = (*deliveries)(nil)

// annotationPinned marks a delivery that is held at a revision.
const annotationPinned = "fairway-cd.io/pinned-revision"

// deliveries shows the API what the engine delivers, from the engine's own
// cache: asking costs the API server nothing.
type deliveries struct {
	reader client.Reader

	mu      sync.Mutex
	changed chan struct{}
}

func newDeliveries(reader client.Reader) *deliveries {
	return &deliveries{reader: reader, changed: make(chan struct{})}
}

// watch has changes of all kinds announced.
func (d *deliveries) watch(ctx context.Context, informers cache.Informers) error {
	for _, kind := range []schema.GroupVersionKind{applicationKind, flux.Kustomization, flux.HelmRelease} {
		obj := &unstructured.Unstructured{}
		obj.SetGroupVersionKind(kind)
		informer, err := informers.GetInformer(ctx, obj)
		if err != nil {
			return fmt.Errorf("watching deliveries for the UI: %w", err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { d.announce() },
			UpdateFunc: func(_, _ any) { d.announce() },
			DeleteFunc: func(any) { d.announce() },
		}); err != nil {
			return fmt.Errorf("watching deliveries for the UI: %w", err)
		}
	}
	return nil
}

func (d *deliveries) announce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

// Changed implements web.Deliveries.
func (d *deliveries) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// List implements web.Deliveries.
func (d *deliveries) List(ctx context.Context) ([]web.Delivery, error) {
	apps, err := listAs[argoproj.Application](ctx, d.reader, applicationKind)
	if err != nil {
		return nil, err
	}
	kustoms, err := listAs[kustomizev1.Kustomization](ctx, d.reader, flux.Kustomization)
	if err != nil {
		return nil, err
	}
	releases, err := listAs[helmv2.HelmRelease](ctx, d.reader, flux.HelmRelease)
	if err != nil {
		return nil, err
	}
	all := make([]web.Delivery, 0, len(apps)+len(kustoms)+len(releases))
	for i := range apps {
		all = append(all, applicationSummary(&apps[i]))
	}
	for i := range kustoms {
		all = append(all, kustomizationSummary(&kustoms[i]))
	}
	for i := range releases {
		all = append(all, releaseSummary(&releases[i]))
	}
	slices.SortFunc(all, func(a, b web.Delivery) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return all, nil
}

// Get implements web.Deliveries.
func (d *deliveries) Get(ctx context.Context, kind, namespace, name string) (*web.Delivery, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	switch kind {
	case applicationKind.Kind:
		app, err := getAs[argoproj.Application](ctx, d.reader, applicationKind, key)
		if err != nil {
			return nil, err
		}
		return applicationDetail(app), nil
	case flux.Kustomization.Kind:
		k, err := getAs[kustomizev1.Kustomization](ctx, d.reader, flux.Kustomization, key)
		if err != nil {
			return nil, err
		}
		return kustomizationDetail(k), nil
	case flux.HelmRelease.Kind:
		h, err := getAs[helmv2.HelmRelease](ctx, d.reader, flux.HelmRelease, key)
		if err != nil {
			return nil, err
		}
		return releaseDetail(h), nil
	default:
		return nil, fmt.Errorf("kind %s: %w", kind, web.ErrNotFound)
	}
}

var applicationKind = argoproj.GroupVersion.WithKind(argoproj.ApplicationKind)

// listAs lists objects of a kind from the engine's cache, which has them
// without their Go types, so that they are there once.
func listAs[T any](ctx context.Context, reader client.Reader, kind schema.GroupVersionKind) ([]T, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing %ss: %w", kind.Kind, err)
	}
	all := make([]T, len(list.Items))
	for i, item := range list.Items {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &all[i]); err != nil {
			return nil, fmt.Errorf("reading %s %s/%s: %w", kind.Kind, item.GetNamespace(), item.GetName(), err)
		}
	}
	return all, nil
}

// getAs reads one object from the engine's cache. One that is not there is
// web.ErrNotFound.
func getAs[T any](ctx context.Context, reader client.Reader, kind schema.GroupVersionKind, key client.ObjectKey) (*T, error) {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(kind)
	err := reader.Get(ctx, key, obj)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%s %s: %w", kind.Kind, key, web.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kind.Kind, key, err)
	}
	out := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, out); err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", kind.Kind, key, err)
	}
	return out, nil
}

func applicationSummary(app *argoproj.Application) web.Delivery {
	source := argoproj.ApplicationSource{}
	switch {
	case app.Spec.Source != nil:
		source = *app.Spec.Source
	case len(app.Spec.Sources) > 0:
		source = app.Spec.Sources[0]
	}
	d := web.Delivery{
		Kind: argoproj.ApplicationKind, Namespace: app.Namespace, Name: app.Name,
		Source: source.RepoURL, Path: source.Path + source.Chart, Target: app.Spec.Destination.Namespace,
		Sync: string(app.Status.Sync.Status), Health: app.Status.Health.Status,
		Revision: shortAll(revisionsOf(app.Status.Sync.Revision, app.Status.Sync.Revisions)), Pinned: shortAll(app.Annotations[annotationPinned]),
	}
	var messages []string
	for _, c := range app.Status.Conditions {
		messages = append(messages, c.Type+": "+c.Message)
	}
	if op := app.Status.OperationState; op != nil {
		at := op.StartedAt.Time
		if op.FinishedAt != nil {
			at = op.FinishedAt.Time
		}
		d.Changed = &at
		if len(messages) == 0 && op.Phase != argoproj.OperationSucceeded {
			messages = append(messages, op.Message)
		}
	}
	d.Message = strings.Join(messages, "\n")
	return d
}

func applicationDetail(app *argoproj.Application) *web.Delivery {
	d := applicationSummary(app)
	for _, r := range app.Status.Resources {
		one := web.Resource{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, Sync: string(r.Status)}
		if r.Health != nil {
			one.Health, one.Message = r.Health.Status, r.Health.Message
		}
		d.Resources = append(d.Resources, one)
	}
	for _, h := range slices.Backward(app.Status.History) {
		by := h.InitiatedBy.Username
		if h.InitiatedBy.Automated {
			by = "automated"
		}
		d.History = append(d.History, web.Deployed{ID: h.ID, Revision: revisionsOf(h.Revision, h.Revisions), At: h.DeployedAt.Time, By: by})
	}
	return &d
}

func kustomizationSummary(k *kustomizev1.Kustomization) web.Delivery {
	d := web.Delivery{
		Kind: kustomizev1.KustomizationKind, Namespace: k.Namespace, Name: k.Name,
		Source: k.Spec.SourceRef.Kind + " " + k.Spec.SourceRef.Name, Path: k.Spec.Path, Target: k.Spec.TargetNamespace,
		Revision: shortRevision(k.Status.LastAppliedRevision), Pinned: short(k.Annotations[annotationPinned]),
	}
	ready(&d, k.Status.Conditions, k.Spec.Suspend)
	return d
}

func kustomizationDetail(k *kustomizev1.Kustomization) *web.Delivery {
	d := kustomizationSummary(k)
	if k.Status.Inventory != nil {
		d.Resources = inventoried(k.Status.Inventory.Entries, func(r kustomizev1.ResourceRef) string { return r.ID })
	}
	for i, s := range k.Status.History {
		d.History = append(d.History, web.Deployed{ID: int64(len(k.Status.History) - i), Revision: s.Metadata["revision"], At: s.LastReconciled.Time})
	}
	return &d
}

// revisionsOf are the revisions of all sources, with commas between, as a pin
// has them.
func revisionsOf(single string, several []string) string {
	if len(several) == 0 {
		return single
	}
	return strings.Join(several, ",")
}

// shortAll shortens each of several revisions.
func shortAll(revisions string) string {
	list := strings.Split(revisions, ",")
	for i := range list {
		list[i] = short(list[i])
	}
	return strings.Join(list, ",")
}

// short is a commit as people write it, or the digest of a chart.
func short(commit string) string {
	if digest, ok := strings.CutPrefix(commit, "sha256:"); ok && len(digest) > 12 {
		return digest[:7]
	}
	if len(commit) > 12 && !strings.Contains(commit, ":") {
		return commit[:7]
	}
	return commit
}

// shortRevision shortens Flux' form, main@sha1:COMMIT.
func shortRevision(revision string) string {
	ref, commit, found := strings.Cut(revision, "@sha1:")
	if !found {
		return revision
	}
	return ref + "@" + short(commit)
}

// engineTimeout is how long the caches may take to fill at the start.
const engineTimeout = 2 * time.Minute
