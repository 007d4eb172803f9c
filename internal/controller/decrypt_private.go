package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// hiddenValue stands in the place of a value that is not shown.
const hiddenValue = "++++++++"

// leastPrivate is the length under which a value is not looked for in texts: it
// would be found everywhere.
const leastPrivate = 4

// private are what of a delivery is not to be shown, and is not in a Secret, of
// which everybody knows that: values of other kinds that are encrypted in Git,
// or that variables bring from Secrets.
type private struct {
	objects map[core.ObjectRef]bool
	keys    map[string]bool // of maps
	values  []string        // the longest first
}

// tells says whether a value is looked for in texts. Those that are found
// everywhere say little, and without them nobody could read a message.
func tells(text string) bool {
	return len(text) >= leastPrivate && text != "true" && text != "false" && text != "null"
}

// identity is the object's, whichever namespace it comes to.
func identity(ref core.ObjectRef) core.ObjectRef {
	return core.ObjectRef{Group: ref.Group, Kind: ref.Kind, Name: ref.Name}
}

// note adds what was decrypted of an object.
func (p *private) note(encrypted, plain *unstructured.Unstructured) {
	if p.objects == nil {
		p.objects = map[core.ObjectRef]bool{}
	}
	if p.keys == nil {
		p.keys = map[string]bool{}
	}
	p.objects[identity(refOf(plain))] = true
	p.walk(encrypted.Object, plain.Object)
	p.sort()
}

func (p *private) sort() {
	slices.SortFunc(p.values, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	p.values = slices.Compact(p.values)
}

// walk notes the leaves that are not what they were, and the keys that were
// not there.
func (p *private) walk(encrypted, plain any) {
	switch plain := plain.(type) {
	case map[string]any:
		before, _ := encrypted.(map[string]any)
		for key, v := range plain {
			if _, there := before[key]; !there && tells(key) {
				p.keys[key] = true
			}
			p.walk(before[key], v)
		}
	case []any:
		before, _ := encrypted.([]any)
		for i, v := range plain {
			if i < len(before) {
				p.walk(before[i], v)
			} else {
				p.walk(nil, v)
			}
		}
	default:
		if text := fmt.Sprint(plain); plain != encrypted && plain != nil {
			p.add(text)
		}
	}
}

// add notes a value, and each line of it.
func (p *private) add(text string) {
	if !tells(text) {
		return
	}
	p.values = append(p.values, text)
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSpace(line); tells(line) && line != text {
			p.values = append(p.values, line)
		}
	}
}

// scrub takes the values out of a text.
func (p *private) scrub(text string) string {
	if p == nil {
		return text
	}
	for _, v := range p.values {
		text = strings.ReplaceAll(text, v, hiddenValue)
	}
	return text
}

// has says whether values of the object are private.
func (p *private) has(o *unstructured.Unstructured) bool {
	return p != nil && p.objects[identity(refOf(o))]
}

// hide takes the values out of an object. What names it stays: that is in the
// inventory, and in each message.
func (p *private) hide(o *unstructured.Unstructured) {
	if !p.has(o) {
		return
	}
	gvk, namespace, name := o.GroupVersionKind(), o.GetNamespace(), o.GetName()
	defer func() {
		o.SetGroupVersionKind(gvk)
		o.SetNamespace(namespace)
		o.SetName(name)
	}()
	var hide func(v any) any
	hide = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range slices.Collect(maps.Keys(v)) {
				e := hide(v[key])
				if p.keys[key] {
					delete(v, key)
					key = p.scrub(key)
				}
				v[key] = e
			}
		case []any:
			for i, e := range v {
				v[i] = hide(e)
			}
		default:
			if text := fmt.Sprint(v); slices.Contains(p.values, text) {
				return hiddenValue
			} else if s, ok := v.(string); ok {
				return p.scrub(s)
			}
		}
		return v
	}
	hide(o.Object)
}

// scrubbedError is an error without private values. What it wraps is for
// classification, not to be shown.
type scrubbedError struct {
	err  error
	text string
}

