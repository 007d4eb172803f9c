package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// What was started ends where the start fails, and the reason is the first.
func TestAStartThatFailsEndsWhatItStarted(t *testing.T) {
	failed, ended := errors.New("failed"), false
	err := together(t.Context(), func(_ context.Context, group *errgroup.Group) error {
		group.Go(func() error { return nil })
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	err = together(t.Context(), func(ctx context.Context, group *errgroup.Group) error {
		group.Go(func() error {
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond)
			ended = true
			return nil
		})
		return failed
	})
	if !errors.Is(err, failed) || !ended {
		t.Errorf("got %v, and the other part has ended: %v", err, ended)
	}
	err = together(t.Context(), func(ctx context.Context, group *errgroup.Group) error {
		group.Go(func() error { return failed })
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, failed) {
		t.Errorf("a part failed before the start did, got %v", err)
	}
}
