package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/watch"
)

// mostDrifts is how many objects drift at once.
const mostDrifts = 1000

// storm changes many objects by hand at once, and in the middle of that one by
// a commit: how long the healing takes, and how long the commit does.
func (f *fleet) storm(ctx context.Context) error {
	drifts := min(mostDrifts, f.n-1)
	var sync time.Duration
	err := f.measure(ctx, fmt.Sprintf("%d drifts at once, until all are healed", drifts), 1, func(int) (time.Duration, error) {
		// The last app is left alone, and changed by a commit.
		if err := f.writeApp(f.n-1, "amid"); err != nil {
			return 0, err
		}
		if err := f.commit(ctx, "amid"); err != nil {
			return 0, err
		}
		s, err := f.watchStorm(ctx, drifts)
		if err != nil {
			return 0, err
		}
		began := time.Now()
		var g errgroup.Group
		g.SetLimit(32)
		for i := range drifts {
			g.Go(func() error { return f.drift(ctx, appName(i)) })
			if i == drifts/2 {
				pushed := time.Now()
				if err := f.push(ctx); err != nil {
					return 0, err
				}
				g.Go(func() error {
					at, err := s.wait(ctx, s.synced)
					sync = at.Sub(pushed)
					return err
				})
			}
		}
		if err := g.Wait(); err != nil {
			return 0, err
		}
		at, err := s.wait(ctx, s.healed)
		return at.Sub(began), err
	})
	if err != nil {
		return err
	}
	f.add(fmt.Sprintf("a commit that changes one, amid %d drifts", drifts), []time.Duration{sync}, f.usage(), 0, 0, 0)
	return nil
}

// stormWatch says when all was healed, and when the commit was live.
type stormWatch struct {
	healed, synced chan time.Time
	err            chan error
}

func (f *fleet) watchStorm(ctx context.Context, drifts int) (*stormWatch, error) {
	w, err := f.watchLive(ctx)
	if err != nil {
		return nil, err
	}
	s := &stormWatch{healed: make(chan time.Time, 1), synced: make(chan time.Time, 1), err: make(chan error, 2)}
	go func() {
		defer w.Stop()
		drifted, healed := map[string]bool{}, map[string]bool{}
		var once sync.Once
		_, err := f.until(ctx, w, time.Now(), func(e watch.Event) bool {
			name, value := valueOf(e.Object)
			switch {
			case value == byHand:
				drifted[name] = true
			case value == "amid":
				once.Do(func() { s.synced <- time.Now() })
			case drifted[name]:
				healed[name] = true
			}
			return len(healed) == drifts
		})
		if err != nil {
			s.err <- err
			s.err <- err // there are two that wait
			return
		}
		s.healed <- time.Now()
	}()
	return s, nil
}

func (s *stormWatch) wait(ctx context.Context, at <-chan time.Time) (time.Time, error) {
	select {
	case t := <-at:
		return t, nil
	case err := <-s.err:
		return time.Time{}, err
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
}
