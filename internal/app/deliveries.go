package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argoproj "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
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

// watch has changes of both kinds announced.
func (d *deliveries) watch(ctx context.Context, informers cache.Informers) error {
	for _, obj := range []client.Object{&argoproj.Application{}, &kustomizev1.Kustomization{}} {
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
	var apps argoproj.ApplicationList
	if err := d.reader.List(ctx, &apps, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Applications: %w", err)
	}
	var kustoms kustomizev1.KustomizationList
	if err := d.reader.List(ctx, &kustoms, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Kustomizations: %w", err)
	}
	all := make([]web.Delivery, 0, len(apps.Items)+len(kustoms.Items))
	for i := range apps.Items {
		all = append(all, applicationSummary(&apps.Items[i]))
	}
	for i := range kustoms.Items {
		all = append(all, kustomizationSummary(&kustoms.Items[i]))
	}
	slices.SortFunc(all, func(a, b web.Delivery) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return all, nil
}

// Get implements web.Deliveries.
func (d *deliveries) Get(ctx context.Context, kind, namespace, name string) (*web.Delivery, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	missing := func(err error) error {
		if client.IgnoreNotFound(err) == nil {
			return fmt.Errorf("%s %s/%s: %w", kind, namespace, name, web.ErrNotFound)
		}
		return err
	}
	switch kind {
	case argoproj.ApplicationKind:
		var app argoproj.Application
		if err := d.reader.Get(ctx, key, &app); err != nil {
			return nil, missing(err)
		}
		return applicationDetail(&app), nil
	case kustomizev1.KustomizationKind:
		var k kustomizev1.Kustomization
		if err := d.reader.Get(ctx, key, &k); err != nil {
			return nil, missing(err)
		}
		return kustomizationDetail(&k), nil
	default:
		return nil, fmt.Errorf("kind %s: %w", kind, web.ErrNotFound)
	}
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
		Sync: string(app.Status.Sync.Status), Health: string(app.Status.Health.Status),
		Revision: short(app.Status.Sync.Revision), Pinned: short(app.Annotations[annotationPinned]),
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
			one.Health, one.Message = string(r.Health.Status), r.Health.Message
		}
		d.Resources = append(d.Resources, one)
	}
	for _, h := range slices.Backward(app.Status.History) {
		by := h.InitiatedBy.Username
		if h.InitiatedBy.Automated {
			by = "automated"
		}
		d.History = append(d.History, web.Deployed{ID: h.ID, Revision: h.Revision, At: h.DeployedAt.Time, By: by})
	}
	return &d
}

func kustomizationSummary(k *kustomizev1.Kustomization) web.Delivery {
	d := web.Delivery{
		Kind: kustomizev1.KustomizationKind, Namespace: k.Namespace, Name: k.Name,
		Source: k.Spec.SourceRef.Kind + " " + k.Spec.SourceRef.Name, Path: k.Spec.Path, Target: k.Spec.TargetNamespace,
		Sync: "Unknown", Health: "Progressing",
		Revision: shortRevision(k.Status.LastAppliedRevision), Pinned: short(k.Annotations[annotationPinned]),
	}
	ready := meta.FindStatusCondition(k.Status.Conditions, "Ready")
	if ready == nil {
		return d
	}
	at := ready.LastTransitionTime.Time
	d.Changed = &at
	switch {
	case ready.Status == metav1.ConditionTrue:
		d.Sync, d.Health = "Synced", "Healthy"
	case ready.Status == metav1.ConditionFalse:
		d.Sync, d.Health, d.Message = "Unknown", "Degraded", ready.Reason+": "+ready.Message
	default:
		d.Message = ready.Message
	}
	if k.Spec.Suspend {
		d.Health = "Suspended"
	}
	return d
}

func kustomizationDetail(k *kustomizev1.Kustomization) *web.Delivery {
	d := kustomizationSummary(k)
	if k.Status.Inventory != nil {
		for _, entry := range k.Status.Inventory.Entries {
			// The identity is NAMESPACE_NAME_GROUP_KIND: Flux' ResourceRef.
			if f := strings.Split(entry.ID, "_"); len(f) == 4 {
				d.Resources = append(d.Resources, web.Resource{Kind: f[3], Namespace: f[0], Name: f[1]})
			}
		}
	}
	for i, s := range k.Status.History {
		d.History = append(d.History, web.Deployed{ID: int64(len(k.Status.History) - i), Revision: s.Metadata["revision"], At: s.LastReconciled.Time})
	}
	return &d
}

// short is a commit as people write it.
func short(commit string) string {
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
