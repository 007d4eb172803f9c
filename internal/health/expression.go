package health

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

const (
	// maxExpression is the longest expression, in characters.
	maxExpression = 16 << 10
	// maxQuote is how much of an expression a message quotes.
	maxQuote = 120
	// maxCost is what one evaluation of an expression may cost, in CEL's units,
	// and maxTotal what all those for one object may: some hundred milliseconds.
	// The shipped rules
	// cost less than a hundredth of it.
	maxCost  = 200_000
	maxTotal = 500_000
)

// activation are the names in an expression, for the evaluations of one object.
type activation interface {
	cel.Activation
	// spend counts what an evaluation has cost. Its error ends them all.
	spend(cost uint64) error
}

// budget is what has been spent of maxTotal.
type budget struct{ spent uint64 }

func (b *budget) spend(cost uint64) error {
	if b.spent += cost; b.spent > maxTotal {
		return errors.New("the rule costs too much")
	}
	return nil
}

// expression is a compiled CEL expression.
type expression struct {
	program cel.Program
	text    string
}

// eval is the expression's value. Its error is an absentError where the object
// has not what the expression reads, and otherwise the rule's fault.
func (e *expression) eval(names activation) (ref.Val, error) {
	v, details, err := e.program.Eval(names)
	if details != nil && details.ActualCost() != nil {
		if err := names.spend(*details.ActualCost()); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shorten(e.text, maxQuote), err)
	}
	return v, nil
}

// holds is whether the expression is true. It does not hold of an object that
// has not what it reads.
func (e *expression) holds(names activation) (bool, error) {
	v, err := e.eval(names)
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, fmt.Errorf("%s: is %s, not true or false", shorten(e.text, maxQuote), v.Type().TypeName())
	}
	return bool(b), nil
}

// say is the expression's text; nothing where the object has not what it
// reads.
func (e *expression) say(names activation) (string, error) {
	v, err := e.eval(names)
	if isAbsent(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	text, ok := v.(types.String)
	if !ok {
		return "", fmt.Errorf("%s: is %s, not a string", shorten(e.text, maxQuote), v.Type().TypeName())
	}
	return string(text), nil
}

func isAbsent(err error) bool {
	var a *absentError
	return errors.As(err, &a)
}

// language compiles expressions.
type language struct {
	base *cel.Env

	mu sync.Mutex
	// envs know further names, by those names.
	envs map[string]*cel.Env
}

// newLanguage is CEL with its extensions for strings, sets and encodings and
// with optional values, as Flux has it, and with three functions of ours:
//
//	LIST.named(TYPE)          the first condition of the type
//	LIST.named(TYPE, STATUS)  the first of the type and status
//	LIST.sum()                the sum of numbers
func newLanguage() (*language, error) {
	opts := append(functions(),
		cel.CustomTypeAdapter(adapter{}),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.ParserRecursionLimit(64),
	)
	for _, name := range names {
		opts = append(opts, cel.Variable(name, cel.DynType))
	}
	base, err := cel.NewEnv(opts...)
	if err != nil {
		return nil, fmt.Errorf("set up CEL: %w", err)
	}
	return &language{base: base, envs: map[string]*cel.Env{}}, nil
}

// compile checks an expression that may read the names given, beside those of
// every object.
func (l *language) compile(text string, names []string) (*expression, error) {
	env, err := l.knowing(names)
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, issue(text, issues)
	}
	return program(env, ast, text)
}

// parse takes an expression whose names are the object's top-level fields,
// whatever they are, and which therefore cannot be checked before it is
// evaluated.
func (l *language) parse(text string) (*expression, error) {
	ast, issues := l.base.Parse(text)
	if issues.Err() != nil {
		return nil, issue(text, issues)
	}
	return program(l.base, ast, text)
}

func program(env *cel.Env, ast *cel.Ast, text string) (*expression, error) {
	p, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.CostTracking(sizes{}))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shorten(text, maxQuote), err)
	}
	return &expression{program: p, text: text}, nil
}

// issue is the first fault of an expression, in one line.
func issue(text string, issues *cel.Issues) error {
	if errs := issues.Errors(); len(errs) > 0 {
		at := errs[0].Location
		return fmt.Errorf("%s: line %d, column %d: %s", shorten(text, maxQuote), at.Line(), at.Column()+1, errs[0].Message)
	}
	return fmt.Errorf("%s: %w", shorten(text, maxQuote), issues.Err())
}

func (l *language) knowing(names []string) (*cel.Env, error) {
	if len(names) == 0 {
		return l.base, nil
	}
	key := strings.Join(names, " ")
	l.mu.Lock()
	defer l.mu.Unlock()
	if env, ok := l.envs[key]; ok {
		return env, nil
	}
	var opts []cel.EnvOption
	for _, name := range names {
		opts = append(opts, cel.Variable(name, cel.DynType))
	}
	env, err := l.base.Extend(opts...)
	if err != nil {
		return nil, fmt.Errorf("the names %s: %w", key, err)
	}
	l.envs[key] = env
	return env, nil
}

// sizes makes calls cost what they read and write, as CEL's own costs do where
// the types are known beforehand, which they are not here.
type sizes struct{}

var _ cost.ActualCostEstimator = sizes{}

// CallCost implements cost.ActualCostEstimator; nil leaves it to CEL.
func (sizes) CallCost(_, _ string, args []ref.Val, result ref.Val) *uint64 {
	total := size(result)
	for _, arg := range args {
		total += size(arg)
	}
	if total < 100 {
		return nil
	}
	total = 1 + total/10
	return &total
}

func size(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v))
	case traits.Lister:
		if n, ok := v.Size().(types.Int); ok {
			return uint64(n)
		}
	}
	return 0
}

// shorten cuts text to n bytes at most, between characters.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}
