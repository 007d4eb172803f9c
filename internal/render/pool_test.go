package render_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// TestMain makes the test program a render worker where a pool starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == render.WorkerCommand {
		if err := render.ServeWorker(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func newPool(t testing.TB, opts render.PoolOptions) *render.Pool {
	t.Helper()
	pool := render.NewPool(opts)
	t.Cleanup(pool.Close)
	return pool
}

func BenchmarkKustomize(b *testing.B) {
	tree := memtree.New(overlayFiles())
	for name, r := range map[string]render.Renderer{
		"engine": render.NewEngine(render.Limits{}),
		"pool":   newPool(b, render.PoolOptions{Workers: 1}),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Render(context.Background(), render.Request{Tree: tree, Path: "over"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHelm(b *testing.B) {
	tree, err := memtree.Load("testdata/charts/web")
	if err != nil {
		b.Fatal(err)
	}
	for name, r := range map[string]render.Renderer{
		"engine": render.NewEngine(render.Limits{}),
		"pool":   newPool(b, render.PoolOptions{Workers: 1}),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := r.Render(context.Background(), render.Request{Tree: tree, Path: ".", Helm: render.HelmOptions{KubeVersion: kubeVersion}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestPoolIsolation(t *testing.T) {
	pool := newPool(t, render.PoolOptions{Workers: 1})
	if _, err := pool.Render(context.Background(), render.Request{Tree: memtree.New(overlayFiles()), Path: "over"}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", pool.Isolation())
}
