package health

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestExpressions(t *testing.T) {
	sealed := Expressions{
		InProgress: `metadata.generation != status.observedGeneration`,
		Failed:     `status.conditions.filter(e, e.type == 'Synced').all(e, e.status == 'False')`,
		Current:    `status.conditions.filter(e, e.type == 'Synced').all(e, e.status == 'True')`,
	}
	for _, c := range []struct {
		name    string
		exprs   Expressions
		object  string
		health  core.Health
		message string
	}{
		{"current", sealed, `{kind: X, metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: Synced, status: "True"}]}}`, core.Healthy, ""},
		{"failed", sealed, `{kind: X, metadata: {generation: 1}, status: {observedGeneration: 1, conditions: [{type: Synced, status: "False"}]}}`, core.Degraded, "failed: " + sealed.Failed},
		{"not observed", sealed, `{kind: X, metadata: {generation: 2}, status: {observedGeneration: 1}}`, core.Progressing, "generation 2 is not observed yet, but 1"},
		{"no status", sealed, `{kind: X, metadata: {generation: 1}}`, core.Progressing, "the object has no status"},
		{"a field that is not there", Expressions{Current: "status.phase == 'a'"}, `{kind: X, status: {}}`, core.Progressing, "the object has no status.phase"},
		{"none holds", Expressions{Current: "status.phase == 'a'"}, `{kind: X, status: {phase: b}}`, core.Progressing, "current does not hold yet"},
		{"in progress goes first", Expressions{InProgress: "true", Failed: "true", Current: "true"}, `{kind: X}`, core.Progressing, "inProgress: true"},
		{"failed goes before current", Expressions{Failed: "true", Current: "true"}, `{kind: X}`, core.Degraded, "failed: true"},
		{"any field", Expressions{Current: "data.ready == 'yes' && has(data.x)"}, `{kind: X, data: {ready: "yes", x: y}}`, core.Healthy, ""},
		{"optional fields", Expressions{Current: "status.?conditions.orValue([]).exists(c, c.type == 'Ready')"}, `{kind: X, status: {}}`, core.Progressing, "current does not hold yet"},
		{"a type", Expressions{Current: "type(spec.size) == int"}, `{kind: X, spec: {size: 1}}`, core.Healthy, ""},
		{"no bool", Expressions{Current: "spec"}, `{kind: X, spec: {size: 1}}`, core.Unknown, "current: spec: is kubernetes.object, not true or false"},
		{"a fault", Expressions{Current: "spec.size > 'a'"}, `{kind: X, spec: {size: 1}}`, core.Unknown, "no such overload"},
		{"being deleted", Expressions{Current: "true"}, `{apiVersion: v1, kind: X, metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}}`, core.Progressing, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Compile(c.exprs)
			if err != nil {
				t.Fatal(err)
			}
			health, message := f(core.Flux, parse(t, []byte(c.object)))
			if health != c.health || !strings.Contains(message, c.message) {
				t.Errorf("is %s %q, want %s %q", health, message, c.health, c.message)
			}
		})
	}
	for _, e := range []Expressions{{}, {Failed: "true"}, {Current: "a."}, {Current: "true", Failed: "("}} {
		if _, err := Compile(e); err == nil {
			t.Errorf("%+v compiles", e)
		}
	}
}

func TestOwners(t *testing.T) {
	var rules Owners
	owner := core.Owner{Dialect: core.Flux, Name: "one"}
	checks := []Check{{Group: "example.com", Kind: "Thing", Expressions: Expressions{Current: "status.up"}}}
	for _, want := range []bool{true, false} {
		if changed, err := rules.Check(owner, checks); err != nil || changed != want {
			t.Fatalf("changed %t, %v; want %t", changed, err, want)
		}
	}
	of := func(_ core.Dialect, obj *unstructured.Unstructured) (core.Health, string) {
		return rules.Of(owner, obj)
	}
	thing := parse(t, []byte(`{apiVersion: example.com/v1, kind: Thing, status: {up: false}}`))
	if h, _ := rules.Of(core.Owner{Dialect: core.Flux, Name: "another"}, thing); h != core.Healthy {
		t.Errorf("for another owner it is %s", h)
	}
	if h, _ := of(core.Flux, parse(t, []byte(`{apiVersion: example.com/v1, kind: Thing, status: {up: false}}`))); h != core.Progressing {
		t.Errorf("its kind is %s", h)
	}
	if h, _ := of(core.Flux, parse(t, []byte(`{apiVersion: example.com/v1, kind: Other, status: {up: false}}`))); h != core.Healthy {
		t.Errorf("another kind is %s", h)
	}
	if _, err := rules.Check(owner, []Check{{Kind: "Thing"}}); err == nil || !strings.Contains(err.Error(), "healthCheckExprs[0]: Thing: current") {
		t.Errorf("without current: %v", err)
	}
	if h, _ := rules.Of(owner, thing); h != core.Progressing {
		t.Errorf("rules that are refused have replaced those before: %s", h)
	}
	if changed, err := rules.Check(owner, nil); err != nil || !changed {
		t.Errorf("changed %t, %v", changed, err)
	}
	if h, _ := rules.Of(owner, thing); h != core.Healthy {
		t.Errorf("rules that were removed still count: %s", h)
	}
}
