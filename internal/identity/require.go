package identity

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
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
				problem.Write(w, r, problem.New(http.StatusForbidden, "%s", err))
				return
			}
			u, err := access.Authenticate(r)
			if err == nil {
				err = access.Authorize(r.Context(), u, action(r))
			}
			if err != nil {
				var throttled *ThrottledError
				if errors.Is(err, core.ErrUnauthenticated) && !errors.As(err, &throttled) {
					challenge(w.Header(), r, err)
				}
				problem.Write(w, r, err)
				return
			}
			next.ServeHTTP(w, r)
		})
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
