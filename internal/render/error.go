package render

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/fairway-cd/fairway/internal/core"
)

var _ core.Hinted = (*Error)(nil)

// NewError makes an Error without a hint. path is relative to the source's
// root and may be empty, line starts at 1 and is 0 where it is not known.
func NewError(reason Reason, path string, line int, format string, args ...any) *Error {
	return &Error{Reason: reason, Path: path, Line: line, Msg: fmt.Sprintf(format, args...)}
}

// WithHint returns e with a sentence that says what to do about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.hint = fmt.Sprintf(format, args...)
	return e
}

// HTTPStatus implements problem.Stated: it is the source that is wrong.
func (*Error) HTTPStatus() int { return http.StatusUnprocessableEntity }

// Error is "PATH:LINE: MESSAGE", without what is not known.
func (e *Error) Error() string {
	switch {
	case e.Path == "":
		return e.Msg
	case e.Line == 0:
		return e.Path + ": " + e.Msg
	default:
		return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Msg)
	}
}

// Hint says what to do about it, or "".
func (e *Error) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	switch e.Reason {
	case PathNotFound:
		return "check the path, and that it is committed in the revision that is deployed"
	case OutsideTree:
		return "everything that is rendered must be in the repository: copy the file into it"
	case RemoteNotAllowed:
		return "rendering has no network: commit a copy of it to the repository and refer to that"
	case LimitExceeded:
		return "make the source smaller, or raise the renderer's limits"
	default:
		return ""
	}
}

// asError returns the *Error in err's chain, or nil.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
