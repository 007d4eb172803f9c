package controller

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"time"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
)

// unsupportedHelmChart are the fields that we know and do not do.
var unsupportedHelmChart = map[string]string{
	"spec.verify": "signature verification is not supported yet",
}

// defaultPoll is how often a source is asked that says nothing.
const defaultPoll = time.Minute

// chartArtifact is a chart as HelmReleases read it. The chart itself is opened
// again when it is needed.
type chartArtifact struct {
	name, version string
	// digest identifies the chart's content, values files included.
	digest string
	// revision is what the status of a HelmRelease says; oci, where set, is
	// the digest of an OCIRepository's artifact.
	revision, oci string
	// from opens it again; content, where set, is what it then is.
	from          SourceRequest
	content       string
	path          string
	valuesFiles   []string
	ignoreMissing bool
	// generation is of the HelmChart's spec.
	generation int64
}

// helmCharts reconciles HelmCharts.
type helmCharts struct {
	*Engine
	wake     *waker
	memories *memories
	bySource *index
	// byURL is by the repository of a registry that holds the chart.
	byURL *index

	mu        sync.RWMutex
	artifacts map[types.NamespacedName]chartArtifact
}

func newHelmCharts(e *Engine) *helmCharts {
	return &helmCharts{Engine: e, wake: newWaker(), memories: newMemories(), bySource: newIndex(), byURL: newIndex(), artifacts: map[types.NamespacedName]chartArtifact{}}
}

func helmChartDep(key types.NamespacedName) string { return "HelmChart " + key.String() }

// wakeReaders wakes the charts of a source.
func (r *helmCharts) wakeReaders(dep string) {
	for _, key := range r.bySource.of(dep) {
		r.wake.wake(key, sourceMoved)
	}
}

func (r *helmCharts) artifact(key types.NamespacedName) (chartArtifact, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	a, ok := r.artifacts[key]
	return a, ok
}

func (r *helmCharts) store(key types.NamespacedName, a chartArtifact) {
	r.mu.Lock()
	old, known := r.artifacts[key]
	r.artifacts[key] = a
	r.mu.Unlock()
	if !known || digest(printable(old)) != digest(printable(a)) {
		r.helm.releases.wakeDependents(helmChartDep(key), sourceMoved)
	}
}

// printable is what of an artifact decides whether it is another one.
func printable(a chartArtifact) []any {
	return []any{a.name, a.version, a.digest, a.revision, a.generation}
}

func (r *helmCharts) forget(key types.NamespacedName) {
	r.memories.forget(key)
	r.bySource.set(key)
	r.byURL.set(key)
	r.mu.Lock()
	delete(r.artifacts, key)
	r.mu.Unlock()
	r.helm.releases.wakeDependents(helmChartDep(key), sourceMoved)
}

// helmChartRun is one reconcile of one HelmChart.
type helmChartRun struct {
	sourceRun
	charts *helmCharts
	spec   sourcev1.HelmChartSpec
	st     sourcev1.HelmChartStatus
}

// Reconcile finds the chart that one HelmChart means now.
func (r *helmCharts) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	return r.reconcileFlux(ctx, flux.HelmChart, req.NamespacedName, r.wake, r.memories, r.forget, func(o fluxObject) (reconcile.Result, error) {
		run := &helmChartRun{charts: r}
		run.fluxObject = o
		return run.reconcile(ctx)
	})
}

