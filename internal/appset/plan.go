package appset

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// Action is what is to be done with an Application.
type Action string

// The actions.
const (
	Create Action = "Create"
	Update Action = "Update"
	Delete Action = "Delete"
	// Keep: it is as it should be.
	Keep Action = "Keep"
	// Hold: it is not, and may not be changed; Reason says why.
	Hold Action = "Hold"
)

// Change is one Application of a plan.
type Change struct {
	Action Action
	Name   string
	Reason string
	// Wanted is the Application as it is to be, nil where it is to go; Live as
	// it is, nil where it is not there.
	Wanted, Live *unstructured.Unstructured
	// Patch is the merge patch from Live to Wanted, of an Update.
	Patch map[string]any
}

// preservedAnnotations are written by others than the set: by controllers, and
// by people who hold an Application where it is.
var preservedAnnotations = []string{
	"notified.notifications.argoproj.io", argo.AnnotationRefresh, "argocd.argoproj.io/hydrate",
}

// preservedPrefix is of our own annotations of an Application, such as pins.
const preservedPrefix = "fairway-cd.io/"

// Plan holds what is wanted against what is there: the Applications that the
// set owns, and those that have a name that it wants. By name. An Application
// that another owner controls is an *ApplicationError.
func Plan(set *argo.ApplicationSet, wanted, live []*unstructured.Unstructured) ([]Change, error) {
	p := &planner{set: set}
	var problems []*FieldError
	if p.ignores, problems = newIgnores(set.Spec.IgnoreApplicationDifferences); len(problems) > 0 {
		return nil, problems[0]
	}
	there := make(map[string]*unstructured.Unstructured, len(live))
	for _, app := range live {
		there[app.GetName()] = app
	}
	out := make([]Change, 0, len(wanted))
	for _, app := range wanted {
		c, err := p.one(app, there[app.GetName()])
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		delete(there, app.GetName())
	}
	for name, app := range there {
		if Owns(set, app) {
			out = append(out, p.surplus(name, app))
		}
	}
	slices.SortFunc(out, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// Owns says whether the set has made the Application.
func Owns(set *argo.ApplicationSet, app *unstructured.Unstructured) bool {
	owner := metav1.GetControllerOfNoCopy(app)
	return owner != nil && owner.UID == set.UID && owner.Kind == argo.ApplicationSetKind
}

type planner struct {
	set     *argo.ApplicationSet
	ignores *ignores
}

func (p *planner) one(wanted, live *unstructured.Unstructured) (Change, error) {
	c := Change{Name: wanted.GetName(), Live: live}
	if live == nil {
		c.Action, c.Wanted = Create, wanted.DeepCopy()
		c.Wanted.SetOwnerReferences(p.owners(nil))
		return c, nil
	}
	if owner := metav1.GetControllerOfNoCopy(live); owner != nil && !Owns(p.set, live) {
		return c, &ApplicationError{c.Name, fmt.Sprintf("it is there, and belongs to %s %s", owner.Kind, owner.Name)}
	}
	if live.GetDeletionTimestamp() != nil {
		c.Action, c.Reason = Hold, "it is being deleted"
		return c, nil
	}
	c.Wanted = p.merged(wanted, live)
	patch, err := p.patch(c.Wanted, live)
	switch {
	case err != nil:
		return c, err
	case len(patch) == 0:
		c.Action = Keep
	case !p.set.Spec.SyncPolicy.AllowUpdate():
		c.Action, c.Reason = Hold, "the policy does not let it be changed"
	default:
		c.Action, c.Patch = Update, patch
	}
	return c, nil
}

func (p *planner) surplus(name string, live *unstructured.Unstructured) Change {
	c := Change{Action: Delete, Name: name, Live: live}
	switch {
	case live.GetDeletionTimestamp() != nil:
		c.Action, c.Reason = Hold, "it is being deleted"
	case !p.set.Spec.SyncPolicy.AllowDelete():
		c.Action, c.Reason = Hold, "the policy does not let it be deleted"
	}
	return c
}

// merged is what is ours of the Application, with what is kept of the live
// one's.
func (p *planner) merged(wanted, live *unstructured.Unstructured) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: map[string]any{"spec": wanted.Object["spec"]}}
	out.SetGroupVersionKind(wanted.GroupVersionKind())
	out.SetNamespace(wanted.GetNamespace())
	out.SetName(wanted.GetName())
	var keep argo.ApplicationPreservedFields
	if p.set.Spec.PreservedFields != nil {
		keep = *p.set.Spec.PreservedFields
	}
	out.SetLabels(preserving(wanted.GetLabels(), live.GetLabels(), func(key string) bool { return slices.Contains(keep.Labels, key) }))
	out.SetAnnotations(preserving(wanted.GetAnnotations(), live.GetAnnotations(), func(key string) bool {
		return strings.HasPrefix(key, preservedPrefix) || slices.Contains(preservedAnnotations, key) || slices.Contains(keep.Annotations, key)
	}))
	finalizers := slices.Clone(wanted.GetFinalizers())
	for _, f := range live.GetFinalizers() {
		ours := f == argo.Finalizer || strings.HasPrefix(f, argo.Finalizer+"/")
		if !ours && !slices.Contains(finalizers, f) {
			finalizers = append(finalizers, f)
		}
	}
	out.SetFinalizers(finalizers)
	out.SetOwnerReferences(p.owners(live.GetOwnerReferences()))
	return out
}

