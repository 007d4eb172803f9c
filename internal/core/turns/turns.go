// Package turns lets users take their turns at something of which there is
// only so much, so that none of them keeps it from the others.
package turns

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Turns lets so many go on at the same time, and only some of them for one
// user. It is safe for concurrent use.
type Turns struct {
	what string
	all  chan struct{}
	each int

	mu    sync.Mutex
	users map[string]*share
}

// share is what one user has of the turns.
type share struct {
	turns chan struct{}
	// interest counts who has or wants one; without any the share goes.
	interest int
}

// New makes turns of which one user has at most each. what names what they are
// for, in the plural.
func New(what string, all, each int) *Turns {
	return &Turns{what: what, all: make(chan struct{}, all), each: max(1, each), users: map[string]*share{}}
}

// Take waits until it is the user's turn, at most for wait and until ctx ends;
// release ends the turn. Otherwise the error is a *BusyError.
func (t *Turns) Take(ctx context.Context, user string, wait time.Duration) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	own := t.share(user)
	if !take(ctx, own.turns) {
		t.leave(user, own)
		return nil, &BusyError{What: t.what, Limit: t.each, Own: true, after: wait}
	}
	if !take(ctx, t.all) {
		<-own.turns
		t.leave(user, own)
		return nil, &BusyError{What: t.what, Limit: cap(t.all), after: wait}
	}
	return sync.OnceFunc(func() {
		<-t.all
		<-own.turns
		t.leave(user, own)
	}), nil
}

// take prefers a free place to an end of the time.
func take(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *Turns) share(user string) *share {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.users[user]
	if s == nil {
		s = &share{turns: make(chan struct{}, t.each)}
		t.users[user] = s
	}
	s.interest++
	return s
}

func (t *Turns) leave(user string, s *share) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.interest--; s.interest == 0 {
		delete(t.users, user)
	}
}

// pause is when to come back, where nobody waits for a turn.
const pause = 5 * time.Second

// BusyError says that a turn did not come: HTTP 429 where the user has all
// that are for one user, else 503.
type BusyError struct {
	What  string
	Limit int
	// Own says that it is the user's own share that is used up.
	Own   bool
	after time.Duration
}

func (e *BusyError) Error() string {
	if e.Own {
		return fmt.Sprintf("you have %d %s already, which is as many as one user may have", e.Limit, e.What)
	}
	return fmt.Sprintf("the server has %d %s already, which is as many as it takes", e.Limit, e.What)
}

// HTTPStatus implements problem.Stated.
func (e *BusyError) HTTPStatus() int {
	if e.Own {
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// After implements problem.Passing.
func (e *BusyError) After() time.Duration { return max(e.after, pause) }