func (h *helmChartRun) reconcile(ctx context.Context) (reconcile.Result, error) {
	refused, err := readObject(h.object, &h.meta, &h.spec, &h.st)
	if err != nil {
		return reconcile.Result{}, err
	}
	h.status = &h.st
	h.view = sourceView{&h.st.Conditions, &h.st.ObservedGeneration, &h.st.LastHandledReconcileAt, &h.st.Artifact, h.spec.Interval.Duration}
	h.changed = func() { h.helm.releases.wakeDependents(helmChartDep(h.key), sourceMoved) }
	if h.meta.DeletionTimestamp != nil {
		h.charts.forget(h.key)
		return reconcile.Result{}, h.removeFinalizer(ctx)
	}
	refuseUnsupported(h.object.Object, unsupportedHelmChart, refused)
	source := types.NamespacedName{Namespace: h.key.Namespace, Name: h.spec.SourceRef.Name}
	h.charts.bySource.set(h.key, h.spec.SourceRef.Kind+" "+source.String())
	if err := refused.orNil(); err != nil {
		return h.fail(ctx, true, "InvalidSpec", err)
	}
	if h.spec.Suspend {
		return reconcile.Result{}, nil
	}
	switch h.spec.SourceRef.Kind {
	case sourcev1.HelmRepositoryKind:
		return h.fromRepository(ctx, source)
	case sourcev1.GitRepositoryKind:
		return h.fromGit(ctx, source)
	}
	refused.add("spec.sourceRef.kind", "%q is not supported; want HelmRepository or GitRepository", h.spec.SourceRef.Kind)
	return h.fail(ctx, true, "InvalidSpec", refused)
}

// fromRepository opens a chart of a HelmRepository.
func (h *helmChartRun) fromRepository(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	u, err := h.referredTo(ctx, flux.HelmRepository, key, h.helm.repositories.memories)
	if err != nil {
		return h.fail(ctx, false, "SourceUnavailable", err)
	}
	var repo sourcev1.HelmRepository
	refused, err := readObject(u, &repo.ObjectMeta, &repo.Spec, &repo.Status)
	if err != nil {
		return reconcile.Result{}, err
	}
	checkHelmRepository(&repo.Spec, refused)
	if err := refused.orNil(); err != nil {
		return h.fail(ctx, false, "SourceUnavailable", fmt.Errorf("HelmRepository '%s': %w", key, err))
	}
	isOCI := repo.Spec.Type == sourcev1.HelmRepositoryTypeOCI
	if isOCI {
		h.charts.byURL.set(h.key, chartURL(repo.Spec.URL, h.spec.Chart))
	}
	if !isOCI && h.helm.repositories.digest(key) == "" {
		if message := readyMessage(u); message != "" {
			return h.fail(ctx, false, "SourceUnavailable", fmt.Errorf("HelmRepository '%s' is not ready: %s", key, message))
		}
		return reconcile.Result{}, nil // that its index is read wakes us
	}
	auth, err := h.helmAuth(ctx, key.Namespace, &repo.Spec)
	if err != nil {
		return h.fail(ctx, false, sourcev1.AuthenticationFailedReason, err)
	}
	within, cancel := context.WithTimeout(ctx, timeoutOf(repo.Spec.Timeout))
	defer cancel()
	version := h.spec.Version
	if version == "*" {
		version = ""
	}
	// The index of a repository is read by its HelmRepository, at its interval.
	req := SourceRequest{Namespace: h.key.Namespace, URL: repo.Spec.URL, Chart: h.spec.Chart, Ref: SourceRef{Revision: version}, Auth: auth}
	snap, err := h.stages.Sources.Resolve(within, req)
	if err != nil {
		return h.fail(ctx, false, "ChartPullError", err)
	}
	if isOCI {
		h.st.ObservedSourceArtifactRevision = ""
	} else {
		h.st.ObservedSourceArtifactRevision = h.helm.repositories.digest(key)
	}
	if req.Ref.Revision = snap.Revision.Commit; !isOCI {
		// An index need not know the digests of its archives.
		req.Ref.Revision = strings.ReplaceAll(strings.TrimPrefix(snap.Revision.Ref, "refs/tags/"), "_", "+")
	}
	return h.keep(ctx, snap, req, ".", sourcev1.ChartPullSucceededReason, "pulled")
}

