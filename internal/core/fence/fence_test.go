package fence_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairway-cd/fairway/internal/core/fence"
)

type switchable struct{ on atomic.Bool }

func (s *switchable) Holds() bool { return s.on.Load() }

func TestGuard(t *testing.T) {
	var got atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	defer server.Close()
	client := &http.Client{Transport: fence.Guard(http.DefaultTransport)}
	f := &switchable{}
	for _, c := range []struct {
		method       string
		fenced, held bool
		sent         bool
	}{
		{http.MethodPatch, false, false, true},
		{http.MethodPatch, true, true, true},
		{http.MethodPatch, true, false, false},
		{http.MethodPost, true, false, false},
		{http.MethodPut, true, false, false},
		{http.MethodDelete, true, false, false},
		{http.MethodGet, true, false, true},
	} {
		ctx := context.Background()
		if c.fenced {
			ctx = fence.With(ctx, f)
		}
		f.on.Store(c.held)
		before := got.Load()
		req, err := http.NewRequestWithContext(ctx, c.method, server.URL+"/x", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		var lost *fence.LostError
		if sent := got.Load() > before; sent != c.sent || errors.As(err, &lost) == c.sent {
			t.Errorf("%+v: sent %v, %v", c, sent, err)
		}
	}
}

// A client without contexts is bound to those of who uses it.
func TestBound(t *testing.T) {
	var got atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got.Add(1) }))
	defer server.Close()
	lost, held := &switchable{}, &switchable{}
	held.on.Store(true)
	guarded := fence.Guard(http.DefaultTransport)
	for name, c := range map[string]struct {
		client  fence.Fence
		request context.Context
		sent    bool
	}{
		"held":           {held, t.Context(), true},
		"lost":           {lost, t.Context(), false},
		"request's, too": {lost, fence.With(t.Context(), held), true},
	} {
		before := got.Load()
		client := &http.Client{Transport: fence.Bound(c.client)(guarded)}
		req, err := http.NewRequestWithContext(c.request, http.MethodPost, server.URL, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
		}
		if sent := got.Load() > before; sent != c.sent || errors.As(err, new(*fence.LostError)) == c.sent {
			t.Errorf("%s: sent %v, %v", name, sent, err)
		}
	}
}
