package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	"helm.sh/helm/v4/pkg/release/common"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/deploy"
	"github.com/fairway-cd/fairway/internal/release"
)

// plannedRelease is what a HelmRelease's release has where nothing is to be
// released, and else what its next revision would have.
type plannedRelease struct {
	*helmReleaseRun
	// last is the newest revision, nil where there is none.
	last     *release.Record
	manifest string
}

// lookAtRelease calls look with a HelmRelease's plan, outside of its reconcile,
// and writes nothing. Errors: *NotFoundError, *SpecError, those of the source,
// of the templates, of the API server, and look's.
func (e *Engine) lookAtRelease(ctx context.Context, owner core.Owner, look func(context.Context, *plannedRelease) error) error {
	h, err := e.helmReleaseView(ctx, owner)
	if err != nil {
		return err
	}
	if _, err := e.reachFlux(owner, h.hr.Spec.KubeConfig); err != nil {
		return err
	}
	inside, parts, end, err := e.stages.Fleet.Inside(ctx, owner)
	if err != nil {
		return err
	}
	defer end()
	h.cluster = parts.Releases
	if err := h.open(inside); err != nil {
		return err
	}
	p := &plannedRelease{helmReleaseRun: h}
	if err := p.plan(inside); err != nil {
		return err
	}
	return look(inside, p)
}

func (p *plannedRelease) plan(ctx context.Context) (err error) {
	if p.last, err = p.release.Last(ctx); err != nil {
		return err
	}
	if p.isReleased(p.last) {
		p.manifest = p.last.Manifest
		return nil
	}
	if err := p.fetch(ctx); err != nil {
		return err
	}
	last, skipSchema := p.last, p.hr.GetUpgrade().DisableSchemaValidation
	if last == nil || last.Info.Status == common.StatusUninstalled {
		last, skipSchema = nil, p.hr.GetInstall().DisableSchemaValidation
	}
	p.manifest, err = p.release.Plan(ctx, p.render(skipSchema), last, p.values, p.hr.GetUpgrade().PreserveValues)
	if err != nil {
		return unlessAway(&scrubbedError{err, p.private.hide(err.Error())})
	}
	return nil
}

// isReleased: the revision is what is wanted.
func (h *helmReleaseRun) isReleased(last *release.Record) bool {
	if last == nil || last.Info.Status != common.StatusDeployed {
		return false
	}
	source, ours := release.MadeOf(last)
	return ours && source == h.source || !ours && h.adopted(last)
}

// helmReleaseView is a run that only looks.
func (e *Engine) helmReleaseView(ctx context.Context, owner core.Owner) (*helmReleaseRun, error) {
	u, err := e.object(ctx, owner)
	if err != nil {
		return nil, err
	}
	hr, err := e.opts.Lockdown.helmRelease(u)
	if err != nil {
		return nil, err
	}
	key := types.NamespacedName{Namespace: owner.Namespace, Name: owner.Name}
	h := &helmReleaseRun{fluxObject: fluxObject{Engine: e, memory: &memory{}, key: key, object: u}, releases: e.helm.releases, hr: hr}
	if err := h.knownChart(ctx); err != nil {
		return nil, problem.With(http.StatusUnprocessableEntity, err)
	}
	if h.values, h.private, err = e.composeValues(ctx, hr); err != nil {
		return nil, problem.With(http.StatusUnprocessableEntity, err)
	}
	h.want()
	return h, nil
}

// knownChart is findChart for somebody who only looks: it makes no HelmChart.
func (h *helmReleaseRun) knownChart(ctx context.Context) error {
	var key types.NamespacedName
	kind, ready, err := sourcev1.HelmChartKind, false, error(nil)
	switch ref := h.hr.Spec.ChartRef; {
	case ref != nil && ref.Kind == sourcev1.OCIRepositoryKind:
		key, kind = h.refKey(), ref.Kind
		ready, err = h.ofArtifact(ctx, key)
	case ref != nil:
		key = h.refKey()
		ready, err = h.ofChart(ctx, key)
	default:
		key = h.chartKey()
		if ready, err = h.ofChart(ctx, key); err == nil && ready {
			err = h.isFollowed(ctx, key)
		}
	}
	if err == nil && !ready {
		err = fmt.Errorf("%s '%s' is not ready", kind, key)
	}
	return err
}

