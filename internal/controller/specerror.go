package controller

import (
	"errors"
	"fmt"
	"strings"

	kjson "sigs.k8s.io/json"
)

// SpecError says what of an object's spec is refused, field by field. It does
// not go away by trying again.
type SpecError struct{ Fields []FieldProblem }

// FieldProblem is one field that is refused. Path is as a person writes it
// ("spec.source.helm.version").
type FieldProblem struct{ Path, Problem string }

func (e *SpecError) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = f.Path + ": " + f.Problem
	}
	return strings.Join(parts, "; ")
}

// add notes a problem.
func (e *SpecError) add(path, format string, args ...any) {
	e.Fields = append(e.Fields, FieldProblem{path, fmt.Sprintf(format, args...)})
}

// absorb takes over the problems of another SpecError.
func (e *SpecError) absorb(err error) {
	var other *SpecError
	if errors.As(err, &other) {
		e.Fields = append(e.Fields, other.Fields...)
	}
}

// orNil is the error, or nil where there is no problem.
func (e *SpecError) orNil() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// decodeStrict reads data into out. What out has no field for is a problem of
// a *SpecError, as is a value of the wrong type; prefix goes before each path.
func decodeStrict(data []byte, prefix string, out any) error {
	refused := &SpecError{}
	strict, err := kjson.UnmarshalStrict(data, out)
	if err != nil {
		refused.add(prefix, "%v", err)
		return refused
	}
	for _, problem := range strict {
		path := prefix
		var field kjson.FieldError
		if errors.As(problem, &field) && field.FieldPath() != "" {
			path = prefix + "." + field.FieldPath()
		}
		what, _, _ := strings.Cut(problem.Error(), " \"")
		refused.add(path, "%s", what)
	}
	return refused.orNil()
}

// refuseUnsupported notes each path of unsupported that the object has. A
// path's elements are field names; "*" stands for each element of a list.
func refuseUnsupported(object map[string]any, unsupported map[string]string, refused *SpecError) {
	for _, path := range sortedKeys(unsupported) {
		walkPath(object, strings.Split(path, "."), "", func(at string) {
			refused.add(at, "%s", unsupported[path])
		})
	}
}

// walkPath calls found with each place in value that path leads to and that
// holds something: false, "" and empty lists are as good as absent.
func walkPath(value any, path []string, at string, found func(string)) {
	if len(path) == 0 {
		if !isEmpty(value) {
			found(at)
		}
		return
	}
	if path[0] == "*" {
		list, _ := value.([]any)
		for i, item := range list {
			walkPath(item, path[1:], fmt.Sprintf("%s[%d]", at, i), found)
		}
		return
	}
	m, _ := value.(map[string]any)
	if next, ok := m[path[0]]; ok {
		walkPath(next, path[1:], strings.TrimPrefix(at+"."+path[0], "."), found)
	}
}

func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	}
	return false
}

// indexed is the path of a list's element.
func indexed(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// Undeliverable says whether a delivery cannot be rendered as its object
// stands, whatever becomes of its sources: it is refused, or not there.
func Undeliverable(err error) bool {
	return errors.As(err, new(*SpecError)) || errors.As(err, new(*ProjectError)) || errors.As(err, new(*NotFoundError))
}