// fromGit takes a chart out of a GitRepository.
func (h *helmChartRun) fromGit(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	a, ok := h.repos.artifact(key)
	if !ok {
		u, err := h.referredTo(ctx, flux.GitRepository, key, h.repos.memories)
		if err == nil && readyMessage(u) != "" {
			err = fmt.Errorf("GitRepository '%s' is not ready: %s", key, readyMessage(u))
		}
		if err != nil {
			return h.fail(ctx, false, "SourceUnavailable", err)
		}
		return reconcile.Result{}, nil // that it is resolved wakes us
	}
	dir := path.Clean("./" + strings.TrimPrefix(h.spec.Chart, "/"))
	if dir == ".." || strings.HasPrefix(dir, "../") {
		refused := &SpecError{}
		refused.add("spec.chart", "%q leaves the repository", h.spec.Chart)
		return h.fail(ctx, true, "InvalidSpec", refused)
	}
	h.st.ObservedSourceArtifactRevision = a.snapshot.Revision.String()
	req := a.request
	req.Ref, req.Fetch = SourceRef{Commit: a.snapshot.Revision.Commit}, false
	return h.keep(ctx, a.snapshot, req, dir, sourcev1.ChartPackageSucceededReason, "packaged")
}

// keep says which chart it is.
func (h *helmChartRun) keep(ctx context.Context, snap core.Snapshot, from SourceRequest, dir, reason, did string) (reconcile.Result, error) {
	a := chartArtifact{from: from, path: dir, valuesFiles: h.spec.ValuesFiles, ignoreMissing: h.spec.IgnoreMissingValuesFiles, generation: h.meta.Generation}
	head, err := chartHead(ctx, snap.Tree, dir)
	if err == nil && len(a.valuesFiles) > 0 {
		_, err = withValuesFiles(ctx, snap.Tree, &a)
	}
	var root core.TreeEntry
	if err == nil {
		root, err = snap.Tree.Entry(ctx, dir)
	}
	if err != nil {
		return h.fail(ctx, false, "ChartPackageError", err)
	}
	a.name, a.version = head.Name, head.Version
	if did == "packaged" && h.spec.ReconcileStrategy == sourcev1.ReconcileStrategyRevision {
		if commit := snap.Revision.Commit; len(commit) > 12 {
			a.version += "+" + commit[:12]
		}
	}
	content := snap.Revision.Commit
	if did == "packaged" {
		content = "sha256:" + digest([]string{root.Hash})
		if h.spec.ReconcileStrategy != sourcev1.ReconcileStrategyRevision {
			// As in Flux: another content of the same version is the same chart.
			content = "sha256:" + digest([]string{from.URL, dir, head.Version})
		}
	}
	a.digest = content
	if did == "pulled" {
		a.content = snap.Revision.Commit
	}
	if len(a.valuesFiles) > 0 {
		a.digest = "sha256:" + digest([]any{content, a.valuesFiles})
	}
	a.revision = a.version
	h.st.ObservedChartName, h.st.ObservedValuesFiles, h.st.URL = a.name, a.valuesFiles, from.URL
	h.charts.store(h.key, a)
	return h.succeed(ctx, a.version, a.digest, fmt.Sprintf("helmchart/%s/%s/%s-%s.tgz", h.key.Namespace, h.key.Name, a.name, a.version), from.URL, nil,
		reason, fmt.Sprintf("%s '%s' chart with version '%s'", did, a.name, a.version))
}

// chartMetadata is what of Chart.yaml says which chart it is.
type chartMetadata struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// maxChartFile bounds the files of a chart that are read here.
const maxChartFile = 1 << 20

// chartHead reads Chart.yaml.
func chartHead(ctx context.Context, tree core.Tree, dir string) (chartMetadata, error) {
	var head chartMetadata
	text, err := readSmall(ctx, tree, path.Join(dir, "Chart.yaml"))
	if err != nil {
		return head, fmt.Errorf("%s is no chart: %w", dir, err)
	}
	if err := yaml.Unmarshal(text, &head); err != nil || head.Name == "" || head.Version == "" {
		return head, errors.New(path.Join(dir, "Chart.yaml") + " is no YAML with a name and a version")
	}
	return head, nil
}

func readSmall(ctx context.Context, tree core.Tree, name string) ([]byte, error) {
	entry, err := tree.Entry(ctx, name)
	if err != nil {
		return nil, err
	}
	if entry.Size > maxChartFile {
		return nil, &core.TooLargeError{What: name, Size: entry.Size, Limit: maxChartFile}
	}
	return tree.Read(ctx, name)
}