// isFollowed is an error where the HelmChart is not of the spec as it is now.
func (h *helmReleaseRun) isFollowed(ctx context.Context, key types.NamespacedName) error {
	live, err := h.referredTo(ctx, flux.HelmChart, key, h.helm.charts.memories)
	if err != nil {
		return err
	}
	wanted, err := h.chartObject(key)
	if err != nil || apiequality.Semantic.DeepEqual(live.Object["spec"], wanted.Object["spec"]) {
		return err
	}
	if h.hr.Spec.Suspend {
		return fmt.Errorf("HelmChart '%s' is not what spec.chart asks for by now: the HelmRelease is suspended", key)
	}
	return fmt.Errorf("HelmChart '%s' is not what spec.chart asks for yet", key)
}

// diffRelease is the diff of a HelmRelease.
func (e *Engine) diffRelease(ctx context.Context, owner core.Owner) (*Diff, error) {
	out := &Diff{Items: []DiffItem{}}
	err := e.lookAtRelease(ctx, owner, func(ctx context.Context, p *plannedRelease) error {
		found, err := p.release.Compare(ctx, p.manifest, p.last, p.ignores())
		for _, c := range found {
			out.Items = append(out.Items, p.diffItem(c))
		}
		return err
	})
	return out, err
}

// diffItem is a comparison as it may be shown.
func (p *plannedRelease) diffItem(c release.Comparison) DiffItem {
	d := deploy.Difference{Ref: c.Ref, Wanted: c.After, Live: c.Live, State: deploy.Modified, Err: c.Err}
	switch {
	case c.Err != nil:
		d.State = deploy.Uncompared
	case c.Live == nil:
		d.State = deploy.MissingLive
	case c.After == nil:
		d.State = deploy.Extra
	}
	deploy.Present(&d)
	item := DiffItem{Ref: d.Ref, State: d.State, Wanted: d.Wanted, Live: d.Live}
	if d.Err != nil {
		item.Message = p.private.hide(explain(d.Err))
	}
	p.private.hideIn(item.Wanted)
	p.private.hideIn(item.Live)
	return item
}

// manifestsOfRelease are the objects that a HelmRelease delivers, without the values of
// Secrets.
func (e *Engine) manifestsOfRelease(ctx context.Context, owner core.Owner) ([]*unstructured.Unstructured, error) {
	objects := []*unstructured.Unstructured{}
	err := e.lookAtRelease(ctx, owner, func(_ context.Context, p *plannedRelease) error {
		decoder := yaml.NewYAMLToJSONDecoder(strings.NewReader(p.manifest))
		for {
			o := &unstructured.Unstructured{}
			switch err := decoder.Decode(&o.Object); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return problem.New(http.StatusUnprocessableEntity, "what the chart writes is not YAML")
			case o.GetKind() == "":
				continue
			}
			hideSecret(o)
			p.private.hideIn(o)
			objects = append(objects, o)
		}
	})
	return objects, err
}

// hideIn takes the words out of an object, keys excepted.
func (w words) hideIn(o *unstructured.Unstructured) {
	if o == nil || len(w) == 0 {
		return
	}
	var hide func(v any) any
	hide = func(v any) any {
		switch v := v.(type) {
		case string:
			return w.hide(v)
		case map[string]any:
			for key, e := range v {
				v[key] = hide(e)
			}
		case []any:
			for i, e := range v {
				v[i] = hide(e)
			}
		case int64, float64:
			if slices.Contains(w, fmt.Sprint(v)) {
				return hiddenValue
			}
		}
		return v
	}
	// Who it is stays.
	for _, field := range sortedKeys(o.Object) {
		if field != "apiVersion" && field != "kind" && field != "metadata" {
			o.Object[field] = hide(o.Object[field])
		}
	}
	for _, field := range []string{"labels", "annotations"} {
		if m, ok, _ := unstructured.NestedMap(o.Object, "metadata", field); ok {
			_ = unstructured.SetNestedMap(o.Object, hide(m).(map[string]any), "metadata", field)
		}
	}
}
