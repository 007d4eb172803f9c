package app

import (
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
			body.wait()
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
}

// Read implements io.Reader. What was received gives the client more time. At
// the end net/http lifts the deadline itself; one set after that would end a
// long answer, as if the client had left.
func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && err == nil {
		b.wait()
	}
	return n, err
}

// wait gives the client its time from now on. A connection without deadlines
// is none of ours.
func (b *patientBody) wait() { _ = b.control.SetReadDeadline(time.Now().Add(b.patience)) }
