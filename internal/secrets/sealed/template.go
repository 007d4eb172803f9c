package sealed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// Program is the name of what fills templates in, in a process that may be
// lost, and RunProgram what it does.
const Program = "sealedsecret-templates"

// Fill fills in the templates of a SealedSecret with its values. Errors: *Error
// where a template is at fault.
type Fill func(ctx context.Context, templates map[string]string, values map[string][]byte) (map[string][]byte, error)

// FillBy is Fill where call runs Program in another process.
func FillBy(call func(ctx context.Context, program string, input []byte) ([]byte, error)) Fill {
	return func(ctx context.Context, templates map[string]string, values map[string][]byte) (map[string][]byte, error) {
		input, err := json.Marshal(job{templates, values})
		if err != nil {
			return nil, errors.New("encode the templates")
		}
		output, err := call(ctx, Program, input)
		if err != nil {
			return nil, fmt.Errorf("fill in spec.template.data: %w", err)
		}
		var out outcome
		if err := json.Unmarshal(output, &out); err != nil {
			return nil, errors.New("decode what was filled in")
		}
		if len(out.Problems) > 0 {
			return nil, &Error{out.Problems}
		}
		return out.Filled, nil
	}
}

type job struct {
	Templates map[string]string
	Values    map[string][]byte
}

type outcome struct {
	Filled   map[string][]byte `json:",omitempty"`
	Problems []string          `json:",omitempty"`
}

// RunProgram is Program. What it says is wrong holds nothing of a template or
// a value.
func RunProgram(_ context.Context, input []byte) ([]byte, error) {
	var j job
	if err := json.Unmarshal(input, &j); err != nil {
		return nil, errors.New("decode the templates")
	}
	return json.Marshal(j.fill())
}

func (j *job) fill() outcome {
	functions := sprig.GenericFuncMap()
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		delete(functions, name) // as sealed-secrets does
	}
	data := make(map[string]string, len(j.Values))
	for key, value := range j.Values {
		data[key] = string(value)
	}
	out := outcome{Filled: map[string][]byte{}}
	for _, key := range slices.Sorted(maps.Keys(j.Templates)) {
		var text bytes.Buffer
		t, err := template.New(key).Funcs(functions).Parse(j.Templates[key])
		what := "is no template"
		if err == nil {
			what = "cannot be filled in"
			err = t.Execute(&text, data)
		}
		if err != nil {
			out.Problems = append(out.Problems, fmt.Sprintf("spec.template.data.%s %s", key, what))
			continue
		}
		out.Filled[key] = text.Bytes()
	}
	return out
}
