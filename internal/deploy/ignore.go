package deploy

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/itchyny/gojq"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/mark"
)

// jqTimeout bounds an expression that never ends.
const jqTimeout = time.Second

// matchIgnored returns the rules that are for the object. Group, kind, name
// and namespace may be globs, as in Argo CD.
func matchIgnored(rules []IgnoreDifference, ref core.ObjectRef) []IgnoreDifference {
	var matched []IgnoreDifference
	for _, r := range rules {
		if glob(r.Group, ref.Group) && glob(r.Kind, ref.Kind) && glob(r.Namespace, ref.Namespace) && glob(r.Name, ref.Name) {
			matched = append(matched, r)
		}
	}
	return matched
}

func glob(pattern, s string) bool {
	if pattern == "" || pattern == "*" || pattern == s {
		return true
	}
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

// ignoredIn returns what the rules ignore, as concrete pointers into the
// objects (jq expressions and managers are looked up in each).
func ignoredIn(ctx context.Context, rules []IgnoreDifference, objs ...*unstructured.Unstructured) (mark.Ignored, error) {
	var ig mark.Ignored
	for _, r := range rules {
		ig.Pointers = append(ig.Pointers, r.JSONPointers...)
		ig.Managers = append(ig.Managers, r.Managers...)
		for _, expr := range r.JQPaths {
			for _, obj := range objs {
				if obj == nil {
					continue
				}
				ps, err := jqPointers(ctx, expr, obj)
				if err != nil {
					return ig, err
				}
				ig.Pointers = append(ig.Pointers, ps...)
			}
		}
		for _, m := range r.Managers {
			for _, obj := range objs {
				if obj != nil {
					ig.Pointers = append(ig.Pointers, mark.OwnedPointers(obj, m)...)
				}
			}
		}
	}
	slices.Sort(ig.Pointers)
	ig.Pointers = slices.Compact(ig.Pointers)
	slices.Sort(ig.Managers)
	ig.Managers = slices.Compact(ig.Managers)
	return ig, nil
}

// jqPointers returns the pointers to what a jq path expression selects.
func jqPointers(ctx context.Context, expr string, obj *unstructured.Unstructured) ([]string, error) {
	query, err := gojq.Parse("path(" + expr + ")")
	if err != nil {
		return nil, fmt.Errorf("ignoreDifferences: jq expression %q: %w", expr, err)
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return nil, fmt.Errorf("ignoreDifferences: jq expression %q: %w", expr, err)
	}
	ctx, cancel := context.WithTimeout(ctx, jqTimeout)
	defer cancel()
	// gojq knows int and float64, and normalizes its input in place.
	run := code.RunWithContext(ctx, jqInput(obj.Object))
	var ps []string
	for {
		v, ok := run.Next()
		if !ok {
			return ps, nil
		}
		if _, bad := v.(error); bad {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("ignoreDifferences: jq expression %q does not end within %s", expr, jqTimeout)
			}
			return ps, nil // the object has no such path: nothing to ignore
		}
		if elems, ok := v.([]any); ok {
			ps = append(ps, pointerOf(elems))
		}
	}
}

// jqInput copies a decoded object with the types that gojq takes.
func jqInput(v any) any {
	switch x := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(x))
		for k, e := range x {
			m[k] = jqInput(e)
		}
		return m
	case []any:
		l := make([]any, len(x))
		for i, e := range x {
			l[i] = jqInput(e)
		}
		return l
	case int64:
		return int(x)
	}
	return v
}

func pointerOf(elems []any) string {
	var b strings.Builder
	for _, e := range elems {
		b.WriteByte('/')
		b.WriteString(mark.EscapePointer(fmt.Sprint(e)))
	}
	return b.String()
}

// lookup returns what pointer selects of v.
func lookup(v any, pointer string) (any, bool) { return walk(v, elements(pointer)) }

func walk(v any, elems []string) (any, bool) {
	for _, e := range elems {
		switch x := v.(type) {
		case map[string]any:
			below, ok := x[e]
			if !ok {
				return nil, false
			}
			v = below
		case []any:
			i, err := strconv.Atoi(e)
			if err != nil || i < 0 || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// remove takes what pointer selects out of v, in place. An element of a list
// is set to null, so that the others keep their places.
func remove(v map[string]any, pointer string) {
	elems := elements(pointer)
	if len(elems) == 0 {
		return
	}
	last := elems[len(elems)-1]
	switch x := parent(v, elems).(type) {
	case map[string]any:
		delete(x, last)
	case []any:
		if i, err := strconv.Atoi(last); err == nil && i >= 0 && i < len(x) {
			x[i] = nil
		}
	}
}

// replace sets what pointer selects, in place, where its parent is there.
func replace(v map[string]any, pointer string, value any) {
	elems := elements(pointer)
	if len(elems) == 0 {
		return
	}
	last := elems[len(elems)-1]
	switch x := parent(v, elems).(type) {
	case map[string]any:
		x[last] = value
	case []any:
		if i, err := strconv.Atoi(last); err == nil && i >= 0 && i < len(x) {
			x[i] = value
		}
	}
}

func parent(v map[string]any, elems []string) any {
	p, _ := walk(v, elems[:len(elems)-1])
	return p
}

func elements(pointer string) []string {
	if pointer == "" {
		return nil
	}
	parts := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts
}

// respect puts the live values of ignored fields in the place of the wanted
// ones (RespectIgnoreDifferences), so that an apply does not reset them. To
// leave them out would: a field that nobody applies any more is removed.
func respect(obj, live *unstructured.Unstructured, ig mark.Ignored) {
	for _, p := range ig.Pointers {
		if v, ok := lookup(live.Object, p); ok {
			if _, wanted := lookup(obj.Object, p); wanted {
				replace(obj.Object, p, v)
			}
		}
	}
}
