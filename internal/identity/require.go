package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// Require lets a request through to a handler if its user may do the action
// that it stands for. Others get 401, 403, 429 or 503 with the reason.
//
// Browsers send basic credentials along with whatever a foreign page asks for:
// requests that are not safe methods are refused when they come from another
// origin.
func Require(access core.Access, action func(*http.Request) core.Action) func(http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := origins.Check(r); err != nil {
				respond(w, r, http.StatusForbidden, "cross-origin", err)
				return
			}
			u, err := access.Authenticate(r)
			if err == nil {
				err = access.Authorize(r.Context(), u, action(r))
			}
			if err != nil {
				WriteError(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// WriteError answers a request with what an Access said against it, as JSON
// ({"code", "error", "hint"}), or as text for clients that ask for that.
// Errors of other types are a 500 without details.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	var (
		forbidden *core.ForbiddenError
		away      *core.UnavailableError
		throttled *ThrottledError
	)
	switch {
	case errors.As(err, &throttled):
		seconds := max(1, math.Ceil(throttled.RetryAfter.Seconds()))
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
		respond(w, r, http.StatusTooManyRequests, "throttled", err)
	case errors.Is(err, core.ErrUnauthenticated):
		challenge(w.Header(), r, err)
		respond(w, r, http.StatusUnauthorized, "unauthenticated", err)
	case errors.As(err, &forbidden):
		respond(w, r, http.StatusForbidden, "forbidden", err)
	case errors.As(err, &away):
		w.Header().Set("Retry-After", "2")
		respond(w, r, http.StatusServiceUnavailable, "unavailable", err)
	default:
		respond(w, r, http.StatusInternalServerError, "internal", errors.New("internal error"))
	}
}

// challenge says how to authenticate: RFC 6750 and RFC 7617.
func challenge(h http.Header, r *http.Request, err error) {
	bearer := `Bearer realm="fairway"`
	if r.Header.Get("Authorization") != "" {
		// err's text is one of ours, never a client's.
		bearer += fmt.Sprintf(`, error="invalid_token", error_description=%q`, err.Error())
	}
	h.Add("WWW-Authenticate", bearer)
	h.Add("WWW-Authenticate", `Basic realm="fairway", charset="UTF-8"`)
}

// hints are what a person can do about an answer.
var hints = map[int]string{
	http.StatusUnauthorized: "send a token as bearer, or as the password of basic authentication; 'fairway token create' makes one",
	http.StatusForbidden:    "'fairway token create NAME --can …' or a RoleBinding grants it; see docs/guide/access.md",
}

func respond(w http.ResponseWriter, r *http.Request, status int, code string, err error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if wantsText(r) {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		fmt.Fprintln(w, err)
		if hint := hints[status]; hint != "" {
			fmt.Fprintln(w, "hint:", hint)
		}
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that has gone away is nobody's error.
	_ = json.NewEncoder(w).Encode(struct {
		Code  string `json:"code"`
		Error string `json:"error"`
		Hint  string `json:"hint,omitempty"`
	}{code, err.Error(), hints[status]})
}

// wantsText says whether the client asks for text and not for JSON.
func wantsText(r *http.Request) bool {
	accept := r.Header.Get("Accept")
	return strings.Contains(accept, "text/") && !strings.Contains(accept, "json")
}
