package deploy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// awaited is an object that is waited for.
type awaited struct {
	ref core.ObjectRef
	// version is the least resource version that counts: what the watch shows
	// of before the apply says nothing about it.
	version uint64
	// labelled: it has our label, so that one watch serves all of its kind.
	labelled bool
	// goneIsDone: a Job that is deleted once it is done. goneFails: a hook,
	// which nobody makes again.
	goneIsDone, goneFails bool
}

func awaitedOf(live *unstructured.Unstructured) awaited {
	_, ttl, _ := unstructured.NestedFieldNoCopy(live.Object, "spec", "ttlSecondsAfterFinished")
	return awaited{
		ref: refOf(live), version: version(live),
		labelled:   live.GetLabels()[mark.LabelManaged] == "true",
		goneIsDone: ttl && live.GetKind() == "Job",
	}
}

// version is 0 for one that is no number, which then counts always.
func version(obj *unstructured.Unstructured) uint64 {
	v, _ := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	return v
}

// state is what is known of an awaited object.
type state struct {
	ref     core.ObjectRef
	health  core.Health
	message string
}

// await follows the objects until decide, which is called after each change
// with the states of all of them in order, says that it has seen enough. It
// ends with ctx's error, or ErrSuperseded.
func (c *Cluster) await(ctx context.Context, d core.Dialect, list []awaited, superseded func() bool, decide func([]state) bool) error {
	if len(list) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &board{states: make([]state, len(list)), changed: make(chan struct{}, 1)}
	for i, a := range list {
		b.states[i] = state{ref: a.ref, health: core.Progressing, message: "waiting to be seen"}
	}
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	scopes, err := c.scopes(list)
	if err != nil {
		return err
	}
	for scope, members := range scopes {
		s := &healthSink{board: b, members: members, list: list, seen: map[int]bool{}, health: func(o *unstructured.Unstructured) (core.Health, string) { return c.health(d, o) }}
		following.Go(func() { kube.Follow(ctx, c.client, scope, s) })
	}
	// Asking whether there is something newer costs nothing and comes without
	// an event.
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-b.changed:
			if decide(b.snapshot()) {
				return nil
			}
		case <-tick.C:
			if superseded != nil && superseded() {
				return ErrSuperseded
			}
		}
	}
}

// scopes gathers the objects by what one watch can show, as indexes.
func (c *Cluster) scopes(list []awaited) (map[kube.Scope]map[kube.Key]int, error) {
	mappings := map[string]*meta.RESTMapping{}
	scopes := map[kube.Scope]map[kube.Key]int{}
	for i, a := range list {
		gvk := a.ref.GroupVersionKind()
		m := mappings[gvk.String()]
		if m == nil {
			var err error
			if m, err = c.client.Mapping(gvk); err != nil {
				return nil, objectError("wait for", a.ref, err)
			}
			mappings[gvk.String()] = m
		}
		scope := kube.Scope{Mapping: m, Namespace: a.ref.Namespace, Labels: mark.Selector}
		if !a.labelled {
			scope.Labels, scope.Fields = "", "metadata.name="+a.ref.Name
		}
		if scopes[scope] == nil {
			scopes[scope] = map[kube.Key]int{}
		}
		scopes[scope][kube.Key{Namespace: a.ref.Namespace, Name: a.ref.Name}] = i
	}
	return scopes, nil
}

// board is where the watches write what they see.
type board struct {
	mu      sync.Mutex
	states  []state
	changed chan struct{}
}

func (b *board) set(i int, h core.Health, msg string) {
	b.mu.Lock()
	b.states[i].health, b.states[i].message = h, msg
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (b *board) snapshot() []state {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]state(nil), b.states...)
}

// healthSink writes the health of its members on the board.
type healthSink struct {
	board   *board
	members map[kube.Key]int
	list    []awaited
	health  func(*unstructured.Unstructured) (core.Health, string)
	// seen are the members that have been there: a first list may be older
	// than they are.
	seen map[int]bool
}

type healthSeen struct {
	version uint64
	health  core.Health
	message string
}

