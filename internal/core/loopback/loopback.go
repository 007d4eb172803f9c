// Package loopback reaches this machine by its name without asking anybody.
//
// RFC 6761, section 6.3: localhost and the names below it are loopback
// addresses, and libraries should not look them up. Go's looks them up, so they
// are unknown where neither /etc/hosts nor a name server has them, as in a bare
// container, and may be anywhere where one answers wrongly: credentials in
// plain HTTP are for this machine only.
package loopback

import (
	"context"
	"errors"
	"net"
	"strings"
)

// Named says whether a host is called localhost, or below it.
func Named(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// DialContext is how a Transport dials.
type DialContext func(ctx context.Context, network, address string) (net.Conn, error)

// Dial returns next, but for this machine's names: those it gives the loopback
// addresses of, 127.0.0.1 first, at which we always listen, and else ::1.
func Dial(next DialContext) DialContext {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil || !Named(host) {
			return next(ctx, network, address)
		}
		var failed []error
		for _, ip := range []string{"127.0.0.1", "::1"} {
			conn, err := next(ctx, network, net.JoinHostPort(ip, port))
			if err == nil {
				return conn, nil
			}
			failed = append(failed, err)
		}
		return nil, errors.Join(failed...)
	}
}
