package deploy

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
)

// ErrSuperseded says that an apply ended at a safe point because something
// newer is to be applied. What was done until then is in the outcome.
var ErrSuperseded = errors.New("superseded by a newer revision")

// Reason classifies an ObjectError, for conditions and metrics.
type Reason string

// The reasons for which an object cannot be brought into the cluster.
const (
	Immutable        Reason = "Immutable"        // a field that cannot be changed in place
	Invalid          Reason = "Invalid"          // the API server's validation says no
	Forbidden        Reason = "Forbidden"        // our permissions, a quota or an admission say no
	MissingKind      Reason = "MissingKind"      // no CustomResourceDefinition
	MissingNamespace Reason = "MissingNamespace" // the namespace is not there
	Conflict         Reason = "Conflict"         // changed by somebody meanwhile
	Timeout          Reason = "Timeout"          // did not get there, or the API server did not answer, in time
	Webhook          Reason = "Webhook"          // an admission webhook says no or is away
	Shared           Reason = "SharedResource"   // another delivery has it
	Unsupported      Reason = "Unsupported"      // an option that we refuse by name
	Unhealthy        Reason = "Unhealthy"        // applied, and then failed
	Duplicate        Reason = "Duplicate"        // twice in one plan
	Unavailable      Reason = "Unavailable"      // the API server is away
	Unknown          Reason = "Unknown"
)

// ObjectError is one object's failure, in one line, without secrets.
type ObjectError struct {
	Ref    core.ObjectRef
	Op     string // "apply", "validate", "delete", "compare", "wait for", …
	Reason Reason
	// Err is the cause. The text of an API error on a Secret is not shown: the
	// API server repeats values in it.
	Err  error
	hint string
}

func (e *ObjectError) Error() string { return fmt.Sprintf("%s %s: %s", e.Op, e.Ref, e.cause()) }

// Unwrap returns the cause. Do not print it: Error leaves out what it must.
func (e *ObjectError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *ObjectError) Hint() string {
	if e.hint != "" {
		return e.hint
	}
	var hinted core.Hinted
	if errors.As(e.Err, &hinted) {
		return hinted.Hint()
	}
	switch e.Reason {
	case Immutable:
		return "the field can only be set when the object is made: delete the object, or let it be recreated (Application: sync option Force=true; Kustomization: spec.force or the annotation kustomize.toolkit.fluxcd.io/force: enabled)"
	case MissingNamespace:
		return "add the Namespace to the manifests or create it (Application: sync option CreateNamespace=true)"
	case Duplicate:
		return "remove all but one of them"
	case Shared:
		return "remove it from one of the two, or delete the other delivery without its objects"
	}
	return ""
}

// cause is one line.
func (e *ObjectError) cause() string {
	msg := e.Err.Error()
	var status apierrors.APIStatus
	if errors.As(e.Err, &status) {
		msg = describe(status.Status(), isSecret(e.Ref))
	} else if isSecret(e.Ref) && e.Reason == Unknown {
		msg = "failed (the reason may hold secret data and is not shown)"
	}
	return strings.Join(strings.Fields(msg), " ")
}

// describe says what an API status says, as fields where it has them. Where
// secret is set, values are left out.
func describe(s metav1.Status, secret bool) string {
	var fields []string
	if s.Details != nil {
		for _, c := range s.Details.Causes {
			switch {
			case secret:
				fields = append(fields, fmt.Sprintf("%s (%s)", c.Field, c.Type))
			case c.Field != "":
				fields = append(fields, c.Field+": "+elide(c.Message))
			default:
				fields = append(fields, elide(c.Message))
			}
		}
	}
	switch {
	case s.Reason == metav1.StatusReasonInvalid && len(fields) > 0:
		return strings.Join(fields, "; ")
	case secret && s.Reason == metav1.StatusReasonForbidden && strings.HasPrefix(s.Message, "secrets ") && strings.Contains(s.Message, " is forbidden: User "):
		return s.Message // of the authorizer, which has not seen the object
	case secret && len(fields) > 0:
		return fmt.Sprintf("refused (%s): %s", s.Reason, strings.Join(fields, "; "))
	case secret:
		return fmt.Sprintf("refused (%s; what the API server says may hold secret data and is not shown)", cmp.Or(string(s.Reason), http.StatusText(int(s.Code)), "for no given reason"))
	case s.Message != "":
		return s.Message
	}
	return string(s.Reason)
}

// objectError translates an error of the API server about an object.
func objectError(op string, ref core.ObjectRef, err error) *ObjectError {
	var already *ObjectError
	if errors.As(err, &already) {
		return already
	}
	return &ObjectError{Ref: ref, Op: op, Reason: reasonOf(ref, err), Err: err}
}

