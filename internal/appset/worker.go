package appset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// Program is the name of the program that fills in templates, and RunProgram
// what it does: a Job comes in, in JSON, and the filled values go out.
const Program = "applicationset-templates"

// Worker fills in templates where call runs Program: in a process that may be
// lost. What call returns besides is the error of Fill.
type Worker func(ctx context.Context, program string, input []byte) ([]byte, error)

var _ Templates = Worker(nil)

// filled is what the program returns.
type filled struct {
	Values []any `json:"values,omitempty"`
	// Error is of a template that is wrong.
	Error string `json:"error,omitempty"`
}

// Fill implements Templates.
func (w Worker) Fill(ctx context.Context, job Job) ([]any, error) {
	input, err := json.Marshal(job)
	if err != nil {
		return nil, fmt.Errorf("encode the template: %w", err)
	}
	output, err := w(ctx, Program, input)
	if err != nil {
		return nil, fmt.Errorf("fill in %s: %w", job.At, err)
	}
	out := map[string]any{} // whose whole numbers are decoded as such
	if err := utiljson.Unmarshal(output, &out); err != nil {
		return nil, fmt.Errorf("decode what was filled in: %w", err)
	}
	if problem, _ := out["error"].(string); problem != "" {
		return nil, &TemplateError{errors.New(problem)}
	}
	values, _ := out["values"].([]any)
	return values, nil
}

// RunProgram is Program.
func RunProgram(ctx context.Context, input []byte) ([]byte, error) {
	var job Job
	if err := json.Unmarshal(input, &job); err != nil {
		return nil, fmt.Errorf("decode the template: %w", err)
	}
	var out filled
	values, err := Direct{}.Fill(ctx, job)
	var wrong *TemplateError
	switch {
	case errors.As(err, &wrong):
		out.Error = wrong.Error()
	case err != nil:
		return nil, err
	default:
		out.Values = values
	}
	return json.Marshal(out)
}
