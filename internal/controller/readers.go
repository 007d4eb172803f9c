package controller

import "k8s.io/apimachinery/pkg/types"

// readers are the deliveries that have read a place: at least one. Nearly all
// places are read by one alone, for which a set would be ten times as large.
type readers struct {
	one types.NamespacedName
	// all are several; nil while there is but one.
	all map[types.NamespacedName]struct{}
}

// with returns the readers and one more.
func (r readers) with(key types.NamespacedName) readers {
	switch {
	case r.all != nil:
		r.all[key] = struct{}{}
	case r.one != key:
		r = readers{all: map[types.NamespacedName]struct{}{r.one: {}, key: {}}}
	}
	return r
}

// without returns the readers but for one; false is for none.
func (r readers) without(key types.NamespacedName) (readers, bool) {
	if r.all == nil {
		return r, r.one != key
	}
	delete(r.all, key)
	return r, len(r.all) > 0
}

// addTo adds the readers to a set.
func (r readers) addTo(set map[types.NamespacedName]struct{}) {
	if r.all == nil {
		set[r.one] = struct{}{}
		return
	}
	for key := range r.all {
		set[key] = struct{}{}
	}
}
