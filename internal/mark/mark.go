// Package mark is what Fairway writes on each object that it applies, and
// reads back: a label to watch by, the dialect's own tracking (whose the
// object is), and the evidence of the apply (what was asked for, and what the
// fields that we own looked like right after).
//
// The evidence makes an object its own memory: whether it has drifted can be
// told from the object alone, so neither the deployer nor the watch must
// remember anything, a restart costs no comparison, and our own applies never
// look like somebody's change: the expectation arrives in the same write as
// the change.
package mark

import (
	"encoding/json"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// FieldManager is the name under which we own fields.
const FieldManager = "fairway"

// ControllerManager is the name under which reconcilers write what is theirs in
// the objects that they reconcile: status, operations, finalizers. Such an
// object may itself be delivered, and what its reconciler writes is no change
// of what was delivered. Without a name of its own it would have the
// program's, which is FieldManager.
const ControllerManager = "fairway-controller"

// LabelManaged is on every object that we apply, so that only those need be
// watched. Its value is "true".
const LabelManaged = "fairway-cd.io/managed"

// Selector selects what we apply.
const Selector = LabelManaged + "=true"

// The annotations of the evidence.
const (
	// AnnotationApplied is "DIGEST.OWNED": the digest of the manifest as it
	// was sent, and the hash of the owned fields as the API server answered
	// (see Owned).
	AnnotationApplied = "fairway-cd.io/applied"
	// AnnotationIgnored, where present, holds what is left out of the hash of
	// the owned fields (an Ignored in JSON), because a delivery ignores those
	// differences.
	AnnotationIgnored = "fairway-cd.io/ignored"
)

// Applied is the evidence of an apply.
type Applied struct {
	// Digest is of the manifest as sent, Owned of the fields that we own as
	// they were answered.
	Digest, Owned string
}

// String is the annotation's value.
func (a Applied) String() string { return a.Digest + "." + a.Owned }

// ReadApplied returns the evidence on obj, if there is one.
func ReadApplied(obj *unstructured.Unstructured) (Applied, bool) {
	digest, owned, ok := strings.Cut(obj.GetAnnotations()[AnnotationApplied], ".")
	return Applied{Digest: digest, Owned: owned}, ok && digest != "" && owned != ""
}

// Write puts the evidence on obj.
func (a Applied) Write(obj *unstructured.Unstructured) { annotate(obj, AnnotationApplied, a.String()) }

// Ignored names the differences of an object that its delivery ignores.
type Ignored struct {
	// Pointers are RFC 6901 pointers to concrete fields.
	Pointers []string `json:"pointers,omitempty"`
	// Managers are field managers whose changes are ignored.
	Managers []string `json:"managers,omitempty"`
}

// Empty says that nothing is ignored.
func (i Ignored) Empty() bool { return len(i.Pointers) == 0 && len(i.Managers) == 0 }

// ReadIgnored returns what the object's delivery ignores. What cannot be read
// ignores nothing: somebody wrote it by hand, which is a drift.
func ReadIgnored(obj *unstructured.Unstructured) Ignored {
	var i Ignored
	s, ok := obj.GetAnnotations()[AnnotationIgnored]
	if !ok || json.Unmarshal([]byte(s), &i) != nil {
		return Ignored{}
	}
	return i
}

// Write puts it on obj, or nothing where nothing is ignored.
func (i Ignored) Write(obj *unstructured.Unstructured) {
	if i.Empty() {
		return
	}
	sort.Strings(i.Pointers)
	sort.Strings(i.Managers)
	b, err := json.Marshal(i)
	if err != nil {
		return // two slices of strings always marshal
	}
	annotate(obj, AnnotationIgnored, string(b))
}

// Seen is what the watch knows of an object that is as it was applied.
type Seen struct {
	// Digest is that of the manifest that was applied.
	Digest  string
	Health  core.Health
	Message string
}

func annotate(obj *unstructured.Unstructured, key, value string) {
	a := obj.GetAnnotations()
	if a == nil {
		a = map[string]string{}
	}
	a[key] = value
	obj.SetAnnotations(a)
}

func label(obj *unstructured.Unstructured, key, value string) {
	l := obj.GetLabels()
	if l == nil {
		l = map[string]string{}
	}
	l[key] = value
	obj.SetLabels(l)
}
