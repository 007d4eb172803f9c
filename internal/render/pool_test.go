package render_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// TestMain makes the test program a render worker where a pool starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == render.WorkerCommand {
		if err := render.ServeWorker(context.Background(), os.Stdin, os.Stdout, programs...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == probeCommand {
		os.Exit(probe())
	}
	os.Exit(m.Run())
}

const probeCommand = "sandbox-probe"

// probe restricts its process and tries what must fail. It returns 0 where all
// of it does.
func probe() int {
	if err := render.RestrictCalls(); err != nil {
		fmt.Println("no filter:", err)
		return probeNoFilter
	}
	failed := 0
	for name, try := range map[string]func() error{
		"open a file": func() error { _, err := os.ReadFile("/etc/passwd"); return err },
		"make a file": func() error { return os.WriteFile(os.DevNull, nil, 0o600) },
		"list":        func() error { _, err := os.ReadDir("/"); return err },
		"dial":        func() error { _, err := net.Dial("tcp", "127.0.0.1:1"); return err },
		"unix socket": func() error { _, err := net.Listen("unix", "@fairway-probe"); return err },
		"exec":        func() error { return exec.Command("/bin/true").Run() },
		"become it":   func() error { return syscall.Exec("/bin/true", nil, nil) },
	} {
		if err := try(); !errors.Is(err, syscall.EACCES) {
			fmt.Println(name, "is not refused:", err)
			failed = 1
		}
	}
	return failed
}

const probeNoFilter = 77

func TestRestrictedProcess(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, probeCommand)
	out, err := cmd.CombinedOutput()
	filtered := runtime.GOOS == "linux" && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64")
	if cmd.ProcessState.ExitCode() == probeNoFilter && !filtered {
		t.Skipf("there is no filter for this platform: %s", out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
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
	isolation := pool.Isolation()
	t.Logf("%+v", isolation)
	if os.Geteuid() == 0 && runtime.GOOS == "linux" && !isolation.Network {
		// A container may forbid namespaces; then the filter of calls must hold.
		if !isolation.Seccomp {
			t.Error("neither a network namespace nor a filter of system calls")
		}
	}
}

func BenchmarkCachedHit(b *testing.B) {
	cached, _ := newCached(b, b.TempDir(), render.CacheLimits{})
	req := render.Request{Tree: memtree.New(overlayFiles()), Path: "over"}
	mustRender(b, cached, req)
	for b.Loop() {
		if !mustRender(b, cached, req).Cached {
			b.Fatal("it rendered")
		}
	}
}

// Of many workers that a burst needed, one stays when there is nothing to do.
func TestPoolEndsIdleWorkers(t *testing.T) {
	before := children(t)
	pool := newPool(t, render.PoolOptions{Workers: 3, MaxIdle: 100 * time.Millisecond})
	go func() { _ = pool.Run(t.Context()) }()
	tree := memtree.New(overlayFiles())
	var burst sync.WaitGroup
	for range 12 {
		burst.Go(func() {
			if _, err := pool.Render(t.Context(), render.Request{Tree: tree, Path: "over"}); err != nil {
				t.Error(err)
			}
		})
	}
	burst.Wait()
	testkit.Eventually(t, "one worker", func() error {
		if n := children(t) - before; n != 1 {
			return fmt.Errorf("%d workers live, want 1", n)
		}
		return nil
	})
	if _, err := pool.Render(t.Context(), render.Request{Tree: tree, Path: "over"}); err != nil {
		t.Error(err)
	}
}

// children are the processes that this one has started.
func children(t *testing.T) int {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		n += len(strings.Fields(string(data)))
	}
	return n
}
