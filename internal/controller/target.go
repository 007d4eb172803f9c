package controller

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

// sourceError says that a source is not to be had.
type sourceError struct {
	URL, Revision string
	Err           error
}

func (e *sourceError) Error() string {
	at := e.Revision
	if at == "" {
		at = "HEAD"
	}
	return fmt.Sprintf("%s at %s: %v", withoutPassword(e.URL), at, e.Err)
}

// withoutPassword is an address fit for messages.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.User == nil {
		return address
	}
	return u.Redacted()
}

func (e *sourceError) Unwrap() error { return e.Err }

// resolve returns the trees of the delivery's sources, in their order.
// revisions, where not empty, are in place of the sources' own.
func (e *Engine) resolve(ctx context.Context, d *delivery, revisions []string, fetch bool) ([]core.Snapshot, error) {
	snaps := make([]core.Snapshot, len(d.sources))
	for i, s := range d.sources {
		revision := ""
		if i < len(revisions) {
			revision = revisions[i]
		}
		var err error
		if snaps[i], err = e.resolveSource(ctx, s, revision, fetch); err != nil {
			return nil, err
		}
	}
	return snaps, nil
}

// resolveSource returns the tree of one source, at revision where that is not
// empty. The error is a *sourceError.
func (e *Engine) resolveSource(ctx context.Context, s source, revision string, fetch bool) (core.Snapshot, error) {
	req := s.from
	req.Fetch = fetch
	if revision != "" {
		req.Ref = SourceRef{Revision: revision}
	}
	var err error
	if req.Auth.Empty() {
		if req.Auth, err = e.repositoryAuth(ctx, req.URL); err != nil {
			return core.Snapshot{}, &sourceError{req.URL, req.Ref.Revision, err}
		}
	}
	snap, err := e.stages.Sources.Resolve(ctx, req)
	if err == nil {
		snap, err = s.shape.of(ctx, snap)
	}
	if err != nil {
		return core.Snapshot{}, &sourceError{req.URL, req.Ref.Revision, err}
	}
	return snap, nil
}

// render renders the delivery's sources as they are in snaps.
func (e *Engine) render(ctx context.Context, d *delivery, snaps []core.Snapshot) (*target, error) {
	if err := e.unlock(ctx, d); err != nil {
		return nil, err
	}
	t := &target{params: d.work(), made: made{at: time.Now()}}
	refs, named := map[string]core.Tree{}, map[string]int{}
	for i, s := range d.sources {
		t.revisions = append(t.revisions, snaps[i].Revision)
		if s.name != "" {
			refs[s.name], named[s.name] = snaps[i].Tree, i
		}
	}
	inputs := make([][]render.Input, len(d.sources))
	var objects []*unstructured.Unstructured
	for i, s := range d.sources {
		if s.render == nil {
			continue
		}
		req := *s.render
		req.Tree, req.Refs, req.Source = snaps[i].Tree, refs, s.from.URL
		req.Decrypt = d.decryption.decrypter()
		res, err := e.stages.Renderer.Render(ctx, req)
		if err != nil {
			return nil, err
		}
		if err := d.decryption.decrypt(res.Objects); err != nil {
			return nil, err
		}
		t.clear = append(t.clear, res.ClearSecrets...)
		t.tools = append(t.tools, string(res.Tool))
		t.warnings = append(t.warnings, res.Warnings...)
		for _, in := range res.Inputs {
			at := i
			if in.Source != "" {
				at = named[in.Source]
			}
			inputs[at] = append(inputs[at], in)
		}
		objects = t.add(objects, res)
	}
	for _, list := range inputs {
		t.places = append(t.places, placesOf(list))
	}
	d.tell(e.private)
	t.made.inputs, t.made.took = inputsOf(t.params, inputs), time.Since(t.made.at)
	t.images = imagesOf(objects)
	t.seal(objects)
	return t, nil
}

// seal gives the target its objects, and with them its digest.
func (t *target) seal(objects []*unstructured.Unstructured) {
	t.digest, t.objects = digest([]any{t.params, objects}), pack(objects)
}

// add returns the objects with those of the result. An object that an earlier
// source has too is replaced, with a warning, as Argo CD does it.
func (t *target) add(objects []*unstructured.Unstructured, res *render.Result) []*unstructured.Unstructured {
	at := make(map[core.ObjectRef]int, len(objects))
	for i, o := range objects {
		at[refOf(o).Key()] = i
	}
	for _, o := range res.Objects {
		key := refOf(o).Key()
		if i, there := at[key]; there && o.GetName() != "" {
			t.repeated = append(t.repeated, refOf(o))
			objects[i] = o
			continue
		}
		at[key] = len(objects)
		objects = append(objects, o)
	}
	return objects
}

// refOf names the object.
func refOf(o *unstructured.Unstructured) core.ObjectRef {
	gvk := o.GroupVersionKind()
	return core.ObjectRef{Group: gvk.Group, Version: gvk.Version, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// same says whether the target is of these parameters and revisions.
func (t *target) same(d *delivery, snaps []core.Snapshot) bool {
	if t == nil || t.params != d.work() || len(t.revisions) != len(snaps) {
		return false
	}
	for i, s := range snaps {
		if t.revisions[i] != s.Revision {
			return false
		}
	}
	return true
}

// imagesOf are the images of the objects' containers, sorted.
func imagesOf(objects []*unstructured.Unstructured) []string {
	set := map[string]struct{}{}
	for _, o := range objects {
		for _, path := range [][]string{
			{"spec"}, {"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"},
		} {
			for _, field := range []string{"containers", "initContainers"} {
				// Slices without a copy: nothing is changed.
				value, _, _ := unstructured.NestedFieldNoCopy(o.Object, append(slices.Clone(path), field)...)
				containers, _ := value.([]any)
				for _, c := range containers {
					m, _ := c.(map[string]any)
					if image, _ := m["image"].(string); strings.TrimSpace(image) != "" {
						set[image] = struct{}{}
					}
				}
			}
		}
	}
	if len(set) == 0 {
		return nil
	}
	return sortedKeys(set)
}
