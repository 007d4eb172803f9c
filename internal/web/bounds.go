package web

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/core/turns"
)

// Bounds limit what requests to costly routes may take together and each.
type Bounds struct {
	// Concurrent is how many are answered at a time, half of it for one user;
	// others wait for Wait and are then told to come back.
	Concurrent int
	Wait       time.Duration
	// Time is how long one may take, Stall how long its client may take to take
	// the answer.
	Time, Stall time.Duration
	// Request and Answer are the largest bodies, in bytes.
	Request, Answer int64
}

// DeliveryBounds are those of the routes that render: a diff of a large
// delivery takes seconds, and an answer holds all of its objects.
func DeliveryBounds() Bounds {
	return Bounds{
		Concurrent: 4, Wait: 10 * time.Second, Time: time.Minute, Stall: 30 * time.Second,
		Request: maxBody, Answer: 32 << 20,
	}
}

// Bounded are the routes within the bounds, which they share. Who asks is
// authenticated first: strangers take no turn.
func Bounded(access core.Access, b Bounds, routes map[string]http.Handler) map[string]http.Handler {
	turns := turns.New("requests of this kind", b.Concurrent, b.Concurrent/2)
	out := make(map[string]http.Handler, len(routes))
	for pattern, next := range routes {
		out[pattern] = &bounded{access, b, turns, next}
	}
	return out
}

type bounded struct {
	access core.Access
	Bounds
	turns *turns.Turns
	next  http.Handler
}

func (b *bounded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, err := b.access.Authenticate(r)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	leave, err := b.turns.Take(r.Context(), user.Name, b.Wait)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	defer leave()
	ctx, cancel := context.WithTimeout(r.Context(), b.Time)
	defer cancel()
	r = r.WithContext(ctx)
	r.Body = http.MaxBytesReader(w, r.Body, b.Request)
	answer := &answer{header: w.Header(), code: http.StatusOK, limit: b.Answer}
	b.next.ServeHTTP(answer, r)
	// A client that does not take its answer does not keep the turn.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(b.Stall))
	switch {
	case answer.large:
		problem.Write(w, r, problem.New(http.StatusUnprocessableEntity, "the answer is larger than %d bytes", b.Answer))
	case answer.code >= http.StatusInternalServerError && errors.Is(ctx.Err(), context.DeadlineExceeded):
		problem.Write(w, r, problem.New(http.StatusServiceUnavailable, "the answer took longer than %s", b.Time))
	default:
		w.WriteHeader(answer.code)
		_, _ = w.Write(answer.body.Bytes())
	}
}

// answer keeps what a handler writes, up to its limit.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
	limit  int64
	large  bool
}

var errLarge = errors.New("the answer is too large")

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) { a.code = code }

func (a *answer) Write(p []byte) (int, error) {
	if int64(a.body.Len()+len(p)) > a.limit {
		a.large = true
		return 0, errLarge
	}
	return a.body.Write(p)
}
