package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// headerTimeout bounds how long a client may take to say what it wants;
	// the handlers bound the rest, for a push may rightly take minutes.
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10
	// When we stop, requests have drainTimeout to end by themselves; then
	// their contexts end, and after cutTimeout their connections.
	drainTimeout = 2 * time.Second
	cutTimeout   = 5 * time.Second
)

// listener is an address that is served, with TLS or without.
type listener struct {
	net.Listener
	tls *tls.Config
}

// listenLoopback takes the instance's port on the loopback addresses, in
// plain HTTP.
func (i *Instance) listenLoopback() ([]listener, error) {
	port := strconv.Itoa(i.Config.Port)
	v4, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return nil, &StartError{fmt.Sprintf("port %s cannot be taken: %v", port, err), "choose another with --port"}
	}
	all := []listener{{Listener: v4}}
	// "localhost" may mean ::1 first; where there is no IPv6, it does not.
	if v6, err := net.Listen("tcp", net.JoinHostPort("::1", port)); err == nil {
		all = append(all, listener{Listener: v6})
	}
	return all, nil
}

// serveListeners serves h on each listener until ctx ends, and then lets what
// runs come to its end for a while.
func serveListeners(ctx context.Context, group *errgroup.Group, h http.Handler, all []listener) {
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() { time.AfterFunc(drainTimeout, cut) })
	for _, l := range all {
		server := newHTTPServer(requests, h, l.tls)
		group.Go(func() error {
			var err error
			if l.tls != nil {
				err = server.ServeTLS(l, "", "")
			} else {
				err = server.Serve(l)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serving %s: %w", l.Addr(), err)
		})
		group.Go(func() error {
			<-ctx.Done()
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutTimeout)
			defer cancel()
			if err := server.Shutdown(stopping); err != nil {
				slog.Warn("requests were cut off by the stop", "address", l.Addr().String())
				return server.Close()
			}
			return nil
		})
	}
}

func newHTTPServer(requests context.Context, h http.Handler, config *tls.Config) *http.Server {
	server := &http.Server{
		Handler:           patient(refuseLate(h), bodyPatience),
		TLSConfig:         config,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	bound(server, maxConnections, moreConnections)
	return server
}
