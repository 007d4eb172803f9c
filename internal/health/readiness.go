package health

import (
	"fmt"
	"sync"
)

// Readiness judges whether one object is ready for another, by expressions of
// users: dependsOn[].readyExpr of Flux' kinds, in which self is who depends and
// dep what it depends on. It is safe for concurrent use.
type Readiness struct {
	language *language

	mu sync.Mutex
	by map[string]*expression
}

// maxReadiness bounds the expressions that are kept; beyond, all are compiled
// anew.
const maxReadiness = 1000

// NewReadiness has the language of health rules.
func NewReadiness() (*Readiness, error) {
	l, err := newLanguage()
	if err != nil {
		return nil, err
	}
	return &Readiness{language: l, by: map[string]*expression{}}, nil
}

// Check says what is wrong with an expression.
func (r *Readiness) Check(text string) error {
	_, err := r.compiled(text)
	return err
}

// Holds evaluates the expression. What it reads and one of the objects has not
// makes it false; an error is the expression's fault.
func (r *Readiness) Holds(text string, self, dep map[string]any) (bool, error) {
	e, err := r.compiled(text)
	if err != nil {
		return false, err
	}
	return e.holds(newScope(self).within("dep", adapter{}.NativeToValue(dep)))
}

func (r *Readiness) compiled(text string) (*expression, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.by[text]; e != nil {
		return e, nil
	}
	if len(text) > maxExpression {
		return nil, fmt.Errorf("the expression is longer than %d characters", maxExpression)
	}
	e, err := r.language.compile(text, []string{"dep"})
	if err != nil {
		return nil, err
	}
	if len(r.by) >= maxReadiness {
		r.by = map[string]*expression{}
	}
	r.by[text] = e
	return e, nil
}
