package deploy

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// TestElide: a long value is left out of a message, with nothing of it left,
// and the field and the rule are told. What Kubernetes writes is the input.
func TestElide(t *testing.T) {
	long := map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"env": strings.Repeat("sécret: ", 200)}}, "volumes": nil}}
	at := field.NewPath("spec", "template")
	cases := map[string]struct {
		err  *field.Error
		want string
	}{
		"object":       {field.Invalid(at, long, "field is immutable"), "Invalid value of 1851 bytes: field is immutable"},
		"short object": {field.Invalid(at, map[string]any{"a": 1}, "no"), `Invalid value: {"a":1}: no`},
		"text":         {field.Invalid(at, strings.Repeat(`é"`, 60), "must be short: or not"), "Invalid value of 242 bytes: must be short: or not"},
		"odd text":     {field.Invalid(at, strings.Repeat("\x00", 60), "no"), "Invalid value of 242 bytes: no"},
		"short text":   {field.Invalid(at, "x", strings.Repeat("a rule ", 30)), `Invalid value: "x": ` + strings.Repeat("a rule ", 30)},
		"number":       {field.Invalid(at, 3, "no"), "Invalid value: 3: no"},
		"required":     {field.Required(at, strings.Repeat("because ", 30)), "Required value: " + strings.Repeat("because ", 30)},
		"forbidden":    {field.Forbidden(at, "updates to {\"x\": "+strings.Repeat("y", 200)), "Forbidden: updates to {\"x\": " + strings.Repeat("y", 200)},
		"duplicate":    {field.Duplicate(at, strings.Repeat("z", 200)), "Duplicate value of 202 bytes"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := elide(c.err.ErrorBody()); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	status := metav1.Status{Reason: metav1.StatusReasonInvalid, Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{
		{Field: "spec.template", Message: field.Invalid(at, long, "field is immutable").ErrorBody()},
	}}}
	if got, want := describe(status, false), "spec.template: Invalid value of 1851 bytes: field is immutable"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzElide: what is made of a message begins and ends as that did, and is no
// longer.
func FuzzElide(f *testing.F) {
	f.Add("Invalid value: \"x\": rule")
	f.Add("Invalid value: {\"a\": \"" + strings.Repeat("b", 200) + "\"}: rule")
	f.Add("Invalid value: [" + strings.Repeat("[", 200))
	f.Add(fmt.Sprintf("Too many: %q", strings.Repeat("é", 200)))
	f.Fuzz(func(t *testing.T, message string) {
		got := elide(message)
		kind, _, _ := strings.Cut(message, ": ")
		if len(got) > len(message) || !strings.HasPrefix(got, kind) {
			t.Errorf("%q became %q", message, got)
		}
	})
}
