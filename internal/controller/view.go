package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// view is a delivery as somebody who asks sees it, outside of its reconcile.
type view struct {
	object    *unstructured.Unstructured
	delivery  *delivery
	inventory []core.ObjectRef
	// history is the oldest first; undeployed says that what Git has now is not
	// in it, because it cannot be brought out.
	history    []deployed
	undeployed bool
	// sources are what an Application's spec says.
	sources []argo.ApplicationSource
	// manual says that nothing is brought out before somebody asks for it.
	manual bool
	// signed says that only signed commits are brought out, which ours are not.
	signed bool
	// permitted says whether the delivery may deliver the target.
	permitted func(*target) error
}

// deployed is one entry of a history.
type deployed struct {
	id int64
	// revisions are those of the sources, in their order.
	revisions []string
	// sources are what the spec said then; a Kustomization's history does not
	// know.
	sources []argo.ApplicationSource
}

// wasDeployed: the whole revision is in the delivery's history.
func (v *view) wasDeployed(revision string) bool {
	return slices.ContainsFunc(v.history, func(d deployed) bool { return strings.Join(d.revisions, ",") == revision })
}

// NotFoundError says that there is no such delivery.
type NotFoundError struct{ Owner core.Owner }

func (e *NotFoundError) Error() string { return e.Owner.String() + " is not there" }

// view reads the owner. Errors: *NotFoundError, *SpecError, those of the API
// server.
func (e *Engine) view(ctx context.Context, owner core.Owner) (*view, error) {
	u, err := e.object(ctx, owner)
	if err != nil {
		return nil, err
	}
	if owner.Dialect == core.Flux {
		return e.kustomizationView(u)
	}
	return e.applicationView(ctx, u)
}

// object reads the owner past the cache: who asks has just seen the object as
// it is. Errors: *NotFoundError, those of the API server.
func (e *Engine) object(ctx context.Context, owner core.Owner) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	gvk := argo.GroupVersion.WithKind(argo.ApplicationKind)
	switch {
	case owner.Kind == core.HelmRelease:
		gvk = flux.HelmRelease
	case owner.Dialect == core.Flux:
		gvk = flux.Kustomization
	}
	u.SetGroupVersionKind(gvk)
	key := types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name}
	if err := e.reader.Get(ctx, key, u); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, &NotFoundError{owner}
		}
		return nil, fmt.Errorf("get %s: %w", owner, err)
	}
	return u, nil
}

func (e *Engine) applicationView(ctx context.Context, u *unstructured.Unstructured) (*view, error) {
	app, err := readApplication(u)
	if err != nil {
		return nil, err
	}
	run := &applicationRun{
		applications: e.apps, key: client.ObjectKeyFromObject(u), memory: &memory{}, object: u, app: app, status: app.Status.DeepCopy(),
	}
	caps, err := run.looks(ctx)
	if err != nil {
		return nil, err
	}
	d, err := applicationDelivery(app, caps)
	if err != nil {
		return nil, err
	}
	v := &view{object: u, delivery: d, inventory: inventoryOf(app.Status.Resources), sources: app.Spec.Sources}
	if len(v.sources) == 0 && app.Spec.Source != nil {
		v.sources = []argo.ApplicationSource{*app.Spec.Source}
	}
	run.delivery = d
	if err := run.actAs(ctx); err != nil {
		return nil, err
	}
	v.signed = len(run.projectIs.Spec.SignatureKeys) > 0
	v.manual = run.automation() == nil
	v.permitted = func(t *target) error {
		if err := run.permitsSources(ctx); err != nil {
			return err
		}
		return run.permitted(ctx, t)
	}
	for _, h := range app.Status.History {
		entry := deployed{id: h.ID, revisions: h.Revisions, sources: h.Sources}
		if len(h.Sources) == 0 {
			entry.revisions, entry.sources = []string{h.Revision}, []argo.ApplicationSource{h.Source}
		}
		v.history = append(v.history, entry)
	}
	v.undeployed = undeployed(&app.Status)
	return v, nil
}

