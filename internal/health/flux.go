package health

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
)

// Expressions are a kind's health as Flux' spec.healthCheckExprs has it: CEL
// expressions over the object's top-level fields. Current must be given.
type Expressions struct{ InProgress, Failed, Current string }

// Check is one of spec.healthCheckExprs.
type Check struct {
	Group, Kind string
	Expressions
}

// flux is the language of all Expressions.
var flux = sync.OnceValues(newLanguage)

// Compile makes a rule of the expressions. They are tried in the order of
// Flux' RFC 0009: while status.observedGeneration is not the generation,
// the object is Progressing; then inProgress, failed and current are asked, and
// where none is true it is Progressing. An expression that reads a field that is
// not there makes it Progressing too, for Flux waits for the field; any other
// fault of it makes it Unknown. The rule does not depend on the dialect.
func Compile(e Expressions) (Func, error) {
	if e.Current == "" {
		return nil, fmt.Errorf("current: is missing")
	}
	l, err := flux()
	if err != nil {
		return nil, err
	}
	var steps []step
	for _, s := range []step{
		{name: "inProgress", text: e.InProgress, health: core.Progressing},
		{name: "failed", text: e.Failed, health: core.Degraded},
		{name: "current", text: e.Current, health: core.Healthy},
	} {
		if s.text == "" {
			continue
		}
		if s.expression, err = l.parse(s.text); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		steps = append(steps, s)
	}
	return func(_ core.Dialect, obj *unstructured.Unstructured) (core.Health, string) {
		return judge(steps, obj)
	}, nil
}

// rulesOf are the rules of checks, by kind. Of two checks of a kind the later
// counts, as with Flux.
func rulesOf(checks []Check) (map[schema.GroupKind]Func, error) {
	rules := map[schema.GroupKind]Func{}
	for i, c := range checks {
		rule, err := Compile(c.Expressions)
		if err != nil {
			return nil, fmt.Errorf("healthCheckExprs[%d]: %s: %w", i, c.Kind, err)
		}
		rules[schema.GroupKind{Group: c.Group, Kind: c.Kind}] = rule
	}
	return rules, nil
}

// step is one of the expressions, and the health where it is true.
type step struct {
	name, text string
	health     core.Health
	expression *expression
}

func judge(steps []step, obj *unstructured.Unstructured) (core.Health, string) {
	if obj.GetDeletionTimestamp() != nil {
		return byStatus(obj)
	}
	observed, ok, err := unstructured.NestedInt64(obj.Object, "status", "observedGeneration")
	if err != nil {
		return core.Unknown, err.Error()
	}
	if ok && observed != obj.GetGeneration() && obj.GetGeneration() != 0 {
		return core.Progressing, fmt.Sprintf("generation %d is not observed yet, but %d", obj.GetGeneration(), observed)
	}
	names := &fields{object: &object{fields: obj.Object}}
	for _, s := range steps {
		v, err := s.expression.eval(names)
		switch {
		case isAbsent(err):
			return core.Progressing, fmt.Sprintf("%s: %s", s.name, err)
		case err != nil:
			return core.Unknown, fmt.Sprintf("%s: %s", s.name, err)
		}
		held, ok := v.Value().(bool)
		switch {
		case !ok:
			return core.Unknown, fmt.Sprintf("%s: %s: is %s, not true or false", s.name, shorten(s.text, maxQuote), v.Type().TypeName())
		case held && s.health == core.Healthy:
			return core.Healthy, ""
		case held:
			return s.health, fmt.Sprintf("%s: %s", s.name, shorten(s.text, maxQuote))
		}
	}
	return core.Progressing, "current does not hold yet"
}

// fields are an object's top-level fields as the names in an expression.
type fields struct {
	object *object
	budget
}

var _ activation = (*fields)(nil)

// Parent implements cel.Activation.
func (*fields) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation. A name that is no field is absent, but
// for CEL's own and those with a dot, by which CEL tries whether a is a
// namespace in a.b.
func (f *fields) ResolveName(name string) (any, bool) {
	if f.object.fields[name] == nil && (slices.Contains(reserved, name) || strings.Contains(name, ".")) {
		return nil, false
	}
	return f.object.get(name), true
}
