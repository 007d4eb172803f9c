// Package problem says in HTTP what an error means. It is the one place where
// errors become answers: by their types, and with nothing of an error that
// nobody has meant for clients.
package problem

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairway-cd/fairway/internal/core"
)

// Stated is an error for who asked: its text, and that of what wraps it, may
// be told, and HTTPStatus is what it means.
type Stated interface {
	error
	HTTPStatus() int
}

// Passing is an error that goes away by itself: After is when to try again.
type Passing interface {
	error
	After() time.Duration
}

// New is an error with a status and a text for who asked.
func New(status int, format string, args ...any) error {
	return &stated{status, fmt.Sprintf(format, args...)}
}

// With gives a status to an error of which it is known that its text may be
// told.
func With(status int, err error) error { return &marked{err, status} }

type stated struct {
	status int
	text   string
}

func (e *stated) Error() string   { return e.text }
func (e *stated) HTTPStatus() int { return e.status }

type marked struct {
	error
	status int
}

func (e *marked) Unwrap() error   { return e.error }
func (e *marked) HTTPStatus() int { return e.status }

// Problem is an error as clients are told it.
type Problem struct {
	Status int    `json:"-"`
	Error  string `json:"error"`
	Hint   string `json:"hint,omitempty"`
	// After, where it is not 0, is when to try again.
	After time.Duration `json:"-"`
}

// pause is when to try again what was refused because something is away.
const pause = 2 * time.Second

// hints are for errors that have none of their own.
var hints = map[int]string{
	http.StatusUnauthorized: "send a token as bearer, or as the password of basic authentication; 'fairway token create' makes one",
	http.StatusForbidden:    "a RoleBinding grants it, or for repositories and images 'fairway token create NAME --can …'; see docs/guide/access.md",
}

// Of translates an error. One of a type that is not known here is a 500 that
// says nothing of it.
func Of(err error) Problem {
	p := Problem{}
	p.Status, p.Error = explain(err)
	var passing Passing
	switch {
	case errors.As(err, &passing):
		p.After = passing.After()
		if p.Status == http.StatusUnauthorized {
			p.Status = http.StatusTooManyRequests // whoever it is
		}
	case p.Status == http.StatusServiceUnavailable:
		p.After = pause
	}
	p.Hint = hints[p.Status]
	var hinted core.Hinted
	if errors.As(err, &hinted) {
		p.Hint = cmp.Or(hinted.Hint(), p.Hint)
	}
	return p
}

// explain goes by the innermost of what was asked of Access, for a refusal of
// it is one whatever was being done, and else by the outermost type.
func explain(err error) (status int, text string) {
	var (
		forbidden   *core.ForbiddenError
		unavailable *core.UnavailableError
		stated      Stated
		name        *core.InvalidNameError
		namespace   *core.NoNamespaceError
		large       *core.TooLargeError
		body        *http.MaxBytesError
	)
	switch {
	case errors.Is(err, core.ErrUnauthenticated):
		return http.StatusUnauthorized, err.Error()
	case errors.As(err, &forbidden):
		return http.StatusForbidden, forbidden.Error()
	case errors.As(err, &unavailable):
		return http.StatusServiceUnavailable, unavailable.Error()
	case errors.As(err, &stated):
		return stated.HTTPStatus(), err.Error()
	case errors.As(err, &name):
		return http.StatusBadRequest, name.Error()
	case errors.As(err, &namespace):
		return http.StatusNotFound, namespace.Error()
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, large.Error()
	case errors.As(err, &body):
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is larger than %d bytes", body.Limit)
	}
	return explainSystem(err)
}

// explainSystem translates what the machine and the API server say.
func explainSystem(err error) (status int, text string) {
	var request *url.Error
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return http.StatusInsufficientStorage, "the server's disk is full"
	case errors.Is(err, syscall.EROFS):
		return http.StatusInsufficientStorage, "the server's disk is read-only"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable, "it took too long"
	case apierrors.IsInvalid(err):
		return http.StatusUnprocessableEntity, err.Error()
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return http.StatusConflict, "it was changed meanwhile, try again"
	case apierrors.IsServiceUnavailable(err), apierrors.IsTooManyRequests(err), apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return http.StatusServiceUnavailable, "the Kubernetes API server is unavailable"
	case errors.As(err, &request):
		return http.StatusServiceUnavailable, "a server that has to be asked for this does not answer"
	}
	return http.StatusInternalServerError, "the server failed; its log says why"
}

// Write answers a request with what an error means, as JSON ({"error",
// "hint"}), or as text for clients that ask for that. What clients are not
// told is logged.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	p := Of(err)
	if p.Status == http.StatusInternalServerError {
		slog.ErrorContext(r.Context(), "Answering a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.After > 0 {
		h.Set("Retry-After", strconv.Itoa(int(max(1, math.Ceil(p.After.Seconds())))))
	}
	if wantsText(r) {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(p.Status)
		fmt.Fprintln(w, p.Error)
		if p.Hint != "" {
			fmt.Fprintln(w, "hint:", p.Hint)
		}
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(p.Status)
	// A client that has gone away is nobody's error.
	_ = json.NewEncoder(w).Encode(p)
}

// wantsText says whether the client asks for text and not for JSON.
func wantsText(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "text/") && !strings.Contains(accept, "json")
}
