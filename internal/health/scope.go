package health

import (
	"slices"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// The names that every expression of a rule can read, beside those of its let
// and each.
var names = []string{"self", "apiVersion", "kind", "metadata", "spec", "status", "conditions", "now"}

// scope holds what the names in an expression stand for: those of the object
// in the outermost, one item of a list or a few let expressions in the others.
// It is of one evaluation and one goroutine.
type scope struct {
	outer *scope
	// self is the outermost scope's.
	self *object
	*budget

	name string
	item ref.Val
	lets []*let
	// known are the values of lets that were asked for.
	known map[string]ref.Val
}

var _ activation = (*scope)(nil)

func newScope(fields map[string]any) *scope {
	return &scope{self: &object{fields: fields}, budget: &budget{}}
}

// within is s and name, which stands for item.
func (s *scope) within(name string, item ref.Val) *scope {
	return &scope{outer: s, budget: s.budget, name: name, item: item}
}

// letting is s and lets, which are evaluated when they are asked for.
func (s *scope) letting(lets []*let) *scope {
	return &scope{outer: s, budget: s.budget, lets: lets}
}

// Parent implements cel.Activation. ResolveName asks the outer scopes itself.
func (s *scope) Parent() cel.Activation { return nil }

// ResolveName implements cel.Activation.
func (s *scope) ResolveName(name string) (any, bool) {
	if s.outer == nil {
		return s.ofObject(name)
	}
	if s.item != nil && s.name == name {
		return s.item, true
	}
	for _, l := range s.lets {
		if l.name != name {
			continue
		}
		if v, ok := s.known[name]; ok {
			return v, true
		}
		if s.known == nil {
			s.known = map[string]ref.Val{}
		}
		s.known[name] = types.NewErr("let %s reads itself", name)
		v, err := l.value.eval(s)
		if err != nil {
			v = types.WrapErr(err)
		}
		s.known[name] = v
		return v, true
	}
	return s.outer.ResolveName(name)
}

func (s *scope) ofObject(name string) (any, bool) {
	switch name {
	case "self":
		return s.self, true
	case "apiVersion", "kind":
		return s.self.get(name), true
	case "metadata", "spec", "status":
		return s.section(name), true
	case "conditions":
		list, _ := s.section("status").fields["conditions"].([]any)
		return types.NewDynamicList(adapter{}, onlyObjects(list)), true
	case "now":
		return types.Timestamp{Time: time.Now()}, true
	}
	return nil, false
}

// section is a part of the object that nearly all have. Where it is missing it
// is empty, so that a rule can ask has(status.phase) of an object that has no
// status yet.
func (s *scope) section(name string) *object {
	fields, _ := s.self.fields[name].(map[string]any)
	return &object{fields: fields, in: s.self, name: name}
}

// onlyObjects is list without what is no object, so that rules need not ask.
func onlyObjects(list []any) []any {
	isObject := func(v any) bool { _, ok := v.(map[string]any); return ok }
	if !slices.ContainsFunc(list, func(v any) bool { return !isObject(v) }) {
		return list
	}
	var out []any
	for _, v := range list {
		if isObject(v) {
			out = append(out, v)
		}
	}
	return out
}
