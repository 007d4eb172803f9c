package scm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// The limits of one generator's questions.
const (
	maxAnswer   = 16 << 20 // bytes of one answer
	maxRequests = 5000
	maxItems    = 20000 // of one list
	timeout     = 30 * time.Second
)

// StatusError is an answer that says no. The answer's text is not in it: it
// may be anything.
type StatusError struct {
	URL    string
	Status int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("GET %s: %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

func notFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Status == http.StatusNotFound
}

// api is one provider's REST API, with one credential.
type api struct {
	base     *url.URL
	http     *http.Client
	header   http.Header
	user     *url.Userinfo
	requests atomic.Int64
}

// access is how to reach an API.
type access struct {
	// address is the API's root, with no slash at its end.
	address  string
	header   http.Header
	user     *url.Userinfo
	insecure bool
	ca       []byte
}

func newAPI(a access) (*api, error) {
	base, err := url.Parse(a.address)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" || base.User != nil {
		return nil, errors.New("the api is not an http or https URL without credentials")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: a.insecure} //nolint:gosec // the user's own field
	if len(a.ca) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(a.ca) {
			return nil, errors.New("caRef holds no certificate")
		}
		config.RootCAs = pool
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: parallel, IdleConnTimeout: timeout, ResponseHeaderTimeout: timeout,
	}
	return &api{
		base: base, header: a.header, user: a.user,
		http: &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 3 || !sameHost(req.URL, base) {
				return http.ErrUseLastResponse
			}
			return nil
		}},
	}, nil
}

// close lets go of connections.
func (a *api) close() { a.http.CloseIdleConnections() }

func sameHost(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

// at is the address of a path's parts, each of which may hold slashes, with a
// query.
func (a *api) at(query url.Values, parts ...string) *url.URL {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = url.PathEscape(p)
	}
	u := a.base.JoinPath(escaped...)
	u.RawQuery = query.Encode()
	return u
}

// get reads the answer of one request into out, which may be nil. It returns
// the answer's headers.
func (a *api) get(ctx context.Context, at *url.URL, out any) (http.Header, error) {
	if a.requests.Add(1) > maxRequests {
		return nil, &core.TooLargeError{What: "the number of requests to " + a.base.Host, Size: maxRequests + 1, Limit: maxRequests, Unit: "requests"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	for key, values := range a.header {
		req.Header[key] = values
	}
	if a.user != nil {
		password, _ := a.user.Password()
		req.SetBasicAuth(a.user.Username(), password)
	}
	req.Header.Set("Accept", "application/json")
	answer, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", a.base.Host, err)
	}
	plain := *at
	plain.RawQuery = ""
	if len(data) > maxAnswer {
		return nil, &core.TooLargeError{What: "the answer of " + plain.String(), Size: int64(len(data)), Limit: maxAnswer}
	}
	if answer.StatusCode != http.StatusOK {
		return nil, &StatusError{plain.String(), answer.StatusCode}
	}
	if out == nil {
		return answer.Header, nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, fmt.Errorf("GET %s: the answer is not understood: %w", plain.String(), err)
	}
	return answer.Header, nil
}

// exists says whether there is something at the address.
func (a *api) exists(ctx context.Context, at *url.URL) (bool, error) {
	_, err := a.get(ctx, at, nil)
	if notFound(err) {
		return false, nil
	}
	return err == nil, err
}

// linked collects the items of all pages that Link headers (RFC 8288) lead to.
func linked[T any](ctx context.Context, a *api, at *url.URL) ([]T, error) {
	var all []T
	for at != nil {
		var page []T
		header, err := a.get(ctx, at, &page)
		if err != nil {
			return nil, err
		}
		if all, err = more(all, page); err != nil {
			return nil, err
		}
		if at, err = a.next(at, nextLink(header.Values("Link"))); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func more[T any](all, page []T) ([]T, error) {
	if all = append(all, page...); len(all) > maxItems {
		return nil, &core.TooLargeError{What: "a list of the provider", Size: int64(len(all)), Limit: maxItems, Unit: "items"}
	}
	return all, nil
}

// next is the address of a page that an answer names; nil is for none.
func (a *api) next(from *url.URL, link string) (*url.URL, error) {
	if link == "" {
		return nil, nil
	}
	u, err := from.Parse(link)
	if err != nil || !sameHost(u, a.base) {
		return nil, fmt.Errorf("%s names a next page that is elsewhere", a.base.Host)
	}
	return u, nil
}

// nextLink is the target of rel="next", or "".
func nextLink(links []string) string {
	for _, header := range links {
		for _, link := range strings.Split(header, ",") {
			target, parameters, _ := strings.Cut(link, ";")
			target = strings.TrimSpace(target)
			if strings.Contains(parameters, `rel="next"`) && len(target) > 2 && target[0] == '<' && target[len(target)-1] == '>' {
				return target[1 : len(target)-1]
			}
		}
	}
	return ""
}
