// Package keyring keeps a person's tokens of Fairway servers on their own
// machine, where git and registry clients find them.
package keyring

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Server is the address of a Fairway server: scheme, host and port.
type Server struct {
	scheme, host string
}

// ServerError says why a text is not the address of a server.
type ServerError struct {
	Text, Reason, hint string
}

func (e *ServerError) Error() string { return fmt.Sprintf("server %q: %s", e.Text, e.Reason) }

// Hint implements core.Hinted.
func (e *ServerError) Hint() string { return e.hint }

// ParseServer reads HOST[:PORT] or a URL, whose path is ignored. Without a
// scheme, a loopback address is http and any other https. A token is not sent
// over plain http to another machine, so such a URL is refused. Errors are
// *ServerError.
func ParseServer(text string) (Server, error) {
	refuse := func(reason, hint string) (Server, error) { return Server{}, &ServerError{text, reason, hint} }
	const form = "want HOST:PORT or https://HOST:PORT"
	full := text
	if !strings.Contains(text, "://") {
		full = "//" + text
	}
	u, err := url.Parse(full)
	if err != nil || !isHost(u.Hostname()) {
		return refuse("not an address", form)
	}
	if u.User != nil {
		return refuse("there is a credential in the URL", "give the token by --token-stdin")
	}
	loopback := isLoopback(u.Hostname())
	switch {
	case u.Scheme == "" && loopback:
		u.Scheme = "http"
	case u.Scheme == "":
		u.Scheme = "https"
	case u.Scheme == "http" && !loopback:
		return refuse("a token must not travel over plain http to another machine", "use https://"+u.Host)
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("neither http nor https", form)
	}
	host := strings.ToLower(u.Host)
	if (u.Scheme == "http" && u.Port() == "80") || (u.Scheme == "https" && u.Port() == "443") || u.Port() == "" {
		host = strings.ToLower(u.Hostname())
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	}
	return Server{scheme: u.Scheme, host: host}, nil
}

// isHost says whether s is an IP address without a zone, or a DNS name. More is
// not needed, and this is made part of git's configuration and of file names.
func isHost(s string) bool {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Zone() == ""
	}
	return len(validation.IsDNS1123Subdomain(strings.ToLower(s))) == 0
}

func isLoopback(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// String is the server's URL, without a slash at the end.
func (s Server) String() string { return s.scheme + "://" + s.host }

// Host is HOST[:PORT], the first part of the names of its images.
func (s Server) Host() string { return s.host }

// aliases are the server, and if it is this machine its other usual name:
// clients match credentials by the name that they were given.
func (s Server) aliases() []Server {
	all := []Server{s}
	host, port := s.host, ""
	if h, p, err := net.SplitHostPort(s.host); err == nil {
		host, port = h, ":"+p
	}
	switch host {
	case "localhost":
		all = append(all, Server{s.scheme, "127.0.0.1" + port})
	case "127.0.0.1":
		all = append(all, Server{s.scheme, "localhost" + port})
	}
	return all
}
