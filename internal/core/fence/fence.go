// Package fence keeps a process from writing what has become another's to
// write. A context carries the fence; whoever sends a request asks it, last of
// all (Guard).
//
// A fence that holds when a request is sent says nothing of when the request
// arrives. So a write that is fenced also names the version of what it was
// decided on (deploy, and each update of a status): see docs/design/shards.md.
package fence

import (
	"context"
	"fmt"
	"net/http"
)

// Fence says whether its holder may still write. It is safe for concurrent
// use and comparable, and once it does not hold it never holds again.
type Fence interface{ Holds() bool }

type key struct{}

// With returns a context whose requests are fenced.
func With(ctx context.Context, f Fence) context.Context { return context.WithValue(ctx, key{}, f) }

// From returns the fence of a context, or nil.
func From(ctx context.Context) Fence {
	f, _ := ctx.Value(key{}).(Fence)
	return f
}

// LostError says that a request was not sent, because its fence does not hold.
type LostError struct{ Method, Path string }

func (e *LostError) Error() string {
	return fmt.Sprintf("%s %s was not sent: another process is responsible by now", e.Method, e.Path)
}

// Guard refuses to send requests that write and whose fence does not hold.
func Guard(next http.RoundTripper) http.RoundTripper { return &guard{next} }

type guard struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	f := From(req.Context())
	if f == nil || req.Method == http.MethodGet || req.Method == http.MethodHead || f.Holds() {
		return g.next.RoundTrip(req)
	}
	if req.Body != nil {
		_ = req.Body.Close() // as RoundTripper asks, errors included
	}
	return nil, &LostError{req.Method, req.URL.Path}
}

// WrappedRoundTripper is for client-go, which looks for the transport below.
func (g *guard) WrappedRoundTripper() http.RoundTripper { return g.next }

// Bound gives every request a fence that has none, for clients that send
// requests without a context of ours. It goes around Guard.
func Bound(f Fence) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return &bound{next, f} }
}

type bound struct {
	next http.RoundTripper
	f    Fence
}

// RoundTrip implements http.RoundTripper.
func (b *bound) RoundTrip(req *http.Request) (*http.Response, error) {
	if From(req.Context()) == nil {
		req = req.WithContext(With(req.Context(), b.f))
	}
	return b.next.RoundTrip(req)
}

// WrappedRoundTripper is for client-go, which looks for the transport below.
func (b *bound) WrappedRoundTripper() http.RoundTripper { return b.next }
