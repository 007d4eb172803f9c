package fleet

import (
	"fmt"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// AwayError says that a cluster does not answer, or does not let us in.
type AwayError struct {
	Cluster string
	Since   time.Time
	Reason  string
}

func (e *AwayError) Error() string {
	return fmt.Sprintf("%s is away since %s: %s", e.Cluster, e.Since.UTC().Format(time.RFC3339), e.Reason)
}

// Hint is for people.
func (e *AwayError) Hint() string {
	return "it is asked again by itself, and what is wanted there is brought out when it is back"
}

// ConnectingError says that it is not known yet whether a cluster answers.
type ConnectingError struct{ Cluster string }

func (e *ConnectingError) Error() string { return e.Cluster + " has not answered yet" }

// PermissionError says that a cluster does not let our credential do something.
type PermissionError struct {
	Cluster string
	Err     error
}

func (e *PermissionError) Error() string {
	return fmt.Sprintf("%s does not permit it to the credential that Fairway has there: %v", e.Cluster, e.Err)
}

func (e *PermissionError) Unwrap() error { return e.Err }

// Hint is for people.
func (e *PermissionError) Hint() string {
	return "give the credential's user the permission in that cluster, or make one that has it: fairway cluster add"
}

// ScopeError says that an object is none of those that a cluster is described
// for.
type ScopeError struct {
	Cluster string
	Ref     core.ObjectRef
	Problem string
}

func (e *ScopeError) Error() string {
	return fmt.Sprintf("%s is not for %s: it %s", e.Cluster, e.Ref, e.Problem)
}

// Hint is for people.
func (e *ScopeError) Hint() string {
	return "name the namespace in the Secret of the cluster (fairway cluster add --namespace), or set clusterResources there"
}

// HTTPStatus implements problem.Stated.
func (*ScopeError) HTTPStatus() int { return http.StatusUnprocessableEntity }

// unboundError is a fault of the program: nothing is done for an owner of
// which it is not known where its objects are.
type unboundError struct{ owner core.Owner }

func (e *unboundError) Error() string { return e.owner.String() + " is not bound to a cluster" }

// unreached says that objects got no answer at all.
func unreached(o *deploy.ObjectError) bool { return o.Reason == deploy.Unavailable }

// HTTPStatus implements problem.Stated.
func (*AwayError) HTTPStatus() int { return http.StatusServiceUnavailable }

// HTTPStatus implements problem.Stated.
func (*ConnectingError) HTTPStatus() int { return http.StatusServiceUnavailable }

// HTTPStatus implements problem.Stated.
func (*PermissionError) HTTPStatus() int { return http.StatusUnprocessableEntity }
