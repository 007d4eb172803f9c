package controller

import (
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// variables are what postBuild substitutes.
type variables struct {
	values map[string]string
	// secret are the names of those that a Secret holds.
	secret map[string]bool
}

// set has a variable in place of one that was of the same name. Lines become
// one, as in Flux.
func (v variables) set(name, value string, secret bool) {
	v.values[name] = strings.ReplaceAll(value, "\n", "")
	delete(v.secret, name)
	if secret {
		v.secret[name] = true
	}
}

// lookup is a variable's value.
func (v variables) lookup(name string) (value string, there bool) {
	value, there = v.values[name]
	return value, there
}

// substituted notes what variables have brought into an object from Secrets:
// what would be something else were the Secrets' values others, so parts of
// them too, as ${NAME:0:8} takes, and the values as such, should one be quoted
// without the rest of its field.
func (p *private) substituted(before, after *unstructured.Unstructured, vars variables) {
	if len(vars.secret) == 0 || before == after {
		return
	}
	masked, err := substituteObject(before, func(name string) (string, bool) {
		value, there := vars.lookup(name)
		if !vars.secret[name] || value == "" { // for what is empty a default counts
			return value, there
		}
		p.add(value)
		return hiddenValue, true
	})
	switch {
	case err != nil: // it is all that variables brought
		masked = before
	case reflect.DeepEqual(masked.Object, after.Object):
		return
	}
	p.note(masked, after)
}
