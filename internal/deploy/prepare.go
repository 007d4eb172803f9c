package deploy

import (
	"encoding/base64"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// item is one object of a plan on its way into the cluster.
type item struct {
	ref core.ObjectRef
	// obj is what is sent, but for the evidence.
	obj      *unstructured.Unstructured
	settings settings
	hook     *hook
	phase    phase
	digest   string
	// ignored are the differences that its delivery ignores.
	ignored []IgnoreDifference

	// What examine finds out.
	verdict verdict
	live    *unstructured.Unstructured // nil where it is not there
	merged  *unstructured.Unstructured // the dry-run's answer
	remake  bool                       // a field is immutable, and force is set
	seen    mark.Seen                  // where verdict is known
	owner   core.Owner                 // where verdict is shared
	note    string                     // for people, of a skip
	lacks   error                      // where verdict is undecided: what the API server missed
	err     *ObjectError
	// conflicts is how often it was written by somebody while it was looked at.
	conflicts int

	// What its turn has come to: how healthy it is, and for what it waits.
	health  core.Health
	message string
	waits   *Awaited
}

// verdict is what is to be done with an item.
type verdict int

const (
	// undecided: its kind or namespace is not there yet and comes in this
	// plan, so it is looked at again when it is its turn.
	undecided verdict = iota
	known             // is as it was applied, from the same manifest: nobody was asked
	unchanged
	refresh // is as wanted, but does not tell so: only the evidence is written
	create
	configure
	skip   // its annotations say so
	shared // another delivery has it
)

// prepared is a plan made ready.
type prepared struct {
	plan  Plan
	items []*item
	// namespaces and kinds come into being with the plan.
	namespaces map[string]bool
	kinds      map[schema.GroupKind]bool // value: namespaced
	warnings   []Warning
	// partial: only a part of the plan is meant.
	partial bool
	// all are the references of the whole plan, hooks included.
	all map[core.ObjectRef]bool
	// empty: the plan as a whole has no objects.
	empty bool
}

// prepare makes items of a plan's objects. Its error is a *PlanError.
func (c *Cluster) prepare(p Plan) (*prepared, error) {
	pre := &prepared{
		plan: p, partial: len(p.Only) > 0,
		namespaces: map[string]bool{}, kinds: map[schema.GroupKind]bool{}, all: map[core.ObjectRef]bool{},
	}
	pre.announce()
	only := map[core.ObjectRef]bool{}
	for _, r := range p.Only {
		only[r.Key()] = true
	}
	var failed []*ObjectError
	pre.empty = true
	for _, obj := range p.Objects {
		items, err := c.prepareObject(pre, obj)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		for _, it := range items {
			if it.hook == nil {
				pre.empty = false
			}
			key := it.ref.Key()
			if it.hook == nil && pre.all[key] {
				if err := pre.duplicate(it); err != nil {
					failed = append(failed, err)
				}
				continue
			}
			pre.all[key] = true
			if pre.partial && (!only[key] || it.hook != nil) {
				continue
			}
			pre.items = append(pre.items, it)
		}
	}
	if len(failed) > 0 {
		return pre, &PlanError{Objects: failed}
	}
	return pre, nil
}

// announce notes which namespaces and kinds the plan brings along.
func (pre *prepared) announce() {
	if o := pre.plan.Options; o.CreateNamespace && o.Namespace != "" {
		pre.namespaces[o.Namespace] = true
	}
	for _, obj := range pre.plan.Objects {
		switch gvk := obj.GroupVersionKind(); {
		case gvk.Group == "" && gvk.Kind == "Namespace":
			pre.namespaces[obj.GetName()] = true
		case isDefinition(obj):
			group, _, _ := unstructured.NestedString(obj.Object, "spec", "group")
			kind, _, _ := unstructured.NestedString(obj.Object, "spec", "names", "kind")
			scope, _, _ := unstructured.NestedString(obj.Object, "spec", "scope")
			pre.kinds[schema.GroupKind{Group: group, Kind: kind}] = scope != "Cluster"
		}
	}
}

// duplicate handles an object that is in the plan twice. Argo CD warns and
// takes the last one; Flux' kustomize build refuses.
func (pre *prepared) duplicate(it *item) *ObjectError {
	if pre.plan.Owner.Dialect == core.Flux {
		return &ObjectError{Ref: it.ref, Op: "apply", Reason: Duplicate, Err: fmt.Errorf("the manifests have it more than once")}
	}
	pre.warnings = append(pre.warnings, Warning{RepeatedResource, fmt.Sprintf("%s appears more than once; the last one is applied", it.ref)})
	for i, other := range pre.items {
		if other.hook == nil && other.ref.Key() == it.ref.Key() {
			pre.items[i] = it
		}
	}
	return nil
}

// prepareObject returns the item of an object, or several of a hook with
// several phases, or none where it is not to be applied.
func (c *Cluster) prepareObject(pre *prepared, source *unstructured.Unstructured) ([]*item, *ObjectError) {
	p := pre.plan
	obj := source.DeepCopy()
	h, err := hookOf(p.Owner, obj)
	if err == nil && h != nil && h.skip {
		return nil, nil
	}
	c.settle(pre, obj)
	it := &item{obj: obj, ref: refOf(obj), hook: h, phase: phaseSync}
	if err == nil {
		it.settings, err = settingsOf(p.Owner, obj, p.Options)
	}
	if err != nil {
		return nil, &ObjectError{Ref: it.ref, Op: "apply", Reason: Unsupported, Err: err}
	}
	if obj.GetName() == "" && (h == nil || obj.GetGenerateName() == "") {
		return nil, &ObjectError{Ref: it.ref, Op: "apply", Reason: Invalid, Err: fmt.Errorf("metadata.name is missing (generateName is for hooks)")}
	}
	if isSecret(it.ref) {
		if err := checkSecret(obj); err != nil {
			return nil, &ObjectError{Ref: it.ref, Op: "apply", Reason: Invalid, Err: err}
		}
	}
	if h != nil {
		return c.hookItems(p, it), nil
	}
	it.ignored = matchIgnored(p.Options.IgnoreDifferences, it.ref)
	c.tracking.Write(obj, p.Owner, p.Options.Namespace)
	it.digest = mark.Digest(obj)
	return []*item{it}, nil
}

// hookItems makes an item for each phase of a hook. What has a generated name
// gets one that says what it was for, as Argo CD's do.
func (c *Cluster) hookItems(p Plan, it *item) []*item {
	var items []*item
	for _, ph := range it.hook.phases {
		if ph == phasePreDelete || ph == phasePostDelete {
			continue
		}
		copied := *it
		copied.phase = ph
		copied.obj = it.obj.DeepCopy()
		if name := copied.obj.GetName(); name == "" {
			copied.obj.SetName(fmt.Sprintf("%s%.7s-%s-%d", copied.obj.GetGenerateName(), p.Revision, strings.ToLower(string(ph)), p.Hooks.started().Unix()))
			copied.obj.SetGenerateName("")
			copied.ref = refOf(copied.obj)
		}
		c.trackHook(&copied, p.Owner, p.Options.Namespace)
		items = append(items, &copied)
	}
	return items
}

// trackHook marks a hook as the owner's. It is not watched: a hook is waited
// for, and then nobody's concern.
func (c *Cluster) trackHook(it *item, owner core.Owner, namespace string) {
	c.tracking.Write(it.obj, owner, namespace)
	labels := it.obj.GetLabels()
	delete(labels, mark.LabelManaged)
	it.obj.SetLabels(labels)
	it.digest = mark.Digest(it.obj)
}

// settle removes what only an API server writes, and gives the object its
// namespace.
func (c *Cluster) settle(pre *prepared, obj *unstructured.Unstructured) {
	for _, f := range []string{"creationTimestamp", "managedFields", "resourceVersion", "uid", "generation", "selfLink"} {
		unstructured.RemoveNestedField(obj.Object, "metadata", f)
	}
	if a := obj.GetAnnotations(); a != nil {
		// A manifest that was exported from a cluster may have these.
		for _, k := range []string{mark.AnnotationApplied, mark.AnnotationIgnored, lastApplied} {
			delete(a, k)
		}
		obj.SetAnnotations(a)
	}
	if pre.plan.Owner.Dialect == core.Flux && !isDefinition(obj) {
		unstructured.RemoveNestedField(obj.Object, "status")
	}
	if obj.GroupVersionKind().Group == "" && obj.GetKind() == "Secret" {
		encodeStringData(obj)
	}
	o := pre.plan.Options
	switch namespaced, known := c.namespaced(pre, obj.GroupVersionKind()); {
	case known && !namespaced:
		obj.SetNamespace("")
	case o.Namespace != "" && (o.ForceNamespace || obj.GetNamespace() == ""):
		obj.SetNamespace(o.Namespace)
	case obj.GetNamespace() == "":
		obj.SetNamespace("default")
	}
}

// namespaced says whether a kind's objects have a namespace. Of a kind that
// nobody knows it is assumed.
func (c *Cluster) namespaced(pre *prepared, gvk schema.GroupVersionKind) (namespaced, known bool) {
	if n, ok := pre.kinds[gvk.GroupKind()]; ok {
		return n, true
	}
	m, err := c.client.Mapping(gvk)
	if err != nil {
		return true, false
	}
	return kube.Namespaced(m), true
}

// encodeStringData does what the API server does with a Secret's stringData,
// because server-side apply loses track of it: a key that is removed from
// there would stay in data for ever
// (https://github.com/kubernetes/kubernetes/issues/108008).
func encodeStringData(obj *unstructured.Unstructured) {
	plain, ok, err := unstructured.NestedStringMap(obj.Object, "stringData")
	if !ok || err != nil {
		return
	}
	data, _, _ := unstructured.NestedMap(obj.Object, "data")
	if data == nil {
		data = map[string]any{}
	}
	for k, v := range plain {
		data[k] = base64.StdEncoding.EncodeToString([]byte(v))
	}
	obj.Object["data"] = data
	delete(obj.Object, "stringData")
}

func isDefinition(obj *unstructured.Unstructured) bool {
	gvk := obj.GroupVersionKind()
	return gvk.Group == "apiextensions.k8s.io" && gvk.Kind == "CustomResourceDefinition"
}

func refOf(obj *unstructured.Unstructured) core.ObjectRef {
	gvk := obj.GroupVersionKind()
	return core.ObjectRef{
		Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind,
		Namespace: obj.GetNamespace(), Name: obj.GetName(),
	}
}
