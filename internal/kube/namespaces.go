package kube

import (
	"context"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Option changes a Client's defaults.
type Option func(*Client)

// Within keeps lists and watches of namespaced kinds to these namespaces, for a
// credential that may not look at all of them; none is all.
func Within(namespaces ...string) Option {
	return func(c *Client) { c.namespaces = slices.Clone(namespaces) }
}

// Namespaces are those in which objects of the mapping's kind are to be looked
// for; "" is all of the cluster.
func (c *Client) Namespaces(m *meta.RESTMapping) []string {
	if len(c.namespaces) == 0 || !Namespaced(m) {
		return []string{""}
	}
	return c.namespaces
}

// followEach follows a scope in each of several namespaces, as if it were one.
func followEach[P any](ctx context.Context, c *Client, scope Scope, namespaces []string, sink Sink[P]) {
	all := &merged[P]{sink: sink, waiting: len(namespaces), first: map[Key]P{}}
	var loops sync.WaitGroup
	for _, namespace := range namespaces {
		scope.Namespace = namespace
		part := &mergedPart[P]{of: all, keys: map[Key]struct{}{}}
		loops.Go(func() { follow(ctx, c, scope, part) })
	}
	loops.Wait()
}

// merged makes one sink of those of several namespaces.
type merged[P any] struct {
	mu   sync.Mutex
	sink Sink[P]
	// first gathers what the namespaces have, until all of them were listed:
	// waiting is how many were not.
	first   map[Key]P
	waiting int
}

// mergedPart is one namespace of it.
type mergedPart[P any] struct {
	of     *merged[P]
	listed bool
	keys   map[Key]struct{}
}

// Project implements Sink.
func (p *mergedPart[P]) Project(obj *unstructured.Unstructured) P { return p.of.sink.Project(obj) }

// Set implements Sink.
func (p *mergedPart[P]) Set(key Key, v P) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.keys[key] = struct{}{}
	if p.of.waiting > 0 {
		p.of.first[key] = v
		return
	}
	p.of.sink.Set(key, v)
}

// Delete implements Sink.
func (p *mergedPart[P]) Delete(key Key) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	delete(p.keys, key)
	if p.of.waiting > 0 {
		delete(p.of.first, key)
		return
	}
	p.of.sink.Delete(key)
}

// Replace implements Sink.
func (p *mergedPart[P]) Replace(all map[Key]P) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	before := p.keys
	p.keys = make(map[Key]struct{}, len(all))
	for key := range all {
		p.keys[key] = struct{}{}
	}
	if !p.listed {
		p.listed = true
		p.of.waiting--
	}
	if p.of.first != nil {
		p.gather(before, all)
		return
	}
	for key, v := range all {
		p.of.sink.Set(key, v)
	}
	for key := range before {
		if _, there := p.keys[key]; !there {
			p.of.sink.Delete(key)
		}
	}
}

// gather is Replace while not all namespaces were listed.
func (p *mergedPart[P]) gather(before map[Key]struct{}, all map[Key]P) {
	for key := range before {
		delete(p.of.first, key)
	}
	for key, v := range all {
		p.of.first[key] = v
	}
	if p.of.waiting == 0 {
		p.of.sink.Replace(p.of.first)
		p.of.first = nil
	}
}
