package controller

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/envsubst"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/mark"
)

// variableName is what Flux takes for the name of a variable.
var variableName = regexp.MustCompile(`^[_[:alpha:]][_[:alpha:][:digit:]]*$`)

// substitute replaces the variables of the objects, as postBuild asks. A
// variable that is not defined and has no default is an error.
func (k *kustomizationRun) substitute(ctx context.Context, t *target) error {
	vars, err := k.variables(ctx)
	if err != nil {
		return err
	}
	hidden := &private{}
	defer func() { k.private.know(fluxOwner(k.key), hidden) }()
	if len(vars.values) == 0 && k.k.GetSubstituteStrategy() == kustomizev1.SubstituteStrategyWithVariables {
		return nil
	}
	objects := t.objects.list()
	for i, o := range objects {
		if strings.EqualFold(mark.FluxSetting(o, "substitute"), kustomizev1.DisabledValue) {
			continue
		}
		if objects[i], err = substituteObject(o, vars.lookup); err != nil {
			if isSecret(o) || k.private.of(fluxOwner(k.key)).has(o) {
				// What looks like a variable may be part of a value.
				err = fmt.Errorf("spec.postBuild: substitute variables in %s: a variable of it is not set, or no variable; it is not shown", refOf(o))
			}
			return err
		}
		hidden.substituted(o, objects[i], vars)
	}
	t.seal(objects)
	return nil
}

func substituteObject(o *unstructured.Unstructured, lookup func(name string) (value string, there bool)) (*unstructured.Unstructured, error) {
	text, err := yaml.Marshal(o.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", refOf(o), err)
	}
	if !strings.Contains(string(text), "$") {
		return o, nil
	}
	result, err := envsubst.Eval(string(text), lookup)
	if err != nil {
		return nil, fmt.Errorf("spec.postBuild: substitute variables in %s: %w", refOf(o), err)
	}
	out := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(result), &out.Object); err != nil {
		return nil, fmt.Errorf("spec.postBuild: %s is no YAML any more after its variables were substituted", refOf(o))
	}
	return out, nil
}

// variables are those of substituteFrom, in their order, and then substitute's.
func (k *kustomizationRun) variables(ctx context.Context) (variables, error) {
	vars := variables{values: map[string]string{}, secret: map[string]bool{}}
	for i, from := range k.k.Spec.PostBuild.SubstituteFrom {
		data, err := k.referenced(ctx, from)
		if err != nil {
			return vars, fmt.Errorf("spec.postBuild.substituteFrom[%d]: %w", i, err)
		}
		for name, value := range data {
			vars.set(name, value, from.Kind == "Secret")
		}
	}
	for name, value := range k.k.Spec.PostBuild.Substitute {
		vars.set(name, value, false)
	}
	for name := range vars.values {
		if !variableName.MatchString(name) {
			return vars, fmt.Errorf("spec.postBuild: %q is not the name of a variable", name)
		}
	}
	return vars, nil
}

// referenced are the data of a ConfigMap or Secret beside the Kustomization.
func (k *kustomizationRun) referenced(ctx context.Context, from kustomizev1.SubstituteReference) (map[string]string, error) {
	key := types.NamespacedName{Namespace: k.key.Namespace, Name: from.Name}
	data := map[string]string{}
	var err error
	switch from.Kind {
	case "ConfigMap":
		var m corev1.ConfigMap
		if err = k.reader.Get(ctx, key, &m); err == nil {
			data = m.Data
		}
	case "Secret":
		var s corev1.Secret
		if err = k.reader.Get(ctx, key, &s); err == nil {
			for name, value := range s.Data {
				data[name] = string(value)
			}
		}
	default:
		return nil, fmt.Errorf("kind %q is not supported; want ConfigMap or Secret", from.Kind)
	}
	if apierrors.IsNotFound(err) {
		if from.Optional {
			return nil, nil
		}
		return nil, fmt.Errorf("%s %s is not there", from.Kind, key)
	}
	return data, err
}
