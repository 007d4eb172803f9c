package chart

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/loopback"
)

// How patient we are with a repository, beside the request's own time.
const (
	dialTimeout   = 10 * time.Second
	headerTimeout = 30 * time.Second
	maxRedirects  = 5
)

// client makes a client that verifies as the repository wants it, and takes
// credentials nowhere.
func (r Repository) client() (*http.Client, error) {
	verify := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: r.Insecure} //nolint:gosec // where the user says so
	if len(r.CA) > 0 {
		verify.RootCAs = x509.NewCertPool()
		if !verify.RootCAs.AppendCertsFromPEM(r.CA) {
			return nil, errors.New("ca.crt holds no certificate")
		}
	}
	if len(r.Cert)+len(r.Key) > 0 {
		pair, err := tls.X509KeyPair(r.Cert, r.Key)
		if err != nil {
			return nil, errors.New("tls.crt and tls.key are not a certificate and its key")
		}
		verify.Certificates = []tls.Certificate{pair}
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: loopback.Dial(dialer.DialContext), TLSClientConfig: verify,
			TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: headerTimeout, IdleConnTimeout: time.Minute,
			MaxConnsPerHost: 4, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: r.redirect,
	}, nil
}

// Transport verifies, and proves who we are by certificate, as the repository
// wants it.
func (r Repository) Transport() (http.RoundTripper, error) {
	client, err := r.client()
	if err != nil {
		return nil, &InvalidError{Chart: r.URL, Err: err}
	}
	return client.Transport, nil
}

// redirect follows to where no less is promised, without credentials where
// they do not belong.
func (r Repository) redirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("more than %d redirections", maxRedirects)
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errors.New("a redirection from https to " + req.URL.Scheme)
	}
	req.Header.Del("Authorization")
	r.authorize(req)
	return nil
}

// authorize proves who we are to the repository's own host.
func (r Repository) authorize(req *http.Request) {
	home, err := url.Parse(r.URL)
	if r.Username+r.Password == "" || err != nil {
		return
	}
	if r.PassCredentials || home.Scheme == req.URL.Scheme && home.Host == req.URL.Host {
		req.SetBasicAuth(r.Username, r.Password)
	}
}

// answer is what a repository said.
type answer struct {
	header    http.Header
	body      []byte
	unchanged bool
}

// get reads at most limit bytes.
func (r Repository) get(ctx context.Context, client *http.Client, at string, header http.Header, limit int64) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, &InvalidError{Chart: r.URL, Err: errors.New("it is no URL")}
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("User-Agent", "fairway")
	r.authorize(req)
	shown := req.URL.Redacted()
	res, err := client.Do(req)
	if err != nil {
		return nil, &UnreachableError{Chart: shown, Err: withoutURL(err)}
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return &answer{unchanged: true}, nil
	case http.StatusNotFound, http.StatusGone:
		return nil, &NotFoundError{Chart: shown, Err: errors.New(res.Status)}
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, &AuthError{Chart: shown, Err: errors.New(res.Status)}
	default:
		return nil, &UnreachableError{Chart: shown, Err: fmt.Errorf("the answer is %s", res.Status)}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, &UnreachableError{Chart: shown, Err: withoutURL(err)}
	}
	if int64(len(body)) > limit {
		return nil, &core.TooLargeError{What: shown, Size: int64(len(body)), Limit: limit}
	}
	return &answer{header: res.Header, body: body}, nil
}

// withoutURL is the cause alone: the URL may hold a password, and is named
// already.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
