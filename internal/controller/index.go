package controller

import (
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// index remembers what each object depends on, by name of the dependency
// ("a repository's URL", "a GitRepository"), to find who is to be woken.
type index struct {
	mu   sync.RWMutex
	deps map[types.NamespacedName][]string
	by   map[string]map[types.NamespacedName]struct{}
}

func newIndex() *index {
	return &index{deps: map[types.NamespacedName][]string{}, by: map[string]map[types.NamespacedName]struct{}{}}
}

// set replaces what key depends on; nothing forgets it.
func (x *index) set(key types.NamespacedName, deps ...string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if slices.Equal(x.deps[key], deps) {
		return
	}
	for _, d := range x.deps[key] {
		delete(x.by[d], key)
		if len(x.by[d]) == 0 {
			delete(x.by, d)
		}
	}
	delete(x.deps, key)
	if len(deps) == 0 {
		return
	}
	x.deps[key] = slices.Clone(deps)
	for _, d := range deps {
		if x.by[d] == nil {
			x.by[d] = map[types.NamespacedName]struct{}{}
		}
		x.by[d][key] = struct{}{}
	}
}

// on returns who depends on any dependency for which match holds.
func (x *index) on(match func(dep string) bool) []types.NamespacedName {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var keys []types.NamespacedName
	for dep, who := range x.by {
		if !match(dep) {
			continue
		}
		for key := range who {
			keys = append(keys, key)
		}
	}
	return keys
}

// names returns the dependencies for which match holds.
func (x *index) names(match func(dep string) bool) []string {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var names []string
	for dep := range x.by {
		if match(dep) {
			names = append(names, dep)
		}
	}
	return names
}

// of returns who depends on dep.
func (x *index) of(dep string) []types.NamespacedName {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Collect(maps.Keys(x.by[dep]))
}
