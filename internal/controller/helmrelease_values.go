package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// defaultValuesKey is where values are in a ConfigMap or Secret.
const defaultValuesKey = "values.yaml"

// quotedValue is how a value of targetPath says that it is one string, commas
// and all (Flux' chartutil).
var quotedValue = regexp.MustCompile(`(?s)^'(.*)'$|^"(.*)"$`)

// composeValues merges what valuesFrom refers to, in its order, and then the
// values of the HelmRelease itself. Errors quote no values. private are the
// strings that come from Secrets.
func (e *Engine) composeValues(ctx context.Context, hr *helmv2.HelmRelease) (values map[string]any, private words, err error) {
	values = map[string]any{}
	for i, from := range hr.Spec.ValuesFrom {
		text, there, err := e.referencedValues(ctx, hr.Namespace, from)
		if err != nil {
			return nil, nil, fmt.Errorf("spec.valuesFrom[%d]: %w", i, err)
		}
		if !there {
			continue
		}
		if from.Kind == "Secret" {
			private = private.of(text)
		}
		if values, err = mergeReferenced(values, from, text); err != nil {
			return nil, nil, fmt.Errorf("spec.valuesFrom[%d]: %s %s/%s, key %q: %w", i, from.Kind, hr.Namespace, from.Name, valuesKey(from), err)
		}
	}
	if hr.Spec.Values == nil {
		return values, private, nil
	}
	own, err := loader.LoadValues(bytes.NewReader(hr.Spec.Values.Raw))
	if err != nil {
		return nil, nil, errors.New("spec.values are no mapping")
	}
	return loader.MergeMaps(values, own), private, nil
}

// words are not to be shown. The tools that are given them quote their input.
type words []string

// shortestWord is the length under which a word is not looked for: it would be
// found everywhere, and says little.
const shortestWord = 3

// of adds the words of a Secret's value: all of it, and where it is YAML each
// of its strings.
func (w words) of(text []byte) words {
	var value any
	if yaml.Unmarshal(text, &value) != nil {
		value = nil
	}
	var add func(v any)
	add = func(v any) {
		switch v := v.(type) {
		case string:
			for _, line := range append(strings.Split(v, "\n"), v) {
				if line = strings.TrimSpace(line); len(line) >= shortestWord {
					w = append(w, line)
				}
			}
		case map[string]any:
			for _, item := range v {
				add(item)
			}
		case []any:
			for _, item := range v {
				add(item)
			}
		}
	}
	add(string(text))
	add(value)
	// The longest first: one may be a part of another.
	slices.SortFunc(w, func(a, b string) int { return len(b) - len(a) })
	return w
}

// hide is the message without the words.
func (w words) hide(message string) string {
	for _, word := range w {
		message = strings.ReplaceAll(message, word, "[redacted]")
	}
	return message
}

func valuesKey(from helmv2.ValuesReference) string {
	if from.ValuesKey == "" {
		return defaultValuesKey
	}
	return from.ValuesKey
}

// mergeReferenced merges one reference: YAML of values, or one value.
func mergeReferenced(values map[string]any, from helmv2.ValuesReference, text []byte) (map[string]any, error) {
	if from.TargetPath == "" {
		more, err := loader.LoadValues(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("it is no YAML of values")
		}
		return loader.MergeMaps(values, more), nil
	}
	value := string(text)
	parse := strvals.ParseInto
	if m := quotedValue.FindStringSubmatch(value); m != nil {
		value = m[1] + m[2]
		value = strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(value)
		parse = strvals.ParseIntoString
	}
	if err := parse(from.TargetPath+"="+value, values); err != nil {
		return nil, fmt.Errorf("it cannot be set at %q", from.TargetPath)
	}
	return values, nil
}

// referencedValues reads one reference; there is false for one that may be
// missing, and is.
func (e *Engine) referencedValues(ctx context.Context, namespace string, from helmv2.ValuesReference) (text []byte, there bool, err error) {
	key := types.NamespacedName{Namespace: namespace, Name: from.Name}
	data := map[string][]byte{}
	switch from.Kind {
	case "ConfigMap":
		var m corev1.ConfigMap
		err = e.reader.Get(ctx, key, &m)
		for name, v := range m.Data {
			data[name] = []byte(v)
		}
		for name, v := range m.BinaryData {
			data[name] = v
		}
	case "Secret":
		data, _, err = e.secretData(ctx, key)
	default:
		return nil, false, fmt.Errorf("kind %q is not supported; want ConfigMap or Secret", from.Kind)
	}
	missing := apierrors.IsNotFound(err) || isNotThere(err)
	if missing && from.Optional {
		return nil, false, nil
	}
	if missing {
		return nil, false, &notThereError{from.Kind, key}
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s '%s': %w", from.Kind, key, err)
	}
	text, there = data[valuesKey(from)]
	if !there && !from.Optional {
		return nil, false, fmt.Errorf("%s '%s' has no key %q", from.Kind, key, valuesKey(from))
	}
	return text, there, nil
}
