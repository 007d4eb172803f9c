package registry

import (
	"fmt"
	"io"
	"net/http"

	"github.com/fairway-cd/fairway/internal/core"
)

// Reader reads this registry from within the process, with no network and no
// credentials: GET and HEAD, of the repositories for which allow is true.
// Whoever uses it answers for what it is allowed. It is a transport for
// registry clients.
func (g *Registry) Reader(allow func(core.Name) bool) http.RoundTripper {
	return &reader{g, allow}
}

type reader struct {
	registry *Registry
	allow    func(core.Name) bool
}

// RoundTrip answers as the server would.
func (rd *reader) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close() // of a GET: nothing in it
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, fmt.Errorf("%s %s: the reader of the registry only reads", r.Method, r.URL.Path)
	}
	content, to := io.Pipe()
	w := &streamed{header: http.Header{}, to: to, started: make(chan struct{})}
	in := r.Clone(r.Context())
	in.Body = http.NoBody
	go func() {
		if err := rd.serve(w, in); err != nil {
			err.write(w, in)
		}
		w.WriteHeader(http.StatusOK)
		_ = to.Close() // never fails
	}()
	select {
	case <-w.started:
	case <-r.Context().Done():
		_ = content.Close() // ends the writer; never fails
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: content, ContentLength: -1, Request: r,
	}, nil
}

func (rd *reader) serve(w http.ResponseWriter, r *http.Request) *apiError {
	g := rd.registry
	rt, bad := parseRoute(r.URL.Path)
	switch {
	case bad != nil:
		return bad
	case rt.end == endCatalog, rt.end == endUpload:
		return errorf(http.StatusForbidden, codeDenied, "not for the reader")
	case rt.end != endBase && !rd.allow(rt.name):
		return errorf(http.StatusForbidden, codeDenied, "%s may not be read from here", rt.name)
	case rt.end == endBlob && r.Method == http.MethodGet:
		return g.streamBlob(w, r, rt)
	}
	a, bad := g.answer(r, rt, core.User{})
	if bad != nil {
		return bad
	}
	return a.send(w, r)
}

// streamed is a response of which the reader gets the header when it is
// written, and the body as it comes.
type streamed struct {
	header  http.Header
	status  int
	to      *io.PipeWriter
	started chan struct{}
}

func (s *streamed) Header() http.Header {
	if s.status != 0 {
		return http.Header{} // too late, and no longer ours
	}
	return s.header
}

func (s *streamed) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
		close(s.started)
	}
}

func (s *streamed) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return s.to.Write(p) // io.ErrClosedPipe where the reader has enough
}
