package controller

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/render"
)

// reads knows what each delivery has read of the sources that it follows, so
// that a commit wakes those, and only those, that it concerns: what a commit
// costs depends on what it changes, and not on how many deliveries there are.
// Deliveries of which it does not know are none of its business, and are woken
// each time.
//
// A delivery that is not woken keeps the revision in its status that last
// changed something for it.
type reads struct {
	mu sync.Mutex
	// followed are the sources, members the sources that a delivery follows.
	followed map[string]*followed
	members  map[types.NamespacedName][]string
}

// followed is a source as it was last found.
type followed struct {
	at artifact
	// by are the deliveries, with the places that each has read.
	by     map[types.NamespacedName][]string
	places map[string]readers
}

func newReads() *reads {
	return &reads{followed: map[string]*followed{}, members: map[types.NamespacedName][]string{}}
}

// sourceRead is what a delivery has read of one source.
type sourceRead struct {
	source string
	at     artifact
	places []string
}

// join notes that the delivery is done with all that it follows, as these are
// now. Where one of them is known to be at something else it does nothing: of
// a delivery whose sources are not all known every commit is a concern.
func (r *reads) join(key types.NamespacedName, all ...sourceRead) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left(key)
	for _, s := range all {
		if f := r.followed[s.source]; f != nil && f.at.id() != s.at.id() {
			return
		}
	}
	for _, s := range all {
		f := r.followed[s.source]
		if f == nil {
			f = &followed{at: s.at, by: map[types.NamespacedName][]string{}, places: map[string]readers{}}
			r.followed[s.source] = f
		}
		f.add(key, s.places)
		if !slices.Contains(r.members[key], s.source) {
			r.members[key] = append(r.members[key], s.source)
		}
	}
}

// add adds the places to those that the delivery has read: it may read a
// source more than once.
func (f *followed) add(key types.NamespacedName, places []string) {
	if before := f.by[key]; len(before) > 0 {
		places = slices.Concat(before, places)
	}
	f.by[key] = places
	for _, p := range places {
		if before, there := f.places[p]; there {
			f.places[p] = before.with(key)
		} else {
			f.places[p] = readers{one: key}
		}
	}
}

// leave forgets the delivery.
func (r *reads) leave(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left(key)
}

func (r *reads) left(key types.NamespacedName) {
	for _, source := range r.members[key] {
		if f := r.followed[source]; f != nil {
			f.drop(key)
			if len(f.by) == 0 {
				delete(r.followed, source)
			}
		}
	}
	delete(r.members, key)
}

func (f *followed) drop(key types.NamespacedName) {
	for _, p := range f.by[key] {
		before, there := f.places[p]
		if !there {
			continue // a place can be among those of a delivery twice
		}
		if rest, any := before.without(key); any {
			f.places[p] = rest
		} else {
			delete(f.places, p)
		}
	}
	delete(f.by, key)
}

// follows says whether the delivery is done with the source as it is at the
// artifact, though the delivery may have looked at an older one.
func (r *reads) follows(key types.NamespacedName, source string, at artifact) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.followed[source]
	if f == nil || f.at.id() != at.id() {
		return false
	}
	_, there := f.by[key]
	return there
}

// known returns the source as deliveries follow it, if any does.
func (r *reads) known(source string) (artifact, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.followed[source]; f != nil {
		return f.at, true
	}
	return artifact{}, false
}

// sources are those that the delivery follows; none where it is not done with
// all of its sources.
func (r *reads) sources(key types.NamespacedName) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.members[key])
}

// advance moves the source on, by a change at these places. The deliveries
// that it concerns are forgotten. Where the source was not at from, or changed
// is nil because it is not known, these are all of them.
func (r *reads) advance(source, from string, to artifact, changed []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.followed[source]
	if f == nil || f.at.id() == to.id() {
		return
	}
	concerned := map[types.NamespacedName]struct{}{}
	if f.at.id() != from || changed == nil {
		for key := range f.by {
			concerned[key] = struct{}{}
		}
	}
	for _, p := range changed {
		if r, there := f.places[p]; there {
			r.addTo(concerned)
		}
	}
	f.at = to
	for key := range concerned {
		r.left(key)
	}
}

// placesOf are the places that are read, each once: a path, or with a slash at
// its end the names in a directory.
func placesOf(inputs []render.Input) []string {
	places := make([]string, 0, len(inputs))
	for _, in := range inputs {
		p := in.Path
		if in.Kind == render.InputDirectory {
			p = listingAt(p)
		}
		places = append(places, p)
	}
	slices.Sort(places)
	return slices.Clip(slices.Compact(places))
}

func listingAt(dir string) string { return dir + "/" }

// mostChanges is how many changed places are looked at one by one. A change of
// more concerns everybody.
const mostChanges = 50_000

var errManyChanges = errors.New("too many changes")

// changedPlaces are the places at which two trees differ, in no order. The
// error is errManyChanges, or that of reading.
func changedPlaces(ctx context.Context, old, now core.Tree) ([]string, error) {
	d := &treeDiff{old: old, now: now, changed: []string{}}
	a, err := old.Entry(ctx, ".")
	if err != nil {
		return nil, err
	}
	b, err := now.Entry(ctx, ".")
	if err != nil {
		return nil, err
	}
	if a.Hash != b.Hash {
		err = d.directory(ctx, ".", true, true)
	}
	return d.changed, err
}

type treeDiff struct {
	old, now core.Tree
	changed  []string
}

func (d *treeDiff) add(place string) error {
	if len(d.changed) == mostChanges {
		return errManyChanges
	}
	d.changed = append(d.changed, place)
	return nil
}

// directory compares what is in dir, which is in one of the trees or in both.
func (d *treeDiff) directory(ctx context.Context, dir string, inOld, inNow bool) error {
	before, err := listed(ctx, d.old, dir, inOld)
	if err != nil {
		return err
	}
	after, err := listed(ctx, d.now, dir, inNow)
	if err != nil {
		return err
	}
	for _, name := range sortedKeys(unionOf(before, after)) {
		if err := d.entry(ctx, dir, name, before, after); err != nil {
			return err
		}
	}
	return nil
}

func (d *treeDiff) entry(ctx context.Context, dir, name string, before, after map[string]core.TreeEntry) error {
	a, was := before[name]
	b, is := after[name]
	if was && is && a.Hash == b.Hash && a.Mode == b.Mode {
		return nil
	}
	at := path.Join(dir, name)
	oldDir, nowDir := was && a.Mode.IsDir(), is && b.Mode.IsDir()
	// That something in a directory changes is no change of the directory.
	if !oldDir || !nowDir {
		if err := d.add(at); err != nil {
			return err
		}
	}
	if was != is || a.Mode.Type() != b.Mode.Type() {
		if err := d.add(listingAt(dir)); err != nil {
			return err
		}
	}
	if oldDir != nowDir {
		if err := d.add(listingAt(at)); err != nil {
			return err
		}
	}
	if oldDir || nowDir {
		return d.directory(ctx, at, oldDir, nowDir)
	}
	return nil
}

func listed(ctx context.Context, tree core.Tree, dir string, there bool) (map[string]core.TreeEntry, error) {
	if !there {
		return nil, nil
	}
	entries, err := tree.List(ctx, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	by := make(map[string]core.TreeEntry, len(entries))
	for _, e := range entries {
		by[e.Name] = e
	}
	return by, nil
}

func unionOf(a, b map[string]core.TreeEntry) map[string]struct{} {
	all := make(map[string]struct{}, len(a))
	for name := range a {
		all[name] = struct{}{}
	}
	for name := range b {
		all[name] = struct{}{}
	}
	return all
}