func (s *healthSink) Project(obj *unstructured.Unstructured) healthSeen {
	if _, ok := s.members[kube.Key{Namespace: obj.GetNamespace(), Name: obj.GetName()}]; !ok {
		return healthSeen{}
	}
	h, msg := s.health(obj)
	return healthSeen{version: version(obj), health: h, message: msg}
}

func (s *healthSink) Set(key kube.Key, p healthSeen) {
	i, ok := s.members[key]
	if ok && (p.version >= s.list[i].version || p.version == 0) {
		s.seen[i] = true
		s.board.set(i, p.health, p.message)
	}
}

func (s *healthSink) Delete(key kube.Key) {
	i, ok := s.members[key]
	switch {
	case !ok:
	case s.list[i].goneIsDone:
		s.board.set(i, core.Healthy, "done and deleted")
	case s.list[i].goneFails && s.seen[i]:
		s.board.set(i, core.Degraded, "was deleted before it was done")
	default:
		s.board.set(i, core.Missing, "is not there")
	}
}

func (s *healthSink) Replace(all map[kube.Key]healthSeen) {
	for key := range s.members {
		if p, ok := all[key]; ok {
			s.Set(key, p)
		} else {
			s.Delete(key)
		}
	}
}

// awaitHealthy waits until all are healthy. It ends early where one has
// failed: at once (Argo CD's way), or when all others are done (Flux' way).
func (c *Cluster) awaitHealthy(ctx context.Context, p Plan, list []awaited) ([]state, error) {
	if p.Options.WaitTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.Options.WaitTimeout, errWaited)
		defer cancel()
	}
	var last []state
	var failed *ObjectError
	err := c.await(ctx, p.Owner.Dialect, list, p.Superseded, func(states []state) bool {
		last, failed = states, nil
		open := 0
		for _, s := range states {
			switch s.health {
			case core.Healthy:
			case core.Degraded:
				if failed == nil {
					failed = &ObjectError{Ref: s.ref, Op: "wait for", Reason: Unhealthy, Err: errors.New(orElse(s.message, "it is Degraded"))}
				}
			default:
				open++
			}
		}
		return open == 0 || failed != nil && p.Owner.Dialect == core.ArgoCD
	})
	switch {
	case errors.Is(err, errWaited):
		return last, c.timedOut(p, last)
	case err != nil:
		return last, err
	case failed != nil:
		return last, failed
	}
	return last, nil
}

// errWaited is the cause of a context whose wait took too long.
var errWaited = errors.New("waited too long")

// timedOut names the first object that did not get there, and how many more.
func (c *Cluster) timedOut(p Plan, states []state) error {
	var first *ObjectError
	more := 0
	for _, s := range states {
		switch {
		case s.health == core.Healthy:
		case first != nil:
			more++
		default:
			first = &ObjectError{Ref: s.ref, Op: "wait for", Reason: Timeout,
				Err: fmt.Errorf("still %s after %s: %s", s.health, p.Options.WaitTimeout, orElse(s.message, "no message"))}
		}
	}
	if first == nil {
		return &ObjectError{Op: "wait for", Reason: Timeout, Err: fmt.Errorf("nothing was seen within %s", p.Options.WaitTimeout)}
	}
	if more > 0 {
		first.Err = fmt.Errorf("%w (and %d more)", first.Err, more)
	}
	return first
}

// awaitGone waits until the objects are deleted, or others are in their place.
func (c *Cluster) awaitGone(ctx context.Context, objs []*unstructured.Unstructured) error {
	list := make([]awaited, len(objs))
	for i, o := range objs {
		list[i] = awaited{ref: refOf(o)}
	}
	uids := map[core.ObjectRef]string{}
	for _, o := range objs {
		uids[refOf(o).Key()] = string(o.GetUID())
	}
	gone := *c
	gone.health = func(_ core.Dialect, o *unstructured.Unstructured) (core.Health, string) {
		if uids[refOf(o).Key()] != string(o.GetUID()) {
			return core.Missing, ""
		}
		return core.Progressing, "finalizers: " + fmt.Sprint(o.GetFinalizers())
	}
	return gone.await(ctx, "", list, nil, func(states []state) bool {
		for _, s := range states {
			if s.health != core.Missing {
				return false
			}
		}
		return true
	})
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
