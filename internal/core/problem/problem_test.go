package problem_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
)

// later is a wrong token of an address that has to wait.
type later struct{}

func (later) Error() string        { return "slower" }
func (later) Unwrap() error        { return core.ErrUnauthenticated }
func (later) After() time.Duration { return 1500 * time.Millisecond }

func TestWhatClientsAreTold(t *testing.T) {
	const secret = "hunter2"
	things := schema.GroupResource{Resource: "things"}
	away := &core.UnavailableError{What: "the API server", Err: errors.New("refused")}
	for name, tt := range map[string]struct {
		err    error
		status int
		says   string
		after  string
	}{
		"no credential":           {core.ErrUnauthenticated, 401, "authentication required", ""},
		"throttled":               {later{}, 429, "slower", "2"},
		"forbidden":               {fmt.Errorf("with %s: %w", secret, &core.ForbiddenError{User: "u", Action: core.Action{Verb: "get", Resource: "x"}}), 403, `user "u" may not get`, ""},
		"away":                    {away, 503, "the API server is unavailable", "2"},
		"away, within others":     {problem.With(422, away), 503, "the API server is unavailable", "2"},
		"stated":                  {fmt.Errorf("web: %w", problem.New(404, "not found")), 404, "web: not found", ""},
		"marked":                  {problem.With(422, errors.New("wrong")), 422, "wrong", ""},
		"a name":                  {&core.InvalidNameError{Name: "%"}, 400, "invalid name", ""},
		"no namespace":            {&core.NoNamespaceError{Namespace: "n"}, 404, "create namespace n", ""},
		"too large":               {&core.TooLargeError{What: "it"}, 413, "it is too large", ""},
		"disk":                    {&os.PathError{Op: "write", Path: "/" + secret, Err: syscall.ENOSPC}, 507, "disk is full", ""},
		"read-only":               {&os.PathError{Op: "write", Path: "/" + secret, Err: syscall.EROFS}, 507, "read-only", ""},
		"invalid object":          {apierrors.NewInvalid(schema.GroupKind{Kind: "Thing"}, "a_b", nil), 422, "a_b", ""},
		"conflict":                {apierrors.NewConflict(things, "a", errors.New(secret)), 409, "try again", ""},
		"API server":              {fmt.Errorf("%s: %w", secret, apierrors.NewServiceUnavailable(secret)), 503, "unavailable", "2"},
		"network":                 {&url.Error{Op: "Get", URL: "https://u:" + secret + "@h", Err: syscall.ECONNREFUSED}, 503, "does not answer", "2"},
		"too long":                {context.DeadlineExceeded, 503, "too long", "2"},
		"anything":                {errors.New("the password is " + secret), 500, "its log says why", ""},
		"what the API forbids us": {apierrors.NewForbidden(things, secret, nil), 500, "its log says why", ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { problem.Write(w, r, tt.err) }))
			defer server.Close()
			for _, accept := range []string{"*/*", "text/html"} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Accept", accept)
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				body, err := io.ReadAll(answer.Body)
				if err != nil {
					t.Fatal(err)
				}
				if answer.StatusCode != tt.status || !strings.Contains(string(body), strings.ReplaceAll(tt.says, `"`, map[bool]string{true: `\"`, false: `"`}[accept == "*/*"])) || answer.Header.Get("Retry-After") != tt.after {
					t.Errorf("%s: %s %q %s", accept, answer.Status, answer.Header.Get("Retry-After"), body)
				}
				if strings.Contains(string(body), secret) {
					t.Errorf("the answer has the secret in it: %s", body)
				}
				if json := strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json"); json != (accept == "*/*") {
					t.Errorf("%s: %s", accept, answer.Header.Get("Content-Type"))
				}
			}
		})
	}
}
