package appset

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// matrix combines each set of the first generator with each that the second
// has for it: the second is filled in with the first's parameters.
func (g *generation) matrix(ctx context.Context, gen *argo.MatrixGenerator, at string, depth int) ([]Params, error) {
	if len(gen.Generators) != 2 {
		return nil, &FieldError{at + ".generators", fmt.Sprintf("there are %d, want 2", len(gen.Generators))}
	}
	one, err := g.child(ctx, gen.Generators[0], at+".generators[0]", depth)
	if err != nil || len(one) == 0 {
		return nil, err
	}
	var second any
	if err := json.Unmarshal(gen.Generators[1].Raw, &second); err != nil {
		return nil, fmt.Errorf("%s.generators[1]: %w", at, err)
	}
	filled, err := g.fill(ctx, at+".generators[1]", second, one)
	if err != nil {
		return nil, err
	}
	var out []Params
	known := map[string][]Params{} // most are the same for all of the first
	for i, a := range one {
		raw, err := json.Marshal(filled[i])
		if err != nil {
			return nil, err
		}
		two, ok := known[string(raw)]
		if !ok {
			if two, err = g.child(ctx, apiextensions.JSON{Raw: raw}, at+".generators[1]", depth); err != nil {
				return nil, err
			}
			known[string(raw)] = two
		}
		for _, b := range two {
			both, err := g.combine(a, b)
			if err != nil {
				return nil, err
			}
			if out = append(out, both); len(out) > g.limits.Applications {
				return nil, tooMany("sets of parameters", int64(len(out)), int64(g.limits.Applications))
			}
		}
	}
	return out, nil
}

// child is a generator inside of another one.
func (g *generation) child(ctx context.Context, raw apiextensions.JSON, at string, depth int) ([]Params, error) {
	gen, problem := nested(raw, at)
	if problem != nil {
		return nil, problem
	}
	if err := checkGenerator(gen, at, depth+1); err != nil {
		return nil, err
	}
	return g.generate(ctx, gen, at, depth+1)
}

// combine has the first's values win, at each level; without Go templates two
// values for one key are refused, as in Argo CD.
func (g *generation) combine(a, b Params) (Params, error) {
	if !g.set.Spec.GoTemplate {
		for key, value := range a {
			if other, ok := b[key]; ok && other != value {
				return nil, fmt.Errorf("both generators have the parameter %q, with different values", key)
			}
		}
	}
	return deepMerge(b, a), nil
}

// merge overrides the sets of the first generator with those of the others
// that have the same values for the keys. What the others have alone is left
// out.
func (g *generation) merge(ctx context.Context, gen *argo.MergeGenerator, at string, depth int) ([]Params, error) {
	if len(gen.Generators) < 2 {
		return nil, &FieldError{at + ".generators", "want 2 or more"}
	}
	if len(gen.MergeKeys) == 0 {
		return nil, &FieldError{at + ".mergeKeys", "want 1 or more"}
	}
	base, err := g.child(ctx, gen.Generators[0], at+".generators[0]", depth)
	if err != nil {
		return nil, err
	}
	where := map[string]int{}
	for i, params := range base {
		key := mergeKey(params, gen.MergeKeys)
		if _, twice := where[key]; twice {
			return nil, notUnique(0, gen.MergeKeys, key)
		}
		where[key] = i
	}
	for n, raw := range gen.Generators[1:] {
		more, err := g.child(ctx, raw, fmt.Sprintf("%s.generators[%d]", at, n+1), depth)
		if err != nil {
			return nil, err
		}
		seen := map[string]bool{}
		for _, params := range more {
			key := mergeKey(params, gen.MergeKeys)
			if seen[key] {
				return nil, notUnique(n+1, gen.MergeKeys, key)
			}
			seen[key] = true
			if i, ok := where[key]; ok {
				base[i] = deepMerge(base[i], params)
			}
		}
	}
	return base, nil
}

func notUnique(generator int, keys []string, key string) error {
	return fmt.Errorf("generators[%d] has two sets of parameters with the same %s: %s", generator, strings.Join(keys, ", "), key)
}

// mergeKey is what two sets must have alike to be merged.
func mergeKey(params Params, keys []string) string {
	values := make([]any, len(keys))
	for i, key := range keys {
		values[i] = lookup(params, key)
	}
	data, err := json.Marshal(values)
	if err != nil {
		return fmt.Sprint(values)
	}
	return string(data)
}

// lookup is the value at a key, or at a path of keys with dots between.
func lookup(params Params, key string) any {
	if value, ok := params[key]; ok {
		return value
	}
	first, rest, dotted := strings.Cut(key, ".")
	below, ok := params[first].(map[string]any)
	if !dotted || !ok {
		return nil
	}
	return lookup(below, rest)
}
