package health

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/fairway-cd/fairway/internal/core"
)

// maxMessage is the longest message, in bytes: objects that others write are
// where it comes from.
const maxMessage = 16 << 10

// rule is a rule of a file. It is compiled when it is first asked, for of some
// 250 that are shipped a cluster has objects of a dozen.
type rule struct {
	spec *ruleSpec
	// at says where the rule is written.
	at       string
	language *language

	once sync.Once
	root *clause
	err  error
}

// clause is a compiled case.
type clause struct {
	lets    []*let
	each    *expression
	as      string
	when    *expression
	health  core.Health
	message *expression
	text    string
	cases   []*clause
}

// let is a name for an expression.
type let struct {
	name  string
	value *expression
}

// verdict is what a rule says.
type verdict struct {
	health  core.Health
	message string
}

func (r *rule) compile() error {
	r.once.Do(func() {
		if r.root, r.err = r.language.clause(&caseSpec{Let: r.spec.Let, Cases: r.spec.Cases}, nil); r.err != nil {
			r.err = fmt.Errorf("%s: %w", r.at, r.err)
		}
	})
	return r.err
}

// judge is the first of the rule's cases that holds of the object, and false
// where none does.
func (r *rule) judge(fields map[string]any) (verdict, bool, error) {
	if err := r.compile(); err != nil {
		return verdict{}, false, err
	}
	v, ok, err := r.root.judge(newScope(fields))
	if err != nil {
		return verdict{}, false, fmt.Errorf("%s: %w", r.at, err)
	}
	v.message = shorten(v.message, maxMessage)
	return v, ok, nil
}

func (c *clause) judge(s *scope) (verdict, bool, error) {
	if c.each == nil {
		return c.judgeOne(s)
	}
	v, err := c.each.eval(s)
	if isAbsent(err) {
		return verdict{}, false, nil
	}
	if err != nil {
		return verdict{}, false, err
	}
	items, err := itemsOf(v)
	if err != nil {
		return verdict{}, false, fmt.Errorf("%s: %w", shorten(c.each.text, maxQuote), err)
	}
	for item := range items {
		if v, ok, err := c.judgeOne(s.within(c.as, item)); ok || err != nil {
			return v, ok, err
		}
	}
	return verdict{}, false, nil
}

func (c *clause) judgeOne(s *scope) (verdict, bool, error) {
	if err := s.spend(1); err != nil {
		return verdict{}, false, err
	}
	if len(c.lets) > 0 {
		s = s.letting(c.lets)
	}
	if c.when != nil {
		if ok, err := c.when.holds(s); !ok || err != nil {
			return verdict{}, false, err
		}
	}
	for _, sub := range c.cases {
		if v, ok, err := sub.judge(s); ok || err != nil {
			return v, ok, err
		}
	}
	if c.health == "" {
		return verdict{}, false, nil
	}
	if c.message == nil {
		return verdict{c.health, c.text}, true, nil
	}
	message, err := c.message.say(s)
	return verdict{c.health, message}, err == nil, err
}

// itemsOf are a list's items, or an object's values in the order of its keys.
func itemsOf(v ref.Val) (func(func(ref.Val) bool), error) {
	switch v := v.(type) {
	case *object:
		return func(yield func(ref.Val) bool) {
			for _, key := range v.keys() {
				if !yield(v.get(key)) {
					return
				}
			}
		}, nil
	case traits.Lister:
		return func(yield func(ref.Val) bool) {
			for it := v.Iterator(); it.HasNext() == types.True; {
				if !yield(it.Next()) {
					return
				}
			}
		}, nil
	}
	return nil, fmt.Errorf("is %s, neither a list nor an object", v.Type().TypeName())
}

// clause compiles a case that may read the names given, and those in it.
func (l *language) clause(spec *caseSpec, names []string) (*clause, error) {
	c := &clause{health: spec.Health, text: spec.Text, as: spec.As}
	var err error
	if spec.Each != "" {
		if c.each, err = l.compile(spec.Each, names); err != nil {
			return nil, fmt.Errorf("each: %w", err)
		}
		if c.as == "" {
			c.as = "it"
		}
		names = also(names, c.as)
	}
	lets := slices.Sorted(maps.Keys(spec.Let))
	names = also(names, lets...)
	for _, name := range lets {
		value, err := l.compile(spec.Let[name], names)
		if err != nil {
			return nil, fmt.Errorf("let %s: %w", name, err)
		}
		c.lets = append(c.lets, &let{name, value})
	}
	if spec.When != "" {
		if c.when, err = l.compile(spec.When, names); err != nil {
			return nil, fmt.Errorf("when: %w", err)
		}
	}
	if spec.Message != "" {
		if c.message, err = l.compile(spec.Message, names); err != nil {
			return nil, fmt.Errorf("message: %w", err)
		}
	}
	for i := range spec.Cases {
		sub, err := l.clause(&spec.Cases[i], names)
		if err != nil {
			return nil, fmt.Errorf("case %d: %w", i+1, err)
		}
		c.cases = append(c.cases, sub)
	}
	return c, nil
}

// also is names and those of more that are not in it.
func also(names []string, more ...string) []string {
	all := slices.Clone(names)
	for _, name := range more {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}
