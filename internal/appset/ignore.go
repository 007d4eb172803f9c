package appset

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/itchyny/gojq"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// jqTimeout is for one expression on one Application, as in Argo CD.
const jqTimeout = time.Second

// ignores are the fields of Applications that are left as they are.
type ignores struct {
	rules []ignoreRule
}

type ignoreRule struct {
	name     string // "" is all
	pointers [][]string
	queries  []*gojq.Code
}

// newIgnores compiles the set's rules. The errors are *FieldError.
func newIgnores(list []argo.ApplicationSetIgnoreDiff) (*ignores, []*FieldError) {
	out := &ignores{}
	var problems []*FieldError
	for i, item := range list {
		rule := ignoreRule{name: item.Name}
		for j, p := range item.JSONPointers {
			if !strings.HasPrefix(p, "/") {
				problems = append(problems, &FieldError{fmt.Sprintf("spec.ignoreApplicationDifferences[%d].jsonPointers[%d]", i, j), fmt.Sprintf("%q does not begin with /", p)})
				continue
			}
			rule.pointers = append(rule.pointers, pointer(p))
		}
		for j, expression := range item.JQPathExpressions {
			code, err := compileDelete(expression)
			if err != nil {
				problems = append(problems, &FieldError{fmt.Sprintf("spec.ignoreApplicationDifferences[%d].jqPathExpressions[%d]", i, j), err.Error()})
				continue
			}
			rule.queries = append(rule.queries, code)
		}
		out.rules = append(out.rules, rule)
	}
	return out, problems
}

func compileDelete(expression string) (*gojq.Code, error) {
	query, err := gojq.Parse("del(" + expression + ")")
	if err != nil {
		return nil, err
	}
	return gojq.Compile(query)
}

// pointer splits a JSON pointer (RFC 6901).
func pointer(p string) []string {
	parts := strings.Split(p[1:], "/")
	for i, part := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
	}
	return parts
}

// remove returns the object without the fields that are ignored of the
// Application of that name. The object may be changed.
func (i *ignores) remove(name string, object map[string]any) (map[string]any, error) {
	for _, rule := range i.rules {
		if rule.name != "" && rule.name != name {
			continue
		}
		for _, p := range rule.pointers {
			removeAt(object, p)
		}
		for _, code := range rule.queries {
			var err error
			if object, err = runDelete(code, object); err != nil {
				return nil, err
			}
		}
	}
	return object, nil
}

// removeAt removes what a pointer leads to; elements of lists become null, so
// that those after them stay where they are.
func removeAt(value any, path []string) {
	switch v := value.(type) {
	case map[string]any:
		if len(path) == 1 {
			delete(v, path[0])
			return
		}
		removeAt(v[path[0]], path[1:])
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i >= len(v) {
			return
		}
		if len(path) == 1 {
			v[i] = nil
			return
		}
		removeAt(v[i], path[1:])
	}
}

func runDelete(code *gojq.Code, object map[string]any) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), jqTimeout)
	defer cancel()
	// gojq knows int, and no int64.
	value, ok := code.RunWithContext(ctx, plain(object)).Next()
	if !ok {
		return object, nil
	}
	if err, failed := value.(error); failed {
		return nil, fmt.Errorf("spec.ignoreApplicationDifferences: jq: %w", err)
	}
	out, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("spec.ignoreApplicationDifferences: jq: it makes no object")
	}
	return out, nil
}

// plain is the value with int in place of int64.
func plain(value any) any {
	switch v := value.(type) {
	case int64:
		return int(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = plain(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = plain(item)
		}
		return out
	}
	return value
}
