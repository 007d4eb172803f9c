package appset

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/valyala/fasttemplate"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/fairway-cd/fairway/internal/core"
)

// Templates fills in templates. They are programs that somebody else has
// written: where they run is up to the implementation. Implementations are
// safe for concurrent use.
type Templates interface {
	// Fill returns the job's value once for each set of parameters. The error
	// is a *TemplateError where the template is wrong.
	Fill(ctx context.Context, job Job) ([]any, error)
}

// Job is a value of JSON whose strings, keys too, are templates.
type Job struct {
	// At is where the value is in the spec, for errors.
	At     string   `json:"at"`
	Value  any      `json:"value"`
	Params []Params `json:"params"`
	// Go has the strings be Go templates, with Options; otherwise {{NAME}} is
	// replaced, and stays where there is no such parameter.
	Go      bool     `json:"go,omitempty"`
	Options []string `json:"options,omitempty"`
}

// The limits of one job.
const (
	maxString  = 1 << 20  // of one string that comes out
	maxStrings = 64 << 20 // of all that come out
	maxDepth   = 100      // of the value
)

// fill fills in a value of the set.
func (g *generation) fill(ctx context.Context, at string, value any, params []Params) ([]any, error) {
	if len(params) == 0 {
		return nil, nil
	}
	out, err := g.templates.Fill(ctx, Job{At: at, Value: value, Params: params, Go: g.set.Spec.GoTemplate, Options: g.set.Spec.GoTemplateOptions})
	if err == nil && len(out) != len(params) {
		err = fmt.Errorf("filling in %s gave %d values for %d sets of parameters", at, len(out), len(params))
	}
	return out, err
}

// Direct fills in templates in this process. It bounds what comes out, and
// ends with ctx wherever a template writes; a template that does neither goes
// on: for templates of others there is Worker.
type Direct struct{}

var _ Templates = Direct{}

// Fill implements Templates.
func (Direct) Fill(ctx context.Context, job Job) ([]any, error) {
	// The value's numbers are to be whole where they are.
	data, err := json.Marshal(job.Value)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", job.At, err)
	}
	var value any
	if err := utiljson.Unmarshal(data, &value); err != nil {
		return nil, fmt.Errorf("decode %s: %w", job.At, err)
	}
	c := compiler{job: job}
	fill, err := c.compile(value, job.At, 0)
	if err != nil {
		return nil, &TemplateError{err}
	}
	r := &filling{ctx: ctx}
	out := make([]any, len(job.Params))
	for i, params := range job.Params {
		r.params = params
		if out[i], err = fill(r); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, &TemplateError{err}
		}
	}
	return out, nil
}

// filling is one job's run. It is the writer of its templates.
type filling struct {
	ctx    context.Context
	params Params
	text   strings.Builder
	all    int
}

// Write implements io.Writer within the limits.
func (f *filling) Write(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	if n := f.text.Len() + len(p); n > maxString {
		return 0, &core.TooLargeError{What: "what a template makes", Size: int64(n), Limit: maxString}
	}
	if f.all += len(p); f.all > maxStrings {
		return 0, &core.TooLargeError{What: "what the templates make together", Size: int64(f.all), Limit: maxStrings}
	}
	return f.text.Write(p)
}

// filler makes a value of the run's parameters.
type filler func(*filling) (any, error)

// compiler makes a filler of a value, once for all sets of parameters.
type compiler struct{ job Job }

func (c *compiler) compile(value any, at string, depth int) (filler, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: nested more than %d deep", at, maxDepth)
	}
	switch v := value.(type) {
	case string:
		return c.text(v, at)
	case []any:
		return c.list(v, at, depth)
	case map[string]any:
		return c.object(v, at, depth)
	}
	return func(*filling) (any, error) { return value, nil }, nil
}

func (c *compiler) list(list []any, at string, depth int) (filler, error) {
	items := make([]filler, len(list))
	for i, item := range list {
		var err error
		if items[i], err = c.compile(item, at+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
			return nil, err
		}
	}
	return func(r *filling) (any, error) {
		out := make([]any, len(items))
		for i, item := range items {
			var err error
			if out[i], err = item(r); err != nil {
				return nil, err
			}
		}
		return out, nil
	}, nil
}

func (c *compiler) object(object map[string]any, at string, depth int) (filler, error) {
	type field struct{ key, value filler }
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names) // so that the same template fails with the same error
	fields := make([]field, len(names))
	for i, name := range names {
		key, err := c.text(name, at)
		if err != nil {
			return nil, err
		}
		value, err := c.compile(object[name], strings.TrimPrefix(at+"."+name, "."), depth+1)
		if err != nil {
			return nil, err
		}
		fields[i] = field{key, value}
	}
	return func(r *filling) (any, error) {
		out := make(map[string]any, len(fields))
		for _, f := range fields {
			key, err := f.key(r)
			if err != nil {
				return nil, err
			}
			value, err := f.value(r)
			if err != nil {
				return nil, err
			}
			if _, twice := out[key.(string)]; twice {
				return nil, fmt.Errorf("%s has two fields %q", at, key)
			}
			out[key.(string)] = value
		}
		return out, nil
	}, nil
}

// text makes a filler of a string. Its values are strings.
func (c *compiler) text(s, at string) (filler, error) {
	if !strings.Contains(s, "{{") {
		return func(*filling) (any, error) { return s, nil }, nil
	}
	if c.job.Go {
		return c.goText(s, at)
	}
	t, err := fasttemplate.NewTemplate(s, "{{", "}}")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at, err)
	}
	return func(r *filling) (any, error) {
		r.text.Reset()
		_, err := t.ExecuteFunc(r, func(w io.Writer, tag string) (int, error) {
			value, ok := r.params[strings.TrimSpace(tag)].(string)
			if !ok {
				return io.WriteString(w, "{{"+tag+"}}")
			}
			return io.WriteString(w, value)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		return r.text.String(), nil
	}, nil
}

// goText makes a filler of a Go template, whose errors name at.
func (c *compiler) goText(s, at string) (filler, error) {
	t, err := template.New(at).Funcs(funcs()).Option(c.job.Options...).Parse(s)
	if err != nil {
		return nil, err
	}
	return func(r *filling) (any, error) {
		r.text.Reset()
		if err := t.Execute(r, r.params); err != nil {
			return nil, err
		}
		return r.text.String(), nil
	}, nil
}
