package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argoproj "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/registry"
	"github.com/fairway-cd/fairway/internal/registry/chart"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/web"
)

// collectEvery is how often the registry's garbage is collected, however
// often the instance is started meanwhile.
const collectEvery = 24 * time.Hour

// collect keeps the registry's garbage away until ctx ends.
func (e *engine) collect(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(e.st.registry.Collected().Add(collectEvery))):
		}
		report, err := e.st.registry.Collect(ctx, registry.CollectOptions{Keep: e.imagesInUse})
		if err == nil {
			slog.Info("collected the registry's garbage", "manifests", len(report.Manifests), "blobs", len(report.Blobs), "bytes", report.Bytes)
			continue
		}
		if ctx.Err() == nil && !errors.Is(err, registry.ErrCollecting) {
			slog.Error("collecting the registry's garbage", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(collectRetry):
		}
	}
}

// collectRetry is how long to wait after a collection that failed.
const collectRetry = time.Hour

// collectNow is what the API calls.
func (e *engine) collectNow(ctx context.Context, minAge time.Duration, dryRun bool) (web.CollectReport, error) {
	report, err := e.st.registry.Collect(ctx, registry.CollectOptions{MinAge: minAge, DryRun: dryRun, Keep: e.imagesInUse})
	if errors.Is(err, registry.ErrCollecting) {
		err = web.ErrBusy
	}
	return web.CollectReport{Manifests: append([]string{}, report.Manifests...), Blobs: len(report.Blobs),
		Uploads: report.Uploads, Bytes: report.Bytes}, err
}

// imagesInUse lists the images that run, that a workload names, and that a
// delivery could be rolled back to. Where Kubernetes does not answer nothing is
// known, and so nothing may be collected; where it is not known what a delivery
// was, or another cluster keeps, the error is registry.ErrKeepManifests.
func (e *engine) imagesInUse(ctx context.Context) ([]string, error) {
	all := imageSet{}
	pods, err := e.st.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	for i := range pods.Items {
		all.addPod(&pods.Items[i])
	}
	sets, err := e.st.client.AppsV1().ReplicaSets("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing ReplicaSets: %w", err)
	}
	for _, set := range sets.Items {
		all.addSpec(set.Spec.Template.Spec)
	}
	revisions, err := e.st.client.AppsV1().ControllerRevisions("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing ControllerRevisions: %w", err)
	}
	for _, r := range revisions.Items {
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(r.Data.Raw); err == nil {
			all.addObject(obj.Object)
		}
	}
	// Between two runs of a CronJob there is no pod.
	crons, err := e.st.client.BatchV1().CronJobs("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing CronJobs: %w", err)
	}
	for _, c := range crons.Items {
		all.addSpec(c.Spec.JobTemplate.Spec.Template.Spec)
	}
	err = e.addReleases(ctx, all)
	if err != nil && !errors.Is(err, registry.ErrKeepManifests) {
		return nil, err
	}
	err = errors.Join(err, e.addHistory(ctx, all))
	if errors.Is(err, registry.ErrKeepManifests) {
		slog.Warn("Collecting no images: one of them may be needed", "error", err)
	}
	return all.list(), err
}

// addHistory adds the images of all that deliveries have been, and may be
// rolled back to.
func (e *engine) addHistory(ctx context.Context, all imageSet) error {
	apps, err := listAs[argoproj.Application](ctx, e.mgr.GetCache(), applicationKind)
	if err != nil {
		return err
	}
	for _, app := range apps {
		if app.DeletionTimestamp != nil {
			continue
		}
		owner := core.Owner{Dialect: core.ArgoCD, Kind: argoproj.ApplicationKind, Namespace: app.Namespace, Name: app.Name}
		sources := max(1, len(app.Spec.Sources))
		for _, h := range app.Status.History {
			all.addCharts(h)
			// What had other sources cannot be rolled back to as it stands.
			if max(1, len(h.Revisions)) != sources {
				continue
			}
			if err := e.addManifests(ctx, all, owner, revisionsOf(h.Revision, h.Revisions)); err != nil {
				return err
			}
		}
	}
	kustoms, err := listAs[kustomizev1.Kustomization](ctx, e.mgr.GetCache(), flux.Kustomization)
	if err != nil {
		return err
	}
	for _, k := range kustoms {
		if k.DeletionTimestamp != nil {
			continue
		}
		// An artifact that it was made of, and may be pinned to.
		for _, h := range k.Status.History {
			if _, digest, ok := strings.Cut(h.Metadata["revision"], "@sha256:"); ok {
				all["sha256:"+digest] = true
			}
		}
		owner := core.Owner{Dialect: core.Flux, Kind: kustomizev1.KustomizationKind, Namespace: k.Namespace, Name: k.Name}
		err := e.addManifests(ctx, all, owner, "")
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			// What it has brought out is there, and named by its workloads.
			slog.Warn("Collecting without what a Kustomization would be now", "error", err)
		}
	}
	return nil
}

// addCharts adds the charts themselves. A tag may have been moved since.
func (s imageSet) addCharts(h argoproj.RevisionHistory) {
	for _, revision := range append([]string{h.Revision}, h.Revisions...) {
		if strings.HasPrefix(revision, "sha256:") {
			s[revision] = true
		}
	}
}

// addManifests adds the images of what a delivery was at a revision, as far as
// possible without asking anybody: a host that is away must not hold up a
// collection. One that does not render any more, is refused, or is gone, cannot
// be rolled back to. One of which that is not known may be.
func (e *engine) addManifests(ctx context.Context, all imageSet, owner core.Owner, revision string) error {
	objects, err := e.core.KeptManifests(ctx, owner, revision)
	if errors.As(err, new(*git.RevisionError)) {
		objects, err = e.core.Manifests(ctx, owner, revision)
	}
	if notThere(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: reading %s at %s: %w", registry.ErrKeepManifests, owner, revision, err)
	}
	for _, obj := range objects {
		all.addObject(obj.Object)
	}
	return nil
}

// notThere says whether what a delivery was cannot be had again, whatever
// becomes of the network.
func notThere(err error) bool {
	return errors.As(err, new(*render.Error)) || errors.As(err, new(*git.RevisionError)) ||
		errors.As(err, new(*git.NotFoundError)) || errors.As(err, new(*chart.NotFoundError)) ||
		controller.Undeliverable(err)
}

// imageSet collects the names of images.
type imageSet map[string]bool

func (s imageSet) addPod(pod *corev1.Pod) {
	s.addSpec(pod.Spec)
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses} {
		for _, c := range statuses {
			s[c.ImageID] = true
		}
	}
}

func (s imageSet) addSpec(spec corev1.PodSpec) {
	for _, containers := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for _, c := range containers {
			s[c.Image] = true
		}
	}
}

// addObject adds every field named image below an object, whatever its kind.
func (s imageSet) addObject(v any) {
	for _, name := range appendFields(nil, v, "image") {
		s[name] = true
	}
}

func (s imageSet) list() []string {
	all := make([]string, 0, len(s))
	for name := range s {
		all = append(all, name)
	}
	return all
}
