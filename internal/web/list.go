package web

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// feed makes the list of deliveries once for all who ask for it or watch it.
type feed struct {
	deliveries Deliveries
	// turn is held while a list is made.
	turn   chan struct{}
	newest atomic.Pointer[list]
}

func newFeed(d Deliveries) *feed { return &feed{deliveries: d, turn: make(chan struct{}, 1)} }

// list is all deliveries at one time. It does not change.
type list struct {
	made time.Time
	// changed is closed when this is not how things are any more.
	changed    <-chan struct{}
	deliveries []Delivery
	// each has the deliveries in JSON, whole the list of them.
	each  [][]byte
	whole []byte
}

// good says whether the list is how things are now, or were for some of the
// last while.
func (l *list) good(while time.Duration) bool {
	if l == nil {
		return false
	}
	select {
	case <-l.changed:
		return time.Since(l.made) < while
	default:
		return true
	}
}

// listTime bounds how long a list may take to make.
const listTime = 10 * time.Second

// get returns how things are now, or were for some of the last while. Those who
// ask at the same time share it.
func (f *feed) get(ctx context.Context, while time.Duration) (*list, error) {
	if l := f.newest.Load(); l.good(while) {
		return l, nil
	}
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l := f.newest.Load(); l.good(while) {
		return l, nil
	}
	// Who leaves does not take it from the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listTime)
	defer cancel()
	l, err := f.make(ctx)
	if err != nil {
		slog.ErrorContext(ctx, "Listing the deliveries failed", "error", err)
		return nil, err
	}
	f.newest.Store(l)
	return l, nil
}

func (f *feed) make(ctx context.Context) (*list, error) {
	l := &list{changed: f.deliveries.Changed()}
	var err error
	if l.deliveries, err = f.deliveries.List(ctx); err != nil {
		return nil, err
	}
	l.each = make([][]byte, len(l.deliveries))
	for i, d := range l.deliveries {
		if l.each[i], err = json.Marshal(d); err != nil {
			return nil, err
		}
	}
	l.whole = array(l.each)
	l.made = time.Now()
	return l, nil
}

// array is a JSON array of encoded elements.
func array(elements [][]byte) []byte {
	var out bytes.Buffer
	out.WriteByte('[')
	out.Write(bytes.Join(elements, []byte{','}))
	out.WriteByte(']')
	return out.Bytes()
}

// eyes are what one user may see of deliveries, for one request.
type eyes struct {
	applications, kustomizations, releases *core.Sight
}

func newEyes(access core.Access, user core.User) *eyes {
	of := func(o core.Owner) *core.Sight { return core.NewSight(access, user, o.Group(), o.Resource()) }
	return &eyes{of(core.Owner{Dialect: core.ArgoCD}), of(core.Owner{Dialect: core.Flux}), of(core.Owner{Dialect: core.Flux, Kind: core.HelmRelease})}
}

func (e *eyes) of(d Delivery) *core.Sight {
	switch o := d.owner(); {
	case o.Kind == core.HelmRelease:
		return e.releases
	case o.Dialect == core.Flux:
		return e.kustomizations
	}
	return e.applications
}

// all says whether the user may see every delivery.
func (e *eyes) all(ctx context.Context) (bool, error) {
	for _, sight := range []*core.Sight{e.applications, e.kustomizations, e.releases} {
		if all, err := sight.All(ctx); !all || err != nil {
			return false, err
		}
	}
	return true, nil
}

// seen is the list, in JSON, of those that the user may get because he may in
// their namespace.
func (l *list) seen(ctx context.Context, e *eyes) ([]byte, error) {
	if all, err := e.all(ctx); err != nil || all {
		return l.whole, err
	}
	var visible [][]byte
	for i, d := range l.deliveries {
		switch may, err := e.of(d).Namespace(ctx, d.Namespace); {
		case err != nil:
			return nil, err
		case may:
			visible = append(visible, l.each[i])
		}
	}
	return array(visible), nil
}

// named is the same for those of a name, which who may get single ones finds
// this way.
func (l *list) named(ctx context.Context, e *eyes, name string) ([]byte, error) {
	var visible [][]byte
	for i, d := range l.deliveries {
		if d.Name != name {
			continue
		}
		switch may, err := e.of(d).Object(ctx, d.Namespace, d.Name); {
		case err != nil:
			return nil, err
		case may:
			visible = append(visible, l.each[i])
		}
	}
	return array(visible), nil
}
