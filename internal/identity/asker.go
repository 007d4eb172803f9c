package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairway-cd/fairway/internal/core"
)

// asker puts questions to the API server: equal ones together, only so many at
// once, each with a deadline, and none for a moment after several got no
// answer, so that requests do not each wait for a server that hangs.
type asker struct {
	timeout time.Duration
	flights singleflight.Group
	slots   *semaphore.Weighted
	breaker *gobreaker.CircuitBreaker[any]
	// last is why the newest question got no answer.
	last atomic.Pointer[error]
}

const (
	// tripAfter questions in a row without an answer, none are put
	tripAfter = 3
	// for this long; then one goes ahead and finds out.
	tripFor = time.Second
)

func newAsker(o Options) *asker {
	return &asker{
		timeout: o.Timeout,
		slots:   semaphore.NewWeighted(int64(o.Concurrency)),
		breaker: gobreaker.NewCircuitBreaker[any](gobreaker.Settings{
			Timeout:      tripFor,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			IsSuccessful: func(err error) bool { return !away(err) },
		}),
	}
}

// ask puts one question. Callers with the same key at the same time share the
// answer; one that leaves does not take the question with it. An error is a
// *core.UnavailableError.
func ask[T any](ctx context.Context, a *asker, key string, question func(context.Context) (T, error)) (T, error) {
	answer := a.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
		defer cancel()
		if err := a.slots.Acquire(ctx, 1); err != nil {
			return nil, errBusy
		}
		defer a.slots.Release(1)
		v, err := a.breaker.Execute(func() (any, error) { return question(ctx) })
		return v, a.explain(err)
	})
	var none T
	select {
	case <-ctx.Done():
		return none, unavailable(ctx.Err())
	case r := <-answer:
		if r.Err != nil {
			return none, unavailable(r.Err)
		}
		return r.Val.(T), nil
	}
}

var errBusy = errors.New("too many requests are waiting to be authenticated")

// explain puts the reason in place of the breaker's own errors, and keeps the
// reason of others.
func (a *asker) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		if last := a.last.Load(); last != nil {
			return *last
		}
		return err
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no answer within %s: %w", a.timeout, context.DeadlineExceeded)
	}
	a.last.Store(&err)
	return err
}

func unavailable(err error) error {
	return &core.UnavailableError{What: "the Kubernetes API server", Err: err}
}

// away says whether err means that the API server did not answer (or so slowly
// that questions pile up), rather than that it answered something that we did
// not want to hear.
func away(err error) bool {
	if err == nil {
		return false
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code := status.Status().Code
		return code >= http.StatusInternalServerError || code == http.StatusTooManyRequests
	}
	return !errors.Is(err, context.Canceled)
}
