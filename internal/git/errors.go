package git

import (
	"fmt"
	"net/http"

	"github.com/fairway-cd/fairway/internal/core"
)

// NotFoundError says that there is no such repository.
type NotFoundError struct {
	// Repository is a name or a URL without credentials.
	Repository string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("repository %s does not exist", e.Repository)
}

// HTTPStatus implements problem.Stated.
func (*NotFoundError) HTTPStatus() int { return http.StatusNotFound }

// ExistsError says that a repository is there already.
type ExistsError struct{ Repository core.Name }

func (e *ExistsError) Error() string {
	return fmt.Sprintf("repository %s exists already", e.Repository)
}

// HTTPStatus implements problem.Stated.
func (*ExistsError) HTTPStatus() int { return http.StatusConflict }

// RevisionError says that a repository has no such revision, or that what was
// asked for is not the name of one.
type RevisionError struct {
	Repository string
	Revision   string
	// Reason is empty for a revision that is simply not there.
	Reason string
}

func (e *RevisionError) Error() string {
	s := fmt.Sprintf("repository %s has no revision %q", e.Repository, e.Revision)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// AuthError says that a remote repository refused the credentials, or wants
// some and got none.
type AuthError struct {
	URL string
	// Given says whether credentials were offered at all.
	Given  bool
	Reason string
}

func (e *AuthError) Error() string {
	s := fmt.Sprintf("repository %s refused the credentials", e.URL)
	if !e.Given {
		s = fmt.Sprintf("repository %s wants credentials, or does not exist", e.URL)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// UnreachableError says that a remote repository did not answer as one. What
// is known of it stays as it was.
type UnreachableError struct {
	URL    string
	Reason string
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("repository %s is unreachable: %s", e.URL, e.Reason)
}

// ConflictError says that a branch does not stand where the author of a
// commit saw it.
type ConflictError struct {
	Repository core.Name
	Branch     string
	// Expect is where it should stand, Current where it does; empty for a
	// branch that is not there.
	Expect, Current string
}

func (e *ConflictError) Error() string {
	stands := "at " + e.Current
	if e.Current == "" {
		stands = "nowhere"
	}
	expect := e.Expect
	if expect == "" {
		expect = "none"
	}
	return fmt.Sprintf("branch %s of repository %s stands %s, not at %s", e.Branch, e.Repository, stands, expect)
}

// LockedError says that another process works on the directory.
type LockedError struct{ Dir string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("the Git directory %s is in use by another process", e.Dir)
}

// HostileError says that an object of a repository is what no honest Git
// would write, such as a tree with an entry named "..".
type HostileError struct{ What string }

func (e *HostileError) Error() string { return "refused: " + e.What }
