package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/clientcmd"
)

// fleet is an instance with many small apps.
type fleet struct {
	*bench
	workload
	n        int
	dynamic  dynamic.Interface
	metadata metadata.Interface
	ready    *readiness
	rows     []row
	// kubeconfig is the cluster's, usage what is measured has used, pushed is
	// called after each push.
	kubeconfig string
	usage      func() usage
	pushed     func(context.Context) error
	// peak is the most memory that a measurement has seen while it went on.
	peak int64
}

// fleetNamespace is where the objects of all apps are.
const fleetNamespace = "fleet"

// fleets measures each size in an instance of its own.
func (b *bench) fleets(w workload, sizes []int) func(context.Context) ([]row, error) {
	return func(ctx context.Context) ([]row, error) {
		var rows []row
		for _, n := range sizes {
			more, err := b.fleet(ctx, w, n, func(f *fleet) []step {
				return []step{f.prepare, f.install, f.one, f.none, f.heal, f.storm, f.all, f.restart}
			})
			rows = append(rows, more...)
			if err != nil {
				return rows, fmt.Errorf("%d apps: %w", n, err)
			}
		}
		return rows, nil
	}
}

// step is one thing that is measured of a fleet, in the order of the list.
type step func(context.Context) error

func (b *bench) fleet(ctx context.Context, w workload, n int, steps func(*fleet) []step) ([]row, error) {
	own := *b
	own.data = filepath.Join(b.dir, fmt.Sprintf("%s-%d", w.name, n))
	own.work = filepath.Join(b.dir, fmt.Sprintf("%s-%d-work", w.name, n), "app")
	own.env = append(slices.Clone(b.env), "FAIRWAY_DATA="+own.data)
	defer func() {
		_, _ = own.fairway(context.Background(), "down")
		os.RemoveAll(own.data)
	}()
	if _, err := own.fairway(ctx, "up", "--nodes", "kwok", "--port", own.freePort()); err != nil {
		return nil, err
	}
	if err := own.connect(ctx); err != nil {
		return nil, err
	}
	f := &fleet{bench: &own, workload: w, n: n, kubeconfig: filepath.Join(own.data, "kubeconfig")}
	f.usage = func() usage { return treeUsage(f.pid, f.cluster) }
	f.pushed = func(context.Context) error { return nil }
	return f.run(ctx, steps(f))
}

// run does the steps until one fails.
func (f *fleet) run(ctx context.Context, steps []step) ([]row, error) {
	for _, do := range steps {
		if err := do(ctx); err != nil {
			return f.rows, err
		}
	}
	return f.rows, nil
}

// prepare pushes the repository and makes what the apps need, which is not
// measured.
func (f *fleet) prepare(ctx context.Context) error {
	cfg, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	if f.dynamic, err = dynamic.NewForConfig(cfg); err != nil {
		return err
	}
	if f.metadata, err = metadata.NewForConfig(cfg); err != nil {
		return err
	}
	for i := range f.n {
		if err := f.writeApp(i, "first"); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "origin", f.gitURL + "/fleet.git"},
		{"add", "-A"}, {"commit", "-qm", "first"}, {"push", "-q", "origin", "main"}} {
		if err := f.git(ctx, args...); err != nil {
			return err
		}
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fleetNamespace}}
	if _, err := f.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return err
	}
	return f.workload.prepare(ctx, f)
}

