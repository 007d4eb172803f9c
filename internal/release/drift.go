package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"helm.sh/helm/v4/pkg/kube"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

// Ignore leaves paths (RFC 6901) of objects out of a comparison. No target is
// every object.
type Ignore struct {
	Paths  []string
	Target *types.Selector
}

// Difference is an object that is not as its release has it.
type Difference struct {
	Ref core.ObjectRef
	// Removed: it is not there.
	Removed bool
	// Changes are what somebody has made of fields of the release.
	Changes []mark.Change
	// wanted is what makes it right, paths that are ignored included as they
	// are live.
	wanted *unstructured.Unstructured
	info   *resource.Info
}

func (d Difference) String() string {
	if d.Removed {
		return d.Ref.String() + " removed"
	}
	return d.Ref.String() + " changed"
}

// DriftSetting, on an object, switches the comparison off where its value is
// "disabled".
const DriftSetting = "helm.toolkit.fluxcd.io/driftDetection"

// Diff compares the release with what is in the cluster, by a rehearsed apply
// of each object. Hooks are not compared: they come and go.
func (r *Release) Diff(ctx context.Context, rec *Record, ignore []Ignore) ([]Difference, error) {
	list, err := r.objects(ctx, rec)
	if err != nil {
		return nil, err
	}
	var out []Difference
	for _, info := range list {
		d, err := r.diff(ctx, rec, info, ignore)
		if err != nil {
			return nil, fmt.Errorf("compare %s %s/%s: %w", info.Mapping.GroupVersionKind.Kind, info.Namespace, info.Name, err)
		}
		if d != nil {
			out = append(out, *d)
		}
	}
	return out, nil
}

// Correct puts right what Diff found.
func (r *Release) Correct(ctx context.Context, found []Difference) error {
	var errs []error
	for _, d := range found {
		_, err := r.at(d.info).Apply(ctx, d.info.Name, d.wanted, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if err != nil {
			errs = append(errs, fmt.Errorf("correct %s: %w", d.Ref, err))
		}
	}
	return errors.Join(errs...)
}

// Inventory is what the release has in the cluster, without its hooks.
func (r *Release) Inventory(ctx context.Context, rec *Record) ([]core.ObjectRef, error) {
	list, err := r.objects(ctx, rec)
	if err != nil {
		return nil, err
	}
	refs := make([]core.ObjectRef, len(list))
	for i, info := range list {
		refs[i] = refOf(info)
	}
	return refs, nil
}

func (r *Release) objects(ctx context.Context, rec *Record) (kube.ResourceList, error) {
	list, err := r.configure(ctx, nil).KubeClient.Build(bytes.NewBufferString(rec.Manifest), false)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of release %s: %w", r.Name, err)
	}
	return list, nil
}

func (r *Release) diff(ctx context.Context, rec *Record, info *resource.Info, ignore []Ignore) (*Difference, error) {
	wanted, err := asUnstructured(info)
	if err != nil || setting(wanted, DriftSetting) == "disabled" {
		return nil, err
	}
	if wanted.GetNamespace() == "" && info.Namespaced() {
		wanted.SetNamespace(info.Namespace)
	}
	own(wanted, rec)
	found := &Difference{Ref: refOf(info), wanted: wanted, info: info}
	live, err := r.at(info).Get(ctx, info.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		found.Removed = true
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	if setting(live, DriftSetting) == "disabled" {
		return nil, nil
	}
	after, err := r.rehearse(ctx, info, wanted, live, ignore)
	if err != nil {
		return nil, err
	}
	if apiequality.Semantic.DeepEqual(comparable(live), comparable(after)) {
		return nil, nil
	}
	found.Changes = mark.Undone(fieldManager, live, after)
	return found, nil
}

// rehearse is what an apply would make of the live object. What is ignored is in
// wanted as it is live then.
func (r *Release) rehearse(ctx context.Context, info *resource.Info, wanted, live *unstructured.Unstructured, ignore []Ignore) (*unstructured.Unstructured, error) {
	paths, err := ignored(ignore, live)
	if err != nil {
		return nil, err
	}
	for _, p := range paths {
		copyPath(wanted.Object, live.Object, p)
	}
	return r.at(info).Apply(ctx, info.Name, wanted, metav1.ApplyOptions{FieldManager: fieldManager, Force: true, DryRun: []string{metav1.DryRunAll}})
}

// own writes on an object what Helm writes on all of a release.
func own(obj *unstructured.Unstructured, rec *Record) {
	obj.SetLabels(merged(obj.GetLabels(), map[string]string{"app.kubernetes.io/managed-by": "Helm"}))
	obj.SetAnnotations(merged(obj.GetAnnotations(), map[string]string{
		"meta.helm.sh/release-name": rec.Name, "meta.helm.sh/release-namespace": rec.Namespace,
	}))
}

// comparable is an object without what changes by itself.
func comparable(obj *unstructured.Unstructured) map[string]any {
	c := obj.DeepCopy()
	delete(c.Object, "status")
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid"} {
		unstructured.RemoveNestedField(c.Object, "metadata", field)
	}
	return c.Object
}

