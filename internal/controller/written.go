package controller

import (
	"strconv"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// written is an object as we last wrote it, for as long as the cache shows an
// older one. The zero value is none.
type written struct {
	object atomic.Pointer[unstructured.Unstructured]
	// shown is the newest resource version that the cache has shown.
	shown atomic.Uint64
}

// Load returns the object, or nil.
func (w *written) Load() *unstructured.Unstructured { return w.object.Load() }

// Store takes what the API server has answered. The cache may be faster.
func (w *written) Store(u *unstructured.Unstructured) {
	w.object.Store(u)
	w.drop()
}

// show notes what the cache shows.
func (w *written) show(version uint64) {
	w.shown.Store(version)
	w.drop()
}

func (w *written) drop() {
	u := w.object.Load()
	if u == nil {
		return
	}
	if v, ok := versionOf(u); ok && v <= w.shown.Load() {
		w.object.CompareAndSwap(u, nil)
	}
}

// versionOf is the resource version. Since Kubernetes 1.35 those of one
// resource compare as numbers (KEP-5504); false is for what is none.
func versionOf(o client.Object) (uint64, bool) {
	v, err := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	return v, err == nil
}

// shown is told of each object as the cache shows it.
func (m *memories) shown(o client.Object) {
	version, ok := versionOf(o)
	m.mu.Lock()
	known := m.by[client.ObjectKeyFromObject(o)]
	m.mu.Unlock()
	if ok && known != nil {
		known.written.show(version)
	}
}
