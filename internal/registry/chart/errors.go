package chart

import (
	"fmt"
	"strings"
)

// NotFoundError says that there is no such chart, or no such version of it.
type NotFoundError struct {
	Chart, Version string
	Err            error
}

func (e *NotFoundError) Error() string {
	if e.Version == "" {
		return fmt.Sprintf("%s: not found: %v", named(e.Chart), e.Err)
	}
	return fmt.Sprintf("%s, version %q: not found: %v", named(e.Chart), e.Version, e.Err)
}
func (e *NotFoundError) Unwrap() error { return e.Err }

// AuthError says that the registry wants another credential, or none helps.
type AuthError struct {
	Chart string
	Err   error
}

func (e *AuthError) Error() string {
	return fmt.Sprintf("%s: no permission: %v", named(e.Chart), e.Err)
}
func (e *AuthError) Unwrap() error { return e.Err }

// UnreachableError says that the registry could not be asked now.
type UnreachableError struct {
	Chart string
	Err   error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s: cannot be fetched: %v", named(e.Chart), e.Err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }

// InvalidError says that something is no chart, or no name of one; it does
// not go away by trying again.
type InvalidError struct {
	Chart string
	Err   error
}

func (e *InvalidError) Error() string { return fmt.Sprintf("%s: %v", named(e.Chart), e.Err) }
func (e *InvalidError) Unwrap() error { return e.Err }

// named is what a person calls it: a URL says what it is.
func named(chart string) string {
	if strings.Contains(chart, "://") {
		return chart
	}
	return "chart " + chart
}
