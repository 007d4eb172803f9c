package appset

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gosimple/slug"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// parseParams reads YAML or JSON that holds one object or a list of them.
// What is empty is one empty set, as in Argo CD.
func parseParams(data []byte) ([]Params, error) {
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "))
	}
	switch v := value.(type) {
	case nil:
		return []Params{{}}, nil
	case map[string]any:
		return []Params{v}, nil
	case []any:
		out := make([]Params, len(v))
		for i, item := range v {
			params, ok := item.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("element %d of the list is not an object", i)
			}
			out[i] = params
		}
		return out, nil
	}
	return nil, errors.New("it is neither an object nor a list of objects")
}

// flatten makes nested values strings at paths: "cluster.owner", "list.0".
func flatten(params Params) Params {
	out := Params{}
	flattenInto(out, "", params)
	return out
}

func flattenInto(out Params, prefix string, value any) {
	at := func(key string) string {
		if prefix == "" {
			return key
		}
		return prefix + "." + key
	}
	switch v := value.(type) {
	case map[string]any:
		for key, item := range v {
			flattenInto(out, at(key), item)
		}
	case []any:
		for i, item := range v {
			flattenInto(out, at(strconv.Itoa(i)), item)
		}
	default:
		out[prefix] = text(value)
	}
}

// text is a scalar as a template without Go templates shows it. A whole number
// has no exponent.
func text(value any) string {
	if f, ok := value.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.FormatInt(int64(f), 10)
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

// deepMerge is base with what over has in place of its own: objects are merged
// at each level, all else is replaced. Neither is changed.
func deepMerge(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	for key, value := range base {
		out[key] = value
	}
	for key, value := range over {
		below, ok1 := out[key].(map[string]any)
		above, ok2 := value.(map[string]any)
		if ok1 && ok2 {
			out[key] = deepMerge(below, above)
			continue
		}
		out[key] = value
	}
	return out
}

// notDNS is what a name of an object cannot have.
var notDNS = regexp.MustCompile(`[^-a-z0-9.]`)

// normalize makes a string the name of an object, as Argo CD does.
func normalize(s string) string {
	s = notDNS.ReplaceAllString(strings.ToLower(s), "-")
	return strings.Trim(s[:min(len(s), 253)], "-.")
}

// slugLength is how long a slug is where nobody says.
const slugLength = 50

// slugify makes a string a part of a name, in letters, digits and hyphens. One
// that is too long is cut, with whole at the end of a word where there is one.
func slugify(s string, longest int, whole bool) string {
	s = slug.Make(s)
	if longest <= 0 || len(s) <= longest {
		return s
	}
	if whole {
		if s[longest] == '-' {
			return s[:longest]
		}
		if i := strings.LastIndexByte(s[:longest], '-'); i > 0 {
			return s[:i]
		}
	}
	return strings.TrimRight(s[:longest], "-")
}

// selector is a metav1.LabelSelector for values that need not be labels.
type selector struct {
	requirements []metav1.LabelSelectorRequirement
}

func newSelector(s *metav1.LabelSelector) (selector, error) {
	var out selector
	if s == nil {
		return out, nil
	}
	for key, value := range s.MatchLabels {
		out.requirements = append(out.requirements, metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{value}})
	}
	for _, r := range s.MatchExpressions {
		switch r.Operator {
		case metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist:
		default:
			return out, fmt.Errorf("selector: %q is not an operator; want In, NotIn, Exists or DoesNotExist", r.Operator)
		}
		out.requirements = append(out.requirements, r)
	}
	return out, nil
}

func (s selector) empty() bool { return len(s.requirements) == 0 }

func (s selector) matches(values map[string]string) bool {
	for _, r := range s.requirements {
		value, there := values[r.Key]
		holds := false
		switch r.Operator {
		case metav1.LabelSelectorOpIn:
			holds = there && slices.Contains(r.Values, value)
		case metav1.LabelSelectorOpNotIn:
			holds = !there || !slices.Contains(r.Values, value)
		case metav1.LabelSelectorOpExists:
			holds = there
		case metav1.LabelSelectorOpDoesNotExist:
			holds = !there
		}
		if !holds {
			return false
		}
	}
	return true
}

// selected are the sets that match the selector, by their flattened values.
func selected(sets []Params, by *metav1.LabelSelector) ([]Params, error) {
	match, err := newSelector(by)
	if err != nil || match.empty() {
		return sets, err
	}
	out := sets[:0]
	for _, params := range sets {
		values := map[string]string{}
		for key, value := range flatten(params) {
			values[key] = text(value)
		}
		if match.matches(values) {
			out = append(out, params)
		}
	}
	return out, nil
}

// as says whether err is, or wraps, a T.
func as[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// isBlank says whether a document of YAML holds nothing.
func isBlank(text string) bool { return len(bytes.TrimSpace([]byte(text))) == 0 }