func ignored(rules []Ignore, obj *unstructured.Unstructured) ([]string, error) {
	var paths []string
	for _, rule := range rules {
		yes, err := Selects(rule.Target, obj)
		if err != nil {
			return nil, err
		}
		if yes {
			paths = append(paths, rule.Paths...)
		}
	}
	return paths, nil
}

// Selects is kustomize's rule for patches' targets; nil selects everything.
func Selects(target *types.Selector, obj *unstructured.Unstructured) (bool, error) {
	if target == nil {
		return true, nil
	}
	re, err := types.NewSelectorRegex(target)
	if err != nil {
		return false, fmt.Errorf("read an ignore rule's target: %w", err)
	}
	gvk := obj.GroupVersionKind()
	if !re.MatchGvk(resid.NewGvk(gvk.Group, gvk.Version, gvk.Kind)) || !re.MatchName(obj.GetName()) || !re.MatchNamespace(obj.GetNamespace()) {
		return false, nil
	}
	for selector, set := range map[string]map[string]string{target.LabelSelector: obj.GetLabels(), target.AnnotationSelector: obj.GetAnnotations()} {
		s, err := labels.Parse(selector)
		if err != nil {
			return false, fmt.Errorf("read an ignore rule's target: %w", err)
		}
		if !s.Matches(labels.Set(set)) {
			return false, nil
		}
	}
	return true, nil
}

// copyPath makes to have at pointer what from has there: a value, or nothing.
func copyPath(to, from map[string]any, pointer string) {
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	var a, b any = to, from
	for _, p := range parts[:len(parts)-1] {
		a, b = step(a, p), step(b, p)
	}
	last := parts[len(parts)-1]
	value := step(b, last)
	switch a := a.(type) {
	case map[string]any:
		if value == nil {
			delete(a, last)
		} else {
			a[last] = value
		}
	case []any:
		if i, ok := position(last, len(a)); ok && value != nil {
			a[i] = value
		}
	}
}

func step(v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		return v[key]
	case []any:
		if i, ok := position(key, len(v)); ok {
			return v[i]
		}
	}
	return nil
}

func position(key string, length int) (int, bool) {
	i := 0
	for _, c := range key {
		if c < '0' || c > '9' || i >= length {
			return 0, false
		}
		i = i*10 + int(c-'0')
	}
	return i, key != "" && i < length
}

// setting is an object's annotation, or else its label.
func setting(obj *unstructured.Unstructured, name string) string {
	if v, ok := obj.GetAnnotations()[name]; ok {
		return v
	}
	return obj.GetLabels()[name]
}

func (r *Release) at(info *resource.Info) dynamic.ResourceInterface {
	at := r.id.dynamic.Resource(info.Mapping.Resource)
	if info.Mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return at.Namespace(info.Namespace)
	}
	return at
}

func refOf(info *resource.Info) core.ObjectRef {
	gvk := info.Mapping.GroupVersionKind
	return core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: info.Namespace, Name: info.Name}
}
