package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
)

// answer is a small response, held back: one of distribution, to be looked
// at, or one of ours. It is a ResponseWriter for the former.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
	// trouble is why the disk did not take what distribution wrote, whatever
	// the status says.
	trouble *diskError
}

var _ http.ResponseWriter = (*answer)(nil)

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

func (a *answer) ok() bool { return a.trouble == nil && a.status >= 200 && a.status < 300 }

// ask has distribution answer for a route, and holds the answer back.
func (g *Registry) ask(r *http.Request, rt route, query url.Values) *answer {
	a := &answer{header: http.Header{}}
	r, watch := watched(r)
	g.app.ServeHTTP(a, rt.inner(r, query))
	a.WriteHeader(http.StatusOK)
	if a.trouble = watch.trouble; a.trouble == nil {
		return a
	}
	a.status = http.StatusInsufficientStorage
	if rt.end == endUpload {
		// What was received so far takes up the room that is missing. Where it
		// cannot be removed, garbage collection will.
		_ = g.store.Delete(r.Context(), uploadsPath(rt.name)+"/"+rt.ref)
	}
	return a
}

// jsonAnswer is an answer of ours.
func jsonAnswer(mediaType string, v any) (*answer, *apiError) {
	content, err := json.Marshal(v)
	if err != nil {
		return nil, internalError(err)
	}
	a := &answer{status: http.StatusOK, header: http.Header{}}
	a.header.Set("Content-Type", mediaType)
	a.header.Set("Content-Length", strconv.Itoa(len(content)))
	a.body.Write(content)
	return a, nil
}

// send passes an answer on, except what went wrong on our side: its details
// are for the log.
func (a *answer) send(w http.ResponseWriter, r *http.Request) *apiError {
	if a.trouble != nil {
		return a.trouble.apiError()
	}
	if a.status >= http.StatusInternalServerError {
		return internalError(errors.New(a.body.String()))
	}
	h := w.Header()
	for k, v := range a.header {
		h[k] = v
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body.Bytes()) // the client has gone
	}
	return nil
}
