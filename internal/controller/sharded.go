package controller

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Shards say which objects are this replica's to work on; shard.Shards are
// these.
type Shards interface {
	// Run takes and keeps shards until ctx ends.
	Run(ctx context.Context) error
	// Of is the shard of an object.
	Of(uid types.UID) int
	// Enter begins work on an object that is ours: in a context that ends, and
	// lets nothing be written, when it is not ours any more.
	Enter(ctx context.Context, uid types.UID) (_ context.Context, leave func(), ours bool)
	// Moved sets what is told that a shard has become ours or another's.
	Moved(moved func(shard int, ours, settle bool))
}

// settleAfter is when what a replica had sent has arrived, or never will: the
// API server gives a request a minute, and the rest is for the network.
const settleAfter = 75 * time.Second

// sharded is the reconciler of a kind where there are several replicas.
type sharded struct {
	reconcile.Reconciler
	engine *Engine
	kind   schema.GroupVersionKind
	wake   *waker
	// forget drops what is remembered of an object, or is nil. visits says that
	// every replica reads the objects, for their artifacts are kept in memory.
	forget func(types.NamespacedName)
	visits bool
	// follows says that the objects read sources, which are asked before a
	// shard that was taken is worked on.
	follows bool
	// looks are of a kind that every replica reads.
	looks looks
}

// shard makes the reconciler of a kind heed the shards.
func (e *Engine) shard(kind schema.GroupVersionKind, r reconcile.Reconciler, w *waker) reconcile.Reconciler {
	if e.opts.Shards == nil {
		return r
	}
	s := &sharded{Reconciler: r, engine: e, kind: kind, wake: w}
	if f, ok := r.(interface{ forget(types.NamespacedName) }); ok {
		s.forget = f.forget
	}
	switch r.(type) {
	case *gitRepositories, *helmRepositories, *helmCharts, *ociRepositories:
		s.visits = true
	case *kustomizations, *helmReleases:
		s.follows = true
	}
	e.sharded = append(e.sharded, s)
	return s
}

// Reconcile implements reconcile.Reconciler.
func (s *sharded) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if s.visits {
		defer s.looks.note(req.NamespacedName, time.Now())
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(s.kind)
	if err := s.engine.client.Get(ctx, req.NamespacedName, u); err != nil {
		if apierrors.IsNotFound(err) {
			defer s.looks.forget(req.NamespacedName)
			return s.Reconciler.Reconcile(ctx, req) // which forgets it
		}
		return reconcile.Result{}, err
	}
	working, leave, ours := s.engine.opts.Shards.Enter(ctx, u.GetUID())
	switch {
	case ours && s.follows && !s.engine.open.has(s.engine.opts.Shards.Of(u.GetUID())):
		leave()
		return reconcile.Result{}, nil // it is woken when the shard is open
	case ours:
		defer leave()
	case s.visits:
		return s.Reconciler.Reconcile(context.WithValue(ctx, visiting{}, true), req)
	default:
		s.wake.take(req.NamespacedName)
		if s.forget != nil {
			s.forget(req.NamespacedName)
		}
		return reconcile.Result{}, nil
	}
	if s.wake.settles(req.NamespacedName) && s.forget != nil && !s.visits {
		// It is looked at as after a restart: what was there when we came may
		// not have been all that was still to come.
		s.forget(req.NamespacedName)
	}
	res, err := s.Reconciler.Reconcile(working, req)
	if working.Err() != nil && ctx.Err() == nil {
		return reconcile.Result{}, nil // it is another's by now
	}
	return res, err
}

// visiting marks the context of who only reads.
type visiting struct{}

// visits says that the object is another replica's: it is read, and nothing is
// written.
func visits(ctx context.Context) bool { return ctx.Value(visiting{}) != nil }

// followShards wakes what becomes ours, or another's, until ctx ends.
func (e *Engine) followShards(ctx context.Context) error {
	e.opts.Shards.Moved(func(shard int, ours, settle bool) {
		move := e.open.moved(shard)
		go e.shardMoved(ctx, shard, move, ours, settle)
	})
	return e.opts.Shards.Run(ctx)
}

func (e *Engine) shardMoved(ctx context.Context, shard, move int, ours, settle bool) {
	if ours {
		e.askSources(ctx)
		e.open.asked(shard, move)
	}
	e.wakeShard(ctx, shard, false)
	if !ours || !settle {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(settleAfter):
		e.wakeShard(ctx, shard, true)
	}
}

func (e *Engine) wakeShard(ctx context.Context, shard int, settle bool) {
	for _, s := range e.sharded {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(s.kind)
		if err := e.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			if ctx.Err() == nil {
				log.FromContext(ctx).Error(err, "listing the objects of a shard", "kind", s.kind.Kind)
			}
			continue
		}
		for i := range list.Items {
			o := &list.Items[i]
			if e.opts.Shards.Of(o.GetUID()) != shard {
				continue
			}
			key := client.ObjectKeyFromObject(o)
			if settle {
				s.wake.settle(key)
			}
			s.wake.wake(key, specChanged)
		}
	}
}
