package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common/util"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/fairway-cd/fairway/internal/core"
)

// Plan is the manifest that the next installation or upgrade would have, with
// no hooks and no CRDs in it. Nothing is written. keepValues is Upgrade's; last
// is the newest revision, or nil.
func (r *Release) Plan(ctx context.Context, render Render, last *Record, values map[string]any, keepValues bool) (string, error) {
	asked := RenderRequest{Release: *r, Revision: 1, Values: values}
	if last != nil {
		var err error
		if _, asked.Values, err = kept(last, values, keepValues); err != nil {
			return "", fmt.Errorf("plan release %s: %w", r.Name, err)
		}
		asked.Revision, asked.Upgrade = last.Version+1, true
	}
	rendered, err := render(ctx, asked)
	if err != nil {
		return "", err
	}
	_, files, err := Hooks(rendered.Files)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, f := range files {
		fmt.Fprintf(&out, "---\n# Source: %s\n%s\n", f.Path, f.Text)
	}
	return out.String(), nil
}

// kept lays the values over those of the last revision where keep is set: those
// for the record, and with the chart's own then, for the templates.
func kept(last *Record, values map[string]any, keep bool) (recorded, templated map[string]any, err error) {
	if !keep {
		return values, values, nil
	}
	defaults, err := util.CoalesceValues(last.Chart, last.Config)
	if err != nil {
		return nil, nil, fmt.Errorf("read the values of revision %d: %w", last.Version, err)
	}
	recorded = util.CoalesceTables(maps.Clone(values), last.Config)
	return recorded, util.CoalesceTables(maps.Clone(values), defaults), nil
}

// Comparison is an object of a manifest beside the cluster, where it is not
// there as the manifest has it.
type Comparison struct {
	Ref core.ObjectRef
	// Live is what the cluster has and After what it would have; either is nil
	// for nothing.
	Live, After *unstructured.Unstructured
	// Err is why it cannot be said.
	Err error
}

// Compare compares a manifest with the cluster, by a rehearsed apply of each
// object. What last, the newest revision, has beside it would go; last may be
// nil.
func (r *Release) Compare(ctx context.Context, manifest string, last *Record, ignore []Ignore) ([]Comparison, error) {
	wanted := map[core.ObjectRef]bool{}
	var out []Comparison
	for _, text := range documents(manifest) {
		list, err := r.configure(ctx, nil).KubeClient.Build(bytes.NewBufferString(text), false)
		if err != nil {
			c, named := unbuilt(text, err)
			if !named {
				return nil, fmt.Errorf("read the manifest of release %s: %w", r.Name, err)
			}
			wanted[c.Ref.Key()] = true
			out = append(out, c)
			continue
		}
		for _, info := range list {
			wanted[refOf(info).Key()] = true
			if c := r.compare(ctx, info, ignore); c != nil {
				out = append(out, *c)
			}
		}
	}
	gone, err := r.leftOver(ctx, last, wanted)
	return append(out, gone...), err
}

// unbuilt is an object that the API server does not know, such as one of a kind
// whose CRD is not there yet.
func unbuilt(text string, err error) (Comparison, bool) {
	o := &unstructured.Unstructured{}
	if yaml.Unmarshal([]byte(text), &o.Object) != nil || o.GetKind() == "" {
		return Comparison{}, false
	}
	gvk := o.GroupVersionKind()
	ref := core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
	return Comparison{Ref: ref, After: o, Err: err}, true
}

func (r *Release) compare(ctx context.Context, info *resource.Info, ignore []Ignore) *Comparison {
	c := &Comparison{Ref: refOf(info)}
	wanted, err := asUnstructured(info)
	if err != nil {
		c.Err = err
		return c
	}
	if wanted.GetNamespace() == "" && info.Namespaced() {
		wanted.SetNamespace(info.Namespace)
	}
	own(wanted, &Record{Name: r.Name, Namespace: r.Namespace})
	c.After = wanted
	live, err := r.at(info).Get(ctx, info.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return c
	}
	if err != nil {
		c.Err = err
		return c
	}
	c.Live = live
	after, err := r.rehearse(ctx, info, wanted, live, ignore)
	switch {
	case err != nil:
		c.Err = err
	case apiequality.Semantic.DeepEqual(comparable(live), comparable(after)):
		return nil
	default:
		c.After = after
	}
	return c
}

// leftOver is what last has in the cluster beside what is wanted, and an
// upgrade would take away.
func (r *Release) leftOver(ctx context.Context, last *Record, wanted map[core.ObjectRef]bool) ([]Comparison, error) {
	if last == nil {
		return nil, nil
	}
	list, err := r.objects(ctx, last)
	if err != nil {
		return nil, nil //nolint:nilerr // its kinds are gone, and its objects with them
	}
	var out []Comparison
	var errs []error
	for _, info := range list {
		if wanted[refOf(info).Key()] {
			continue
		}
		live, err := r.at(info).Get(ctx, info.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			errs = append(errs, fmt.Errorf("get %s: %w", refOf(info), err))
		case live.GetAnnotations()[keepSetting] != "keep":
			out = append(out, Comparison{Ref: refOf(info), Live: live})
		}
	}
	return out, errors.Join(errs...)
}
