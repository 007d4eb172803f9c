package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
)

const (
	// eventPause bounds how often the list is made for streams, and so how
	// often one is written, however much happens.
	eventPause = 250 * time.Millisecond
	// eventKeepAlive finds out about clients that are gone, and about
	// permissions that have changed.
	eventKeepAlive = 20 * time.Second
	// eventStall is how long a client may take to take one event.
	eventStall = 30 * time.Second
	// eventLife ends a stream; clients connect again by themselves.
	eventLife = 10 * time.Minute
	// maxStreams is how many there may be, and maxUserStreams of one user.
	maxStreams, maxUserStreams = 1000, 100
)

// events streams what the user may see of the deliveries, now and at each
// change of it, as server-sent events.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	user, err := a.Access.Authenticate(r)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	leave, err := a.streams.Take(r.Context(), user.Name, 0)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), eventLife)
	defer cancel()
	s := &stream{api: a, r: r, w: w, out: http.NewResponseController(w)}
	if err := s.patience(); err != nil {
		problem.Write(w, r, fmt.Errorf("this connection cannot stream: %w", err))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	s.run(ctx)
}

// stream is one client that watches.
type stream struct {
	*api
	r   *http.Request
	w   http.ResponseWriter
	out *http.ResponseController
	// last is what the client was told last.
	last event
}

// event is what a client is told; data are shared and not written to.
type event struct {
	name string
	data []byte
}

// run writes events until ctx ends, the client is gone, or it is nobody any
// more.
func (s *stream) run(ctx context.Context) {
	keepAlive := time.NewTicker(eventKeepAlive)
	defer keepAlive.Stop()
	for {
		now, changed, err := s.look(ctx)
		if err == nil {
			err = s.tell(now)
		}
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-keepAlive.C:
		case <-changed:
			select {
			case <-ctx.Done():
				return
			case <-time.After(eventPause):
			}
		}
	}
}

// look is what the user may see now, and what says when to look again. An error
// ends the stream.
func (s *stream) look(ctx context.Context) (now event, changed <-chan struct{}, err error) {
	// A revoked token does not listen on.
	user, err := s.Access.Authenticate(s.r)
	if errors.Is(err, core.ErrUnauthenticated) {
		return event{}, nil, err
	}
	now.name = "deliveries"
	var l *list
	if err == nil {
		l, err = s.feed.get(ctx, eventPause)
	}
	if err == nil {
		changed = l.changed
		now.data, err = l.seen(ctx, newEyes(s.Access, user))
	}
	if err != nil {
		now = event{"trouble", strconv.AppendQuote(nil, problem.Of(err).Error)}
	}
	return now, changed, ctx.Err()
}

// tell writes the event, or, where the client has just been told that, a
// comment.
func (s *stream) tell(now event) error {
	if err := s.patience(); err != nil {
		return err
	}
	var err error
	if now.name == s.last.name && bytes.Equal(now.data, s.last.data) {
		_, err = fmt.Fprint(s.w, ": still here\n\n")
	} else {
		_, err = fmt.Fprintf(s.w, "event: %s\ndata: %s\n\n", now.name, now.data)
	}
	if err != nil {
		return err
	}
	s.last = now
	return s.out.Flush()
}

// patience gives the client its time for the next event. One that takes
// nothing any more is left alone, or it would hold this for ever.
func (s *stream) patience() error { return s.out.SetWriteDeadline(time.Now().Add(eventStall)) }
