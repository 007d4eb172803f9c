package app

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/fairway-cd/fairway/internal/core/problem"
)

const (
	// maxConnections is how many a listener serves at the same time.
	maxConnections = 2048
	// moreConnections are answered that there are too many; beyond them a
	// connection is closed unanswered.
	moreConnections = 512
)

// crowd bounds the connections of one server. From three quarters of the
// limit on, none is kept for the next request, so that clients which do
// nothing make room for those that do. golang.org/x/net/netutil's
// LimitListener leaves further ones waiting without an answer, behind
// connections that are idle.
type crowd struct {
	limit, more int
	server      *http.Server

	mu sync.Mutex
	// all counts the connections, full says that none is kept.
	all  int
	full bool
}

// late marks the context of a connection that is one too many.
type late struct{}

// bound bounds the server's connections: to limit, and more that refuseLate
// answers.
func bound(server *http.Server, limit, more int) {
	c := &crowd{limit: limit, more: more, server: server}
	server.ConnState, server.ConnContext = c.changed, c.arrived
}

// arrived marks a connection that is one too many. It is counted after this.
func (c *crowd) arrived(ctx context.Context, _ net.Conn) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all < c.limit {
		return ctx
	}
	return context.WithValue(ctx, late{}, true)
}

// changed is told what becomes of each connection.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if c.add(1) > c.limit+c.more {
			conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		c.add(-1)
	}
}

// add counts, and changes whether connections are kept. The server closes idle
// ones when they are not.
func (c *crowd) add(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all += n
	if full := c.all >= c.limit*3/4; full != c.full {
		c.full = full
		c.server.SetKeepAlivesEnabled(!full)
	}
	return c.all
}

// refuseLate answers what comes over connections that are too many, and has
// them closed.
func refuseLate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(late{}) == nil {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		problem.Write(w, r, crowdedError{})
	})
}

// crowdedError says that there are too many connections: HTTP 503.
type crowdedError struct{}

func (crowdedError) Error() string {
	return "the server has as many connections as it takes, try again"
}

// HTTPStatus implements problem.Stated.
func (crowdedError) HTTPStatus() int { return http.StatusServiceUnavailable }

// After implements problem.Passing.
func (crowdedError) After() time.Duration { return 5 * time.Second }