func reasonOf(ref core.ObjectRef, err error) Reason {
	var kind *kube.MissingKindError
	switch {
	case errors.As(err, &kind):
		return MissingKind
	case missingNamespace(ref, err):
		return MissingNamespace
	case isImmutable(err):
		return Immutable
	case isWebhook(err):
		return Webhook
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), isSchema(err):
		return Invalid
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return Forbidden
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return Conflict
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err):
		return Timeout
	case apierrors.IsServiceUnavailable(err), apierrors.IsTooManyRequests(err):
		return Unavailable
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return Unavailable // no answer at all
	}
	return Unknown
}

// missingNamespace tells a namespace that is not there from an object that is
// not: the answer's details name the kind.
func missingNamespace(ref core.ObjectRef, err error) bool {
	var status apierrors.APIStatus
	if ref.Namespace == "" || !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	d := status.Status().Details
	return d != nil && d.Group == "" && d.Kind == "namespaces" && d.Name == ref.Namespace
}

// immutable are the words with which Kubernetes refuses to change a field, by
// the type of the cause. Its API has no code for that: kubectl and Flux go by
// all that is Invalid, and would recreate an object for a typing error.
var immutable = map[metav1.CauseType][]string{
	metav1.CauseTypeFieldValueInvalid: {
		"is immutable", "may not be changed", "may not change once set", "cannot be changed", "cannot change roleref",
	},
	metav1.CauseTypeForbidden: {"is immutable", "updates to ", "updates may not change "},
}

// isImmutable holds where validation of the fields says that one cannot be
// changed in place. What permissions, quotas and policies forbid is no such
// thing, and these give no field.
func isImmutable(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return slices.ContainsFunc(status.Status().Details.Causes, func(c metav1.StatusCause) bool {
		return c.Field != "" && slices.ContainsFunc(immutable[c.Type], func(words string) bool {
			return strings.Contains(strings.ToLower(c.Message), words)
		})
	})
}

// isWebhook goes by what the API server itself puts before what a webhook
// says; it has no code for it either.
func isWebhook(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) &&
		(strings.HasPrefix(status.Status().Message, "admission webhook ") ||
			strings.Contains(status.Status().Message, "failed calling webhook "))
}

// isSchema is a manifest that is not of its kind's form. Server-side apply
// answers that with 500 or 400 and a text, without a code.
func isSchema(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) &&
		strings.HasPrefix(status.Status().Message, "failed to create typed patch object")
}

func isSecret(ref core.ObjectRef) bool { return ref.Group == "" && ref.Kind == "Secret" }

// PlanError says that objects of a plan failed. Where Applied is false nothing
// of the plan was applied.
type PlanError struct {
	Objects []*ObjectError
	Applied bool
	// Changed is how many objects were written or pruned before it ended,
	// Unreached how many were not come to.
	Changed, Unreached int
}

func (e *PlanError) Error() string {
	msg := e.Objects[0].Error()
	if n := len(e.Objects) - 1; n > 0 {
		msg += fmt.Sprintf(" (and %d more)", n)
	}
	if !e.Applied {
		return msg + "; nothing was applied"
	}
	if e.Changed+e.Unreached > 0 {
		msg += fmt.Sprintf("; changed before that: %d, not reached: %d", e.Changed, e.Unreached)
	}
	return msg
}

// Hint is the first object's.
func (e *PlanError) Hint() string { return e.Objects[0].Hint() }

// Unwrap returns the objects' errors.
func (e *PlanError) Unwrap() []error {
	errs := make([]error, len(e.Objects))
	for i, o := range e.Objects {
		errs[i] = o
	}
	return errs
}

// EmptyPlanError says that a plan has no objects left, though earlier ones
// had: more often a mistake in Git than a wish.
type EmptyPlanError struct{ Owner core.Owner }

func (e *EmptyPlanError) Error() string {
	return fmt.Sprintf("%s: the source has no objects any more, and all that was applied would be pruned", e.Owner)
}

// Hint says how to go on.
func (e *EmptyPlanError) Hint() string {
	return "if that is what you want, set syncPolicy.automated.allowEmpty, or sync by hand with prune"
}

// UnconfirmedError says that objects wait for somebody to confirm their end.
// All that does not wait for that was done.
type UnconfirmedError struct {
	What    string // "pruning" or "deletion"
	Objects []core.ObjectRef
}

// Error has Argo CD's words.
func (e *UnconfirmedError) Error() string {
	msg := fmt.Sprintf("waiting for %s confirmation of %s", e.What, e.Objects[0])
	if n := len(e.Objects) - 1; n > 0 {
		msg += fmt.Sprintf(" and %d more", n)
	}
	return msg
}

// Hint says how to confirm.
func (e *UnconfirmedError) Hint() string {
	return "to confirm, set the annotation argocd.argoproj.io/deletion-approved of the Application to the present time, as in 2026-01-31T12:00:00Z"
}
