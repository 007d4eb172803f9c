package render_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/render"
)

// programs are what the test's workers run beside renders.
var programs = []render.Program{
	{Name: "upper", Run: func(_ context.Context, in []byte) ([]byte, error) { return bytes.ToUpper(in), nil }},
	{Name: "fail", Run: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("it cannot be done") }},
	{Name: "loop", Run: func(context.Context, []byte) ([]byte, error) {
		for { //nolint:staticcheck // it is to have no end
		}
	}},
}

// TestPoolCalls runs programs in a worker, beside renders.
func TestPoolCalls(t *testing.T) {
	pool := newPool(t, render.PoolOptions{Workers: 1, Timeout: 2 * time.Second})
	for range 2 {
		if out, err := pool.Call(t.Context(), "upper", []byte("abc")); err != nil || string(out) != "ABC" {
			t.Errorf("upper: %q, %v", out, err)
		}
		if _, err := pool.Call(t.Context(), "fail", nil); err == nil || !strings.Contains(err.Error(), "it cannot be done") {
			t.Errorf("fail: %v", err)
		}
		if _, err := pool.Call(t.Context(), "nobody", nil); err == nil {
			t.Error("an unknown program returned")
		}
		if _, err := pool.Call(t.Context(), "loop", nil); reasonOf(err) != string(render.LimitExceeded) {
			t.Errorf("loop: %v", err)
		}
	}
}
