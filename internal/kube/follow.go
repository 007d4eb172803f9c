package kube

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// Scope is what to follow: the objects of a kind, in a namespace or in all,
// that the selectors match.
type Scope struct {
	Mapping   *meta.RESTMapping
	Namespace string // "" is all
	Labels    string
	Fields    string
}

// Key names an object within its kind.
type Key struct{ Namespace, Name string }

// Sink is told what stands in a scope. It is called by one goroutine at a
// time, in the order in which things happened.
type Sink[P any] interface {
	// Project reduces an object as soon as it was decoded; only what it
	// returns is kept. It must not keep the object, and may be called before
	// the others of a list are known.
	Project(obj *unstructured.Unstructured) P
	// Set says that an object is there, or has changed.
	Set(key Key, p P)
	// Delete says that an object is gone, or no longer matches the selectors.
	Delete(key Key)
	// Replace says that these objects are there and no others: the first time,
	// and each time after the watch had lost its place.
	Replace(all map[Key]P)
}

// Follow tells sink what stands in scope until ctx ends: all of it at first,
// then each change, by a watch. A connection that is lost is made again, with
// a growing pause; a watch that lost its place lists anew.
func Follow[P any](ctx context.Context, c *Client, scope Scope, sink Sink[P]) {
	if list := c.Namespaces(scope.Mapping); scope.Namespace == "" && list[0] != "" {
		followEach(ctx, c, scope, list, sink)
		return
	}
	follow(ctx, c, scope, sink)
}

// follow is Follow of one namespace, or of all as one.
func follow[P any](ctx context.Context, c *Client, scope Scope, sink Sink[P]) {
	res := c.dynamic.Resource(scope.Mapping.Resource)
	in := func(o *metav1.ListOptions) {
		o.LabelSelector, o.FieldSelector = scope.Labels, scope.Fields
	}
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			in(&o)
			return res.Namespace(scope.Namespace).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			in(&o)
			return res.Namespace(scope.Namespace).Watch(ctx, o)
		},
	}
	expected := &unstructured.Unstructured{}
	expected.SetGroupVersionKind(scope.Mapping.GroupVersionKind)
	cache.NewReflectorWithOptions(lw, expected, &store[P]{sink}, cache.ReflectorOptions{
		Name:            "fairway",
		TypeDescription: scope.Mapping.GroupVersionKind.String(),
		Backoff:         &wait.Backoff{Duration: 100 * time.Millisecond, Cap: 30 * time.Second, Steps: 10, Factor: 2, Jitter: 0.5},
	}).RunWithContext(ctx)
}

// store makes a sink of a reflector's store, and projects what the reflector
// would keep meanwhile.
type store[P any] struct{ sink Sink[P] }

var _ cache.TransformingStore = &store[int]{}

// projected is what the reflector holds in place of an object.
type projected[P any] struct {
	key Key
	p   P
}

// GetObjectMeta is for the reflector, which asks for the name.
func (p *projected[P]) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: p.key.Namespace, Name: p.key.Name}
}

// GetObjectKind and DeepCopyObject make it a runtime.Object, without which the
// reflector does not take it for one.
func (p *projected[P]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject returns p itself: a projection is never changed.
func (p *projected[P]) DeepCopyObject() runtime.Object { return p }

func (s *store[P]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return s.project(obj), nil }
}

// project returns nil for what is no object.
func (s *store[P]) project(obj any) *projected[P] {
	switch o := obj.(type) {
	case *projected[P]:
		return o
	case *unstructured.Unstructured:
		return &projected[P]{key: Key{Namespace: o.GetNamespace(), Name: o.GetName()}, p: s.sink.Project(o)}
	}
	return nil
}

func (s *store[P]) Add(obj any) error { return s.Update(obj) }

func (s *store[P]) Update(obj any) error {
	if p := s.project(obj); p != nil {
		s.sink.Set(p.key, p.p)
	}
	return nil
}

func (s *store[P]) Delete(obj any) error {
	if o, err := meta.Accessor(obj); err == nil {
		s.sink.Delete(Key{Namespace: o.GetNamespace(), Name: o.GetName()})
	}
	return nil
}

func (s *store[P]) Replace(objs []any, _ string) error {
	all := make(map[Key]P, len(objs))
	for i, obj := range objs {
		if p := s.project(obj); p != nil {
			all[p.key] = p.p
		}
		objs[i] = nil
	}
	s.sink.Replace(all)
	return nil
}

func (s *store[P]) Resync() error { return nil }
