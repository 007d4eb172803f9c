package registry

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// Limits bound what one request, and all of them together, may take. A zero
// field is its default.
type Limits struct {
	// ManifestBytes is the largest manifest; the specification asks for at
	// least 4 MiB. Default 4 MiB, which is also the most.
	ManifestBytes int64
	// BlobBytes is the largest blob. Default 64 GiB.
	BlobBytes int64
	// Requests is how many requests are served at a time. Default 256.
	Requests int
	// Uploads is how many upload sessions a repository may have open.
	// Default 256.
	Uploads int
	// Idle is how long a client may neither send nor take a byte of a body.
	// Default 1 minute.
	Idle time.Duration
	// Page is the most entries of a list in one answer. Default 1000.
	Page int
}

// mostManifest is what distribution accepts.
const mostManifest = 4 << 20

func (l Limits) withDefaults() Limits {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	if l.ManifestBytes <= 0 || l.ManifestBytes > mostManifest {
		l.ManifestBytes = mostManifest
	}
	if l.BlobBytes <= 0 {
		l.BlobBytes = 64 << 30
	}
	if l.Idle <= 0 {
		l.Idle = time.Minute
	}
	set(&l.Requests, 256)
	set(&l.Uploads, 256)
	set(&l.Page, 1000)
	return l
}

// errTooLarge is what reading a body over its limit returns.
var errTooLarge = errors.New("the body is over the limit")

// body reads a request's body with a limit on its size, and one on the time
// between two reads.
type body struct {
	io.ReadCloser
	left    int64
	patient patient
	// over and err say afterwards why reading ended.
	over bool
	err  error
}

func (b *body) Read(p []byte) (int, error) {
	b.patient.reading()
	defer b.patient.read()
	if b.over {
		return 0, errTooLarge
	}
	// One byte more than is left tells "full" from "over".
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.err = err
	if int64(n) > b.left {
		b.over = true
		n = int(b.left)
		b.left = 0
		return n, errTooLarge
	}
	b.left -= int64(n)
	return n, err
}

// patient moves the connection's deadlines with each byte that passes.
type patient struct {
	control *http.ResponseController
	idle    time.Duration
}

func newPatient(w http.ResponseWriter, idle time.Duration) patient {
	p := patient{http.NewResponseController(w), idle}
	p.writing()
	return p
}

// A writer that is no connection (of Reader) has no deadlines.
func (p patient) reading() { _ = p.control.SetReadDeadline(time.Now().Add(p.idle)) }
func (p patient) writing() { _ = p.control.SetWriteDeadline(time.Now().Add(p.idle)) }

// read takes the deadline away between reads: net/http reads ahead while a
// handler runs, and would cancel it when that read's time is over.
func (p patient) read() { _ = p.control.SetReadDeadline(time.Time{}) }

// done takes the write deadline away, which would hold for the connection's
// next request, and bounds what net/http still reads of this one's body.
func (p patient) done() {
	_ = p.control.SetWriteDeadline(time.Time{})
	p.reading()
}

// patientWriter moves the write deadline with each write.
type patientWriter struct {
	http.ResponseWriter
	patient patient
}

var _ http.ResponseWriter = patientWriter{}

func (w patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w patientWriter) WriteHeader(status int) {
	w.patient.writing()
	w.ResponseWriter.WriteHeader(status)
}

func (w patientWriter) Write(p []byte) (int, error) {
	w.patient.writing()
	return w.ResponseWriter.Write(p)
}
