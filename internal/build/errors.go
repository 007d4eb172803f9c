package build

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
)

// told is the error of a build as a person reads it.
func told(err error) error {
	e := &SourceError{Message: strings.TrimPrefix(err.Error(), "failed to solve: "), Err: err}
	var where bytes.Buffer
	for _, s := range errdefs.Sources(err) {
		if s.Print(&where) != nil {
			break
		}
	}
	e.Where = strings.TrimSuffix(where.String(), "\n")
	if m := unresolved.FindStringSubmatch(e.Message); m != nil {
		return &BaseError{Name: m[1], Message: m[2], SourceError: e}
	}
	return e
}

// unresolved is how BuildKit says that it cannot have a base image: it has no
// type for that.
var unresolved = regexp.MustCompile(`failed to resolve source metadata for ([^\s]+): (.*)`)

// SourceError is a build that failed because of what is built.
type SourceError struct {
	// Where are the lines around it; "" where it is of no line.
	Where   string
	Message string
	Err     error
}

func (e *SourceError) Error() string {
	if e.Where == "" {
		return "build: " + e.Message
	}
	return "build: " + e.Message + "\n" + e.Where
}

func (e *SourceError) Unwrap() error { return e.Err }

// BaseError is a base image that is nowhere.
type BaseError struct {
	Name, Message string
	*SourceError
}

func (e *BaseError) Error() string {
	s := fmt.Sprintf("build: the base image %s cannot be had: %s", e.Name, e.Message)
	if e.Where != "" {
		s += "\n" + e.Where
	}
	return s
}

// Hint is for the command line.
func (e *BaseError) Hint() string {
	stored := strings.TrimPrefix(e.Name, "docker.io/")
	return fmt.Sprintf("what the instance's registry has as %s is used in its place: 'fairway image push FILE %s' puts an OCI layout or a docker-save tar there", stored, stored)
}

// UsageError is something asked for that cannot be.
type UsageError struct{ Message, Advice string }

func (e *UsageError) Error() string { return e.Message }

// Hint is for the command line.
func (e *UsageError) Hint() string { return e.Advice }
