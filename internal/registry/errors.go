package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/fairway-cd/fairway/internal/core"
)

// The error codes of the OCI distribution specification 1.1, "Error Codes",
// and UNAVAILABLE, which distribution added for 503.
const (
	codeBlobUnknown         = "BLOB_UNKNOWN"
	codeBlobUploadInvalid   = "BLOB_UPLOAD_INVALID"
	codeBlobUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	codeDigestInvalid       = "DIGEST_INVALID"
	codeManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	codeManifestInvalid     = "MANIFEST_INVALID"
	codeManifestUnknown     = "MANIFEST_UNKNOWN"
	codeNameInvalid         = "NAME_INVALID"
	codeNameUnknown         = "NAME_UNKNOWN"
	codeSizeInvalid         = "SIZE_INVALID"
	codeUnauthorized        = "UNAUTHORIZED"
	codeDenied              = "DENIED"
	codeUnsupported         = "UNSUPPORTED"
	codeTooManyRequests     = "TOOMANYREQUESTS"
	codePaginationInvalid   = "PAGINATION_NUMBER_INVALID"
	codeUnavailable         = "UNAVAILABLE"
	codeUnknown             = "UNKNOWN"
)

// apiError is an answer that is an error: a status, and the JSON body that
// the specification wants.
type apiError struct {
	status  int
	code    string
	message string
	// retryAfter, in seconds, is sent where positive.
	retryAfter int
	// err is the cause, for the log; it is not sent.
	err error
}

func (e *apiError) Error() string { return fmt.Sprintf("%s: %s", e.code, e.message) }
func (e *apiError) Unwrap() error { return e.err }

func errorf(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// internalError hides the cause from the client, for it holds paths of the
// server, except that the disk is full or read-only.
func internalError(err error) *apiError {
	if trouble := diskTrouble(err); trouble != nil {
		return trouble.apiError()
	}
	return &apiError{status: http.StatusInternalServerError, code: codeUnknown, message: "internal error", err: err}
}

// accessError translates what core.Access said.
func accessError(err error) *apiError {
	var forbidden *core.ForbiddenError
	var away *core.UnavailableError
	switch {
	case errors.As(err, &away):
		return &apiError{status: http.StatusServiceUnavailable, code: codeUnavailable,
			message: away.What + " is unavailable, try again later", retryAfter: 5, err: err}
	case errors.As(err, &forbidden):
		message := forbidden.Error()
		if forbidden.Reason != "" {
			message += ": " + forbidden.Reason
		}
		return &apiError{status: http.StatusForbidden, code: codeDenied, message: message, err: err}
	case errors.Is(err, core.ErrUnauthenticated):
		return &apiError{status: http.StatusUnauthorized, code: codeUnauthorized, message: err.Error(), err: err}
	default:
		return internalError(err)
	}
}

// write sends the error. The challenge goes with every 401: docker login,
// containerd, skopeo and crane then send basic credentials.
func (e *apiError) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if e.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="fairway"`)
	}
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, err := json.Marshal(map[string][]entry{"errors": {{e.code, e.message}}})
	if err != nil {
		body = []byte(`{"errors":[{"code":"UNKNOWN"}]}`)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client has gone
	}
}
