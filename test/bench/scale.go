package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

// fleet is an instance with many small apps, the workload that Flux publishes
// its figures of: an app is a Deployment with 0 replicas, a ServiceAccount, a
// Service and an Ingress, one Kustomization an app, all from one repository.
type fleet struct {
	*bench
	n       int
	dynamic dynamic.Interface
	ready   *readiness
	rows    []row
}

var kustomizationResource = schema.GroupVersionResource{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations"}

const fleetNamespace = "fleet"

// fleets measures each size in an instance of its own.
func (b *bench) fleets(sizes []int) func(context.Context) ([]row, error) {
	return func(ctx context.Context) ([]row, error) {
		var rows []row
		for _, n := range sizes {
			more, err := b.fleet(ctx, n)
			rows = append(rows, more...)
			if err != nil {
				return rows, fmt.Errorf("%d apps: %w", n, err)
			}
		}
		return rows, nil
	}
}

func (b *bench) fleet(ctx context.Context, n int) ([]row, error) {
	own := *b
	own.data = filepath.Join(b.dir, fmt.Sprintf("fleet-%d", n))
	own.work = filepath.Join(b.dir, fmt.Sprintf("fleet-%d-work", n), "app")
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
	f := &fleet{bench: &own, n: n}
	for _, step := range []func(context.Context) error{f.prepare, f.install, f.one, f.none, f.heal, f.all, f.restart} {
		if err := step(ctx); err != nil {
			return f.rows, err
		}
	}
	return f.rows, nil
}

// prepare pushes the repository and makes its GitRepository, which is not
// measured.
func (f *fleet) prepare(ctx context.Context) error {
	kubeconfig := filepath.Join(f.data, "kubeconfig")
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	if f.dynamic, err = dynamic.NewForConfig(cfg); err != nil {
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
	repo := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
		"metadata": map[string]any{"name": "fleet", "namespace": fleetNamespace},
		"spec":     map[string]any{"interval": "60m", "url": f.base + "/git/fleet.git", "ref": map[string]any{"branch": "main"}},
	}}
	grant := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"fleet-reads","namespace":"default"},` +
		`"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"fairway-reader"},` +
		`"subjects":[{"kind":"ServiceAccount","name":"default","namespace":"` + fleetNamespace + `"}]}`
	if err := os.WriteFile(filepath.Join(f.dir, "grant.json"), []byte(grant), 0o600); err != nil {
		return err
	}
	if _, err := f.fairway(ctx, "kubectl", "apply", "-f", filepath.Join(f.dir, "grant.json")); err != nil {
		return err
	}
	repos := f.dynamic.Resource(schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "gitrepositories"})
	if _, err := repos.Namespace(fleetNamespace).Create(ctx, repo, metav1.CreateOptions{}); err != nil {
		return err
	}
	return f.eventually(ctx, "the GitRepository is ready", func() (bool, error) {
		u, err := repos.Namespace(fleetNamespace).Get(ctx, "fleet", metav1.GetOptions{})
		return err == nil && isReady(u), err
	})
}

func appName(i int) string { return fmt.Sprintf("app-%04d", i) }

// writeApp writes the manifests of an app into the work tree.
func (f *fleet) writeApp(i int, value string) error {
	dir := filepath.Join(f.work, "apps", appName(i))
	if err := os.MkdirAll(dir, fs.ModePerm); err != nil {
		return err
	}
	manifest := strings.NewReplacer("NAME", appName(i), "VALUE", value).Replace(appManifests)
	return os.WriteFile(filepath.Join(dir, "app.yaml"), []byte(manifest), 0o644)
}

const appManifests = `apiVersion: v1
kind: ServiceAccount
metadata:
  name: NAME
---
apiVersion: v1
kind: Service
metadata:
  name: NAME
spec:
  selector:
    app: NAME
  ports:
  - name: http
    port: 80
    targetPort: 8080
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: NAME
spec:
  rules:
  - host: NAME.example.com
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: NAME
            port:
              name: http
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: NAME
  annotations:
    example.com/value: VALUE
spec:
  replicas: 0
  selector:
    matchLabels:
      app: NAME
  template:
    metadata:
      labels:
        app: NAME
    spec:
      serviceAccountName: NAME
      containers:
      - name: app
        image: app:v1
        ports:
        - containerPort: 8080
`

// install makes all Kustomizations, and measures until all are ready.
func (f *fleet) install(ctx context.Context) error {
	kustomizations := f.dynamic.Resource(kustomizationResource).Namespace(fleetNamespace)
	var err error
	if f.ready, err = watchReadiness(ctx, kustomizations); err != nil {
		return err
	}
	return f.measure(ctx, "install until all are ready", func() (time.Time, error) {
		var g errgroup.Group
		g.SetLimit(16)
		for i := range f.n {
			g.Go(func() error {
				_, err := kustomizations.Create(ctx, f.kustomization(i), metav1.CreateOptions{})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return time.Time{}, err
		}
		return f.ready.all(ctx, f.n)
	})
}

func (f *fleet) kustomization(i int) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
		"metadata": map[string]any{"name": appName(i), "namespace": fleetNamespace},
		"spec": map[string]any{
			"interval": "60m", "prune": true, "wait": true, "timeout": "5m", "targetNamespace": fleetNamespace, "path": "./apps/" + appName(i),
			"sourceRef": map[string]any{"kind": "GitRepository", "name": "fleet"},
		},
	}}
}