func (e *Engine) kustomizationView(u *unstructured.Unstructured) (*view, error) {
	k, err := e.opts.Lockdown.kustomization(u)
	if err != nil {
		return nil, err
	}
	d, err := kustomizationDelivery(k)
	if err != nil {
		return nil, err
	}
	a, ok := e.sourceArtifact(k)
	if !ok {
		return nil, problem.New(http.StatusUnprocessableEntity, "source '%s/%s' is not ready", k.Spec.SourceRef.Kind, k.sourceKey())
	}
	d.sources[0].from, d.sources[0].shape = a.request, a.shape
	if _, err := e.reachFlux(d.owner, k.Spec.KubeConfig); err != nil && !unreachable(err) {
		return nil, err
	}
	run := &kustomizationRun{k: k, status: &k.Status}
	v := &view{object: u, delivery: d, inventory: run.inventory(), signed: a.shape.verifies, permitted: func(*target) error { return nil }}
	for i, h := range slices.Backward(k.Status.History) {
		_, commit, _ := strings.Cut(h.Metadata["revision"], ":")
		v.history = append(v.history, deployed{id: int64(len(k.Status.History) - i), revisions: []string{commit}})
	}
	return v, nil
}

// Manifests renders the delivery as it stands, or at a revision. The values
// of Secrets are not in it.
func (e *Engine) Manifests(ctx context.Context, owner core.Owner, revision string) ([]*unstructured.Unstructured, error) {
	return e.manifests(ctx, owner, revision, false)
}

// KeptManifests is Manifests of what is here of external repositories, without
// asking these. Where the revision is not here the error is one of the sources
// that says so.
func (e *Engine) KeptManifests(ctx context.Context, owner core.Owner, revision string) ([]*unstructured.Unstructured, error) {
	return e.manifests(ctx, owner, revision, true)
}

func (e *Engine) manifests(ctx context.Context, owner core.Owner, revision string, kept bool) ([]*unstructured.Unstructured, error) {
	v, err := e.view(ctx, owner)
	if err != nil {
		return nil, err
	}
	for i := range v.delivery.sources {
		v.delivery.sources[i].from.Kept = kept
	}
	t, err := e.targetOf(ctx, v, revision)
	if err != nil {
		return nil, err
	}
	out := t.objects.list()
	private := e.private.of(owner)
	for _, o := range out {
		hideSecret(o)
		private.hide(o)
	}
	return out, nil
}

// compare compares the delivery with the cluster, as it stands or at a
// revision.
func (e *Engine) compare(ctx context.Context, v *view, revision string) (*deploy.Comparison, error) {
	t, err := e.targetOf(ctx, v, revision)
	if err != nil {
		return nil, err
	}
	options := v.delivery.options
	options.Prune = true // what would be pruned is a difference
	return e.stages.Deployer.Compare(ctx, deploy.Plan{Owner: v.delivery.owner, Objects: t.objects.list(), Inventory: v.inventory, Options: options})
}

func (e *Engine) targetOf(ctx context.Context, v *view, revision string) (*target, error) {
	if revision == "" {
		revision = v.delivery.pin.Revision
	}
	revisions, err := v.delivery.revisionsAt(revision)
	if err != nil {
		return nil, err
	}
	snaps, err := e.resolve(ctx, v.delivery, revisions, false)
	if err != nil {
		return nil, err
	}
	t, err := e.render(ctx, v.delivery, snaps)
	if err != nil {
		return nil, err
	}
	if v.delivery.owner.Dialect == core.Flux {
		k, err := readKustomization(v.object)
		if err != nil {
			return nil, err
		}
		if k.Spec.PostBuild != nil {
			run := &kustomizationRun{fluxObject: fluxObject{Engine: e, key: types.NamespacedName{Namespace: k.Namespace, Name: k.Name}}, k: k}
			if err := run.substitute(ctx, t); err != nil {
				return nil, unlessAway(err)
			}
		}
	}
	return t, v.permitted(t)
}

// unlessAway has who asks told what is wrong with a specification, but for what
// the API server says to us.
func unlessAway(err error) error {
	if errors.As(err, new(apierrors.APIStatus)) || errors.As(err, new(*url.Error)) {
		return err
	}
	return problem.With(http.StatusUnprocessableEntity, err)
}

// hideSecret replaces the values of a Secret by marks.
func hideSecret(o *unstructured.Unstructured) {
	if gvk := o.GroupVersionKind(); gvk.Group != "" || gvk.Kind != "Secret" {
		return
	}
	for _, field := range []string{"data", "stringData"} {
		values, _ := o.Object[field].(map[string]any)
		for key := range values {
			values[key] = "++++++++"
		}
	}
	// kubectl's annotation repeats the whole object.
	annotations := o.GetAnnotations()
	delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	o.SetAnnotations(annotations)
}

var errNoAccess = errors.New("no way to ask who is there")