func (e *scrubbedError) Error() string { return e.text }
func (e *scrubbedError) Unwrap() error { return e.err }

func (p *private) scrubError(err error) error {
	if err == nil {
		return nil
	}
	if text := p.scrub(err.Error()); text != err.Error() {
		return &scrubbedError{err, text}
	}
	return err
}

// fluxOwner is the Kustomization of this name.
func fluxOwner(key types.NamespacedName) core.Owner {
	return core.Owner{Dialect: core.Flux, Kind: kustomizev1.KustomizationKind, Namespace: key.Namespace, Name: key.Name}
}

// discreet is a Deployer that does not tell private values. It knows them by
// owner, from the last render.
type discreet struct {
	deploy.Deployer

	mu sync.Mutex
	by map[core.Owner]*private
}

func newDiscreet(d deploy.Deployer) *discreet {
	return &discreet{Deployer: d, by: map[core.Owner]*private{}}
}

// maxPrivate is how many values are known of one owner, of its last renders.
const maxPrivate = 10000

// know adds to what is known of the owner: another revision may be rendered
// while one is brought out.
func (d *discreet) know(owner core.Owner, p *private) {
	if d == nil || len(p.objects) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p = &private{objects: maps.Clone(p.objects), keys: maps.Clone(p.keys), values: slices.Clone(p.values)}
	if before := d.by[owner]; before != nil {
		for ref := range before.objects {
			p.objects[ref] = true
		}
		if len(p.keys)+len(before.keys) <= maxPrivate {
			maps.Copy(p.keys, before.keys)
		}
		p.values = append(p.values, before.values[:min(len(before.values), max(0, maxPrivate-len(p.values)))]...)
		p.sort()
	}
	d.by[owner] = p
}

// forget forgets the owner.
func (d *discreet) forget(owner core.Owner) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.by, owner)
}

// of is what is known of the owner, or nil.
func (d *discreet) of(owner core.Owner) *private {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.by[owner]
}

// Apply implements deploy.Deployer.
func (d *discreet) Apply(ctx context.Context, plan deploy.Plan) (*deploy.Outcome, error) {
	outcome, err := d.Deployer.Apply(ctx, plan)
	return outcome, d.tidy(plan.Owner, outcome, err)
}

// Delete implements deploy.Deployer.
func (d *discreet) Delete(ctx context.Context, what deploy.Deletion) (*deploy.Outcome, error) {
	outcome, err := d.Deployer.Delete(ctx, what)
	return outcome, d.tidy(what.Owner, outcome, err)
}

// tidy takes the owner's private values out of what was done.
func (d *discreet) tidy(owner core.Owner, outcome *deploy.Outcome, err error) error {
	p := d.of(owner)
	if p == nil {
		return err
	}
	for i := range outcome.Results {
		r := &outcome.Results[i]
		r.Message, r.Err = p.scrub(r.Message), p.scrubError(r.Err)
	}
	var waiting *deploy.WaitingError
	if errors.As(err, &waiting) {
		waiting.Failure = p.scrubError(waiting.Failure)
		for i := range waiting.Objects {
			waiting.Objects[i].Message = p.scrub(waiting.Objects[i].Message)
		}
	}
	return p.scrubError(err)
}

// Compare implements deploy.Deployer. Of an object with private values, what is
// live may hold older ones: neither side is shown.
func (d *discreet) Compare(ctx context.Context, plan deploy.Plan) (*deploy.Comparison, error) {
	c, err := d.Deployer.Compare(ctx, plan)
	p := d.of(plan.Owner)
	if p == nil || err != nil {
		return c, p.scrubError(err)
	}
	for i := range c.Differences {
		diff := &c.Differences[i]
		diff.Message, diff.Err = p.scrub(diff.Message), p.scrubError(diff.Err)
		if p.objects[identity(diff.Ref)] && diff.State != deploy.InSync {
			diff.Wanted, diff.Live = nil, nil
			if diff.Message == "" && diff.Err == nil {
				diff.Message = "values of it are encrypted in Git or come from a Secret: the difference is not shown"
			}
		}
	}
	return c, nil
}