// one measures a commit that changes one app, until the live object changed.
func (f *fleet) one(ctx context.Context) error {
	return f.measure(ctx, "a commit that changes one", func() (time.Time, error) {
		if err := f.writeApp(f.n/2, "one"); err != nil {
			return time.Time{}, err
		}
		return f.pushUntil(ctx, "one", 1)
	})
}

// all measures a commit that changes all.
func (f *fleet) all(ctx context.Context) error {
	return f.measure(ctx, "a commit that changes all", func() (time.Time, error) {
		for i := range f.n {
			if err := f.writeApp(i, "all"); err != nil {
				return time.Time{}, err
			}
		}
		return f.pushUntil(ctx, "all", f.n)
	})
}

// none measures what a commit costs that changes nothing of any app.
func (f *fleet) none(ctx context.Context) error {
	return f.measure(ctx, "a commit that changes none", func() (time.Time, error) {
		if err := os.WriteFile(filepath.Join(f.work, "README.md"), []byte("none\n"), 0o644); err != nil {
			return time.Time{}, err
		}
		return time.Now(), f.commitAndPush(ctx, "none")
	})
}

func (f *fleet) commitAndPush(ctx context.Context, message string) error {
	for _, args := range [][]string{{"add", "-A"}, {"commit", "-qm", message}, {"push", "-q", "origin", "main"}} {
		if err := f.git(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// pushUntil pushes and waits until that many live Deployments have the value.
func (f *fleet) pushUntil(ctx context.Context, value string, n int) (time.Time, error) {
	list, err := f.client.AppsV1().Deployments(fleetNamespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return time.Time{}, err
	}
	w, err := f.client.AppsV1().Deployments(fleetNamespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return time.Time{}, err
	}
	defer w.Stop()
	if err := f.commitAndPush(ctx, value); err != nil {
		return time.Time{}, err
	}
	seen := map[string]bool{}
	_, err = until(ctx, w, time.Now(), func(e watch.Event) bool {
		if d, ok := e.Object.(*appsv1.Deployment); ok && d.Annotations["example.com/value"] == value {
			seen[d.Name] = true
		}
		return len(seen) == n
	})
	return time.Now(), err
}

// heal measures drift until healed, among so many apps.
func (f *fleet) heal(ctx context.Context) error {
	deployments := f.client.AppsV1().Deployments(fleetNamespace)
	name := appName(f.n / 3)
	return f.measure(ctx, "drift until healed", func() (time.Time, error) {
		w, err := deployments.Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: name}))
		if err != nil {
			return time.Time{}, err
		}
		defer w.Stop()
		patch := []byte(`{"metadata":{"annotations":{"example.com/value":"by-hand"}}}`)
		if _, err := deployments.Patch(ctx, name, "application/merge-patch+json", patch, metav1.PatchOptions{FieldManager: "kubectl"}); err != nil {
			return time.Time{}, err
		}
		seen := false
		_, err = until(ctx, w, time.Now(), func(e watch.Event) bool {
			d, ok := e.Object.(*appsv1.Deployment)
			byHand := ok && d.Annotations["example.com/value"] == "by-hand"
			seen = seen || byHand
			return seen && ok && !byHand
		})
		return time.Now(), err
	})
}

// restart measures what a restart with everything in sync costs; it should
// write nothing.
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
	u := treeUsage(f.pid, f.cluster)
	r := summarize(f.label("a restart, until calm"), []time.Duration{time.Since(began) - calmFor}, u.cpu, 0, 0)
	r.Note = u.memory().String()
	f.rows = append(f.rows, r)
	return nil
}

func (f *fleet) label(what string) string { return fmt.Sprintf("%d apps: %s", f.n, what) }

// measure runs what ends at the time that it returns, and counts the CPU and
// the API server's writes until nothing goes on any more.
func (f *fleet) measure(ctx context.Context, what string, do func() (time.Time, error)) error {
	if err := f.calm(ctx); err != nil {
		return err
	}
	before, api, writes := treeUsage(f.pid, f.cluster), treeUsage(f.cluster), f.writes(ctx)
	began := time.Now()
	at, err := do()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := f.calm(ctx); err != nil {
		return err
	}
	after := treeUsage(f.pid, f.cluster)
	r := summarize(f.label(what), []time.Duration{at.Sub(began)}, after.cpu-before.cpu, 0, 0)
	r.Note = fmt.Sprintf("%s; cluster %.2f CPU s, %d writes", after.memory(), treeUsage(f.cluster).cpu-api.cpu, f.writes(ctx)-writes)
	f.rows = append(f.rows, r)
	fmt.Fprintf(os.Stderr, "  %s: %.3f s, %.3f CPU s, %s\n", r.Name, r.P50, r.CPU, r.Note)
	return nil
}

// calmFor is how long nothing must go on for it to be calm.
const calmFor = 2 * time.Second

// calm waits until our processes do nothing.
func (f *fleet) calm(ctx context.Context) error {
	quiet, last := time.Now(), treeUsage(f.pid, f.cluster).cpu
	return f.eventually(ctx, "calm", func() (bool, error) {
		if now := treeUsage(f.pid, f.cluster).cpu; now-last > 0.015 {
			quiet, last = time.Now(), now
		}
		return time.Since(quiet) > calmFor, nil
	})
}

// eventually asks until it is so.
func (f *fleet) eventually(ctx context.Context, what string, done func() (bool, error)) error {
	deadline := time.Now().Add(20 * time.Minute)
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
