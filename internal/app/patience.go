package app

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// bodyPatience is how long a client may leave the body of its request without
// sending anything.
const bodyPatience = time.Minute

// patient ends requests whose client stops in the middle of the body. Without
// it, net/http would wait for ever for the rest of a body that a handler has
// refused unread: nothing but the credential of the header is known of such a
// client, or not even that. Handlers with stricter bounds set their own.
func patient(next http.Handler, patience time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			body := &patientBody{ReadCloser: r.Body, control: http.NewResponseController(w), patience: patience}
			body.wait(patience)
			// The server keeps its own request: this is a copy.
			r = r.WithContext(r.Context())
			r.Body = body
		}
		next.ServeHTTP(w, r)
	})
}

type patientBody struct {
	io.ReadCloser
	control  *http.ResponseController
	patience time.Duration
	ended    bool
}

// Read implements io.Reader. What was received gives the client more time;
// after the end nothing more is expected, and a long answer may be under way.
func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case b.ended:
	case errors.Is(err, io.EOF):
		b.ended = true
		b.wait(0)
	case n > 0:
		b.wait(b.patience)
	}
	return n, err
}

// wait sets the deadline of what is received next, 0 for none. A connection
// that has no deadlines is none of ours.
func (b *patientBody) wait(d time.Duration) {
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	_ = b.control.SetReadDeadline(until)
}