// preserving are the wanted pairs, and the live ones that are kept.
func preserving(wanted, live map[string]string, keep func(key string) bool) map[string]string {
	out := maps.Clone(wanted)
	for key, value := range live {
		if _, ours := wanted[key]; ours || !keep(key) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out
}

// owners are the references with the set's own. A set that is not there yet,
// in a preview, has none.
func (p *planner) owners(refs []metav1.OwnerReference) []metav1.OwnerReference {
	if p.set.UID == "" || slices.ContainsFunc(refs, func(r metav1.OwnerReference) bool { return r.UID == p.set.UID }) {
		return refs
	}
	yes := true
	return append(slices.Clone(refs), metav1.OwnerReference{
		APIVersion: argo.GroupVersion.String(), Kind: argo.ApplicationSetKind, Name: p.set.Name, UID: p.set.UID,
		Controller: &yes, BlockOwnerDeletion: &yes,
	})
}

// patch is the merge patch from live to wanted, without what is ignored.
func (p *planner) patch(wanted, live *unstructured.Unstructured) (map[string]any, error) {
	sides := [2]map[string]any{}
	for i, u := range []*unstructured.Unstructured{live, wanted} {
		side, err := p.ignores.remove(u.GetName(), ours(u))
		if err != nil {
			return nil, err
		}
		sides[i] = side
	}
	return mergePatch(sides[0], sides[1]), nil
}

// ours is a copy of what a set writes of an Application, without nulls.
func ours(u *unstructured.Unstructured) map[string]any {
	meta := map[string]any{}
	for _, key := range []string{"labels", "annotations", "finalizers", "ownerReferences"} {
		if value, ok, _ := unstructured.NestedFieldCopy(u.Object, "metadata", key); ok {
			meta[key] = value
		}
	}
	spec, _ := runtime.DeepCopyJSONValue(u.Object["spec"]).(map[string]any)
	dropNulls(spec)
	return map[string]any{"metadata": meta, "spec": spec}
}

func dropNulls(value any) {
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			if item == nil {
				delete(v, key)
				continue
			}
			dropNulls(item)
		}
	case []any:
		for _, item := range v {
			dropNulls(item)
		}
	}
}

// mergePatch is the patch (RFC 7386) that makes to of from; empty where they
// are equal.
func mergePatch(from, to map[string]any) map[string]any {
	patch := map[string]any{}
	for key, was := range from {
		is, ok := to[key]
		if !ok {
			patch[key] = nil
			continue
		}
		a, ok1 := was.(map[string]any)
		b, ok2 := is.(map[string]any)
		switch {
		case ok1 && ok2:
			if below := mergePatch(a, b); len(below) > 0 {
				patch[key] = below
			}
		case !reflect.DeepEqual(was, is):
			patch[key] = is
		}
	}
	for key, is := range to {
		if _, ok := from[key]; !ok {
			patch[key] = is
		}
	}
	return patch
}