// install makes all deliveries, and measures until all are ready.
func (f *fleet) install(ctx context.Context) error {
	deliveries := f.dynamic.Resource(f.resource).Namespace(f.namespace)
	var err error
	if f.ready, err = watchReadiness(ctx, deliveries, f.isReady); err != nil {
		return err
	}
	return f.measure(ctx, stepInstall, 1, func(int) (time.Duration, error) {
		began := time.Now()
		var g errgroup.Group
		g.SetLimit(16)
		for i := range f.n {
			g.Go(func() error {
				_, err := deliveries.Create(ctx, f.delivery(f, i), metav1.CreateOptions{})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return 0, err
		}
		at, err := f.ready.all(ctx, f.n)
		return at.Sub(began), err
	})
}

// one measures a commit that changes one app, until the live object changed.
func (f *fleet) one(ctx context.Context) error {
	return f.measure(ctx, stepOne, fewTries, func(try int) (time.Duration, error) {
		value := fmt.Sprintf("one-%d", try)
		if err := f.writeApp(f.n/2, value); err != nil {
			return 0, err
		}
		return f.pushUntil(ctx, value, 1)
	})
}

// all measures a commit that changes all.
func (f *fleet) all(ctx context.Context) error {
	return f.measure(ctx, stepAll, 1, func(int) (time.Duration, error) {
		for i := range f.n {
			if err := f.writeApp(i, "all"); err != nil {
				return 0, err
			}
		}
		return f.pushUntil(ctx, "all", f.n)
	})
}

// none measures what a commit costs that changes nothing of any app.
func (f *fleet) none(ctx context.Context) error {
	return f.measure(ctx, stepNone, fewTries, func(try int) (time.Duration, error) {
		readme := filepath.Join(f.work, "README.md")
		if err := os.WriteFile(readme, fmt.Appendf(nil, "none %d\n", try), 0o644); err != nil {
			return 0, err
		}
		if err := f.commit(ctx, "none"); err != nil {
			return 0, err
		}
		began := time.Now()
		err := f.push(ctx)
		return time.Since(began), err
	})
}

func (f *fleet) commit(ctx context.Context, message string) error {
	if err := f.git(ctx, "add", "-A"); err != nil {
		return err
	}
	return f.git(ctx, "commit", "-qm", message)
}

func (f *fleet) push(ctx context.Context) error {
	if err := f.git(ctx, "push", "-q", "origin", "main"); err != nil {
		return err
	}
	return f.pushed(ctx)
}

// pushUntil pushes and waits until that many live objects have the value.
func (f *fleet) pushUntil(ctx context.Context, value string, n int) (time.Duration, error) {
	if err := f.commit(ctx, value); err != nil {
		return 0, err
	}
	w, err := f.watchLive(ctx)
	if err != nil {
		return 0, err
	}
	defer w.Stop()
	began := time.Now()
	if err := f.push(ctx); err != nil {
		return 0, err
	}
	seen := map[string]bool{}
	return f.until(ctx, w, began, func(e watch.Event) bool {
		if name, v := valueOf(e.Object); v == value {
			seen[name] = true
		}
		return len(seen) == n
	})
}

// heal measures drift until healed, among so many apps.
func (f *fleet) heal(ctx context.Context) error {
	return f.measure(ctx, stepHeal, fewTries, func(try int) (time.Duration, error) {
		name := appName((f.n/3 + try) % f.n)
		w, err := f.watchLive(ctx)
		if err != nil {
			return 0, err
		}
		defer w.Stop()
		began := time.Now()
		if err := f.drift(ctx, name); err != nil {
			return 0, err
		}
		seen := false
		return f.until(ctx, w, began, func(e watch.Event) bool {
			n, v := valueOf(e.Object)
			seen = seen || n == name && v == byHand
			return seen && n == name && v != byHand
		})
	})
}

// restart measures what a restart with everything in sync costs, and what it
// writes to objects of ours, which should be nothing.
func (f *fleet) restart(ctx context.Context) error {
	if _, err := f.fairway(ctx, "down"); err != nil {
		return err
	}
	if _, err := f.fairway(ctx, "up"); err != nil {
		return err
	}
	if err := f.connect(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := f.calm(ctx); err != nil {
		return err
	}
	took := time.Since(began) - calmFor
	time.Sleep(restFor)
	u := f.usage()
	f.add(stepRestart, []time.Duration{took}, u, u.cpu, treeUsage(f.cluster).cpu, f.writes(ctx, f.kinds...))
	return nil
}

// The steps, as rows are named.
const (
	stepInstall = "install until all are ready"
	stepOne     = "a commit that changes one"
	stepNone    = "a commit that changes none"
	stepHeal    = "drift until healed"
	stepAll     = "a commit that changes all"
	stepRestart = "a restart, until calm"
	// fewTries is how often what is short is measured, and restFor how long our
	// processes have nothing to do, after what is measured once, before their
	// memory is read.
	fewTries = 5
	restFor  = 20 * time.Second
)

// measure does it as often as asked, and counts the CPU and the API server's
// writes until nothing goes on any more.
func (f *fleet) measure(ctx context.Context, what string, tries int, do func(try int) (time.Duration, error)) error {
	if err := f.calm(ctx); err != nil {
		return err
	}
	before, api, writes := f.usage(), treeUsage(f.cluster), f.writes(ctx)
	stop := f.watchMemory()
	var all []time.Duration
	for try := range tries {
		took, err := do(try)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, took)
		if err := f.calm(ctx); err != nil {
			return err
		}
	}
	stop()
	if tries == 1 {
		time.Sleep(restFor)
	}
	after := f.usage()
	f.add(what, all, after, after.cpu-before.cpu, treeUsage(f.cluster).cpu-api.cpu, f.writes(ctx)-writes)
	return nil
}

// add adds a row. What was used is of all tries.
func (f *fleet) add(what string, all []time.Duration, now usage, cpu, cluster float64, writes int) {
	r := summarize(fmt.Sprintf("%d %s: %s", f.n, f.noun, what), all, cpu, 0, 0)
	r.Apps, r.Step, r.Workload = f.n, what, f.name
	r.ClusterCPU, r.Writes = cluster/float64(len(all)), float64(writes)/float64(len(all))
	r.Memory, r.Peak = now.memory().shared, f.peak
	r.Note = fmt.Sprintf("%s, at most %d; cluster %.2f CPU s, %.0f writes", now.memory(), f.peak>>20, r.ClusterCPU, r.Writes)
	f.peak = 0
	f.rows = append(f.rows, r)
	fmt.Fprintf(os.Stderr, "  %s: %.3f s, %.3f CPU s, %s\n", r.Name, r.P50, r.CPU, r.Note)
}

// watchMemory notes the most memory until it is stopped, once a second: to
// look costs the kernel a while of its own.
func (f *fleet) watchMemory() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			f.peak = max(f.peak, f.usage().memory().shared)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// calmFor is how long nothing must go on for it to be calm.
const calmFor = 2 * time.Second

// calm waits until our processes do nothing.
func (f *fleet) calm(ctx context.Context) error {
	quiet, last := time.Now(), f.usage().cpu
	return f.eventually(ctx, "calm", func() (bool, error) {
		if now := f.usage().cpu; now-last > 0.015 {
			quiet, last = time.Now(), now
		}
		return time.Since(quiet) > calmFor, nil
	})
}

// eventually asks until it is so.
func (f *fleet) eventually(ctx context.Context, what string, done func() (bool, error)) error {
	deadline := time.Now().Add(40 * time.Minute)
	for time.Now().Before(deadline) {
		ok, err := done()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("it did not come to this: %s", what)
}
