package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// bench has the instance that is measured.
type bench struct {
	bin, dir, data string
	tries          int
	env            []string
	version        string
	gitURL, base   string
	pid, cluster   int
	client         *kubernetes.Clientset
	work           string
}

func newBench(bin string, tries int) (*bench, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "fairway-bench-")
	if err != nil {
		return nil, err
	}
	env := append(os.Environ(), "HOME="+dir, "FAIRWAY_DATA="+filepath.Join(dir, "data"), "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=bench", "GIT_AUTHOR_EMAIL=bench@example.com",
		"GIT_COMMITTER_NAME=bench", "GIT_COMMITTER_EMAIL=bench@example.com", "KUBECONFIG=")
	return &bench{bin: bin, dir: dir, data: filepath.Join(dir, "data"), tries: tries, env: env, work: filepath.Join(dir, "work")}, nil
}

func (b *bench) close() {
	_, _ = b.exec(context.Background(), "", b.bin, "down")
	os.RemoveAll(b.dir)
}

func (b *bench) exec(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, b.env
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s%s", name, strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func (b *bench) fairway(ctx context.Context, args ...string) (string, error) {
	return b.exec(ctx, "", b.bin, args...)
}

func (b *bench) git(ctx context.Context, args ...string) error {
	_, err := b.exec(ctx, b.work, "git", args...)
	return err
}

// connect reads where the instance is.
func (b *bench) connect(ctx context.Context) error {
	out, err := b.fairway(ctx, "status", "-o", "json")
	if err != nil {
		return err
	}
	var s struct {
		Version, UIURL, GitURL, Kubeconfig string
		PID, ClusterPID                    int
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return err
	}
	b.version, b.base, b.gitURL = s.Version, strings.TrimSuffix(s.UIURL, "/"), s.GitURL
	b.pid, b.cluster = s.PID, s.ClusterPID
	cfg, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return err
	}
	cfg.QPS = -1
	b.client, err = kubernetes.NewForConfig(cfg)
	return err
}

// start measures up on an empty directory, and again on one that is there.
func (b *bench) start(ctx context.Context) ([]row, error) {
	port := b.freePort()
	up := func(args ...string) (time.Duration, error) {
		began := time.Now()
		_, err := b.fairway(ctx, append([]string{"up"}, args...)...)
		return time.Since(began), err
	}
	empty, err := up("--nodes", "kwok", "--port", port)
	if err != nil {
		return nil, err
	}
	if _, err := b.fairway(ctx, "down"); err != nil {
		return nil, err
	}
	again, err := up()
	if err != nil {
		return nil, err
	}
	return []row{
		summarize("up on an empty directory", []time.Duration{empty}, 0, 5, 0),
		summarize("up on the same again", []time.Duration{again}, 0, 5, 0),
	}, b.connect(ctx)
}

// realPod measures an instance with a real node: from nothing to a pod that
// runs an image pulled from the instance's own registry.
func (b *bench) realPod(ctx context.Context) ([]row, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	real := *b
	real.data = filepath.Join(b.dir, "real")
	real.env = append(slices.Clone(b.env), "FAIRWAY_DATA="+real.data)
	defer func() { _, _ = real.fairway(context.Background(), "down") }()
	program := filepath.Join(b.dir, "web-app")
	if _, err := b.exec(ctx, "", "go", "build", "-o", program, "./examples/web-app"); err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := real.fairway(ctx, "up", "--nodes", "real", "--port", b.freePort()); err != nil {
		return nil, err
	}
	up := time.Since(began)
	if _, err := real.fairway(ctx, "image", "create", "-t", "web-app:v1", "--add", program+":/web-app", "--entrypoint", "/web-app"); err != nil {
		return nil, err
	}
	registry, err := real.fairway(ctx, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	var s struct{ Registry string }
	if err := json.Unmarshal([]byte(registry), &s); err != nil {
		return nil, err
	}
	if _, err := real.fairway(ctx, "kubectl", "run", "web-app", "--image", s.Registry+"/web-app:v1"); err != nil {
		return nil, err
	}
	if _, err := real.fairway(ctx, "kubectl", "wait", "pod/web-app", "--for=condition=Ready", "--timeout=60s"); err != nil {
		return nil, err
	}
	return []row{
		summarize("up with a real node, empty directory", []time.Duration{up}, 0, 0, 0),
		summarize("… until a pod of our registry's image runs", []time.Duration{time.Since(began)}, 0, 15, 0),
	}, nil
}

func (b *bench) freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0" // refused with a clear error
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

const namespace = "bench"

// push measures git push of one changed manifest until the live object has
// changed, from the start of the push.
func (b *bench) push(ctx context.Context) ([]row, error) {
	if err := b.deliver(ctx); err != nil {
		return nil, err
	}
	var all []time.Duration
	before := treeUsage(b.pid, b.cluster)
	for n := range b.tries {
		value := fmt.Sprintf("value-%d", n)
		if err := b.write("config.yaml", configMap(value)); err != nil {
			return nil, err
		}
		if err := b.git(ctx, "commit", "-qam", value); err != nil {
			return nil, err
		}
		changed, err := b.watchConfigMap(ctx, value)
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if err := b.git(ctx, "push", "-q", "origin", "main"); err != nil {
			return nil, err
		}
		at, err := wait(ctx, changed, "the pushed change")
		if err != nil {
			return nil, err
		}
		all = append(all, at.Sub(began))
	}
	used := treeUsage(b.pid, b.cluster).cpu - before.cpu
	return []row{summarize("git push to live object changed", all, used, 0.5, 1)}, nil
}

// drift measures kubectl scale until scaled back, and delete until back.
func (b *bench) drift(ctx context.Context) ([]row, error) {
	deployments := b.client.AppsV1().Deployments(namespace)
	scale := func() (time.Duration, error) {
		w, err := deployments.Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: "web"}))
		if err != nil {
			return 0, err
		}
		defer w.Stop()
		began := time.Now()
		if _, err := deployments.UpdateScale(ctx, "web", &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: namespace}, Spec: autoscalingv1.ScaleSpec{Replicas: 5}}, metav1.UpdateOptions{}); err != nil {
			return 0, err
		}
		seen := false
		return until(ctx, w, began, func(e watch.Event) bool {
			n := replicas(e.Object)
			seen = seen || n == 5
			return seen && n == 1
		})
	}
	configs := b.client.CoreV1().ConfigMaps(namespace)
	remove := func() (time.Duration, error) {
		w, err := configs.Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: "config"}))
		if err != nil {
			return 0, err
		}
		defer w.Stop()
		began := time.Now()
		if err := configs.Delete(ctx, "config", metav1.DeleteOptions{}); err != nil {
			return 0, err
		}
		gone := false
		return until(ctx, w, began, func(e watch.Event) bool {
			gone = gone || e.Type == watch.Deleted
			return gone && e.Type == watch.Added
		})
	}
	scaled, err := b.repeat(ctx, "kubectl scale until scaled back", scale)
	if err != nil {
		return nil, err
	}
	removed, err := b.repeat(ctx, "kubectl delete until back", remove)
	return []row{scaled, removed}, err
}

// repeat does it as often as asked, with a pause in which the app is in sync,
// as drift by hand comes.
func (b *bench) repeat(ctx context.Context, name string, once func() (time.Duration, error)) (row, error) {
	var all []time.Duration
	before := treeUsage(b.pid, b.cluster)
	for range b.tries {
		time.Sleep(1500 * time.Millisecond)
		took, err := once()
		if err != nil {
			return row{}, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, took)
	}
	return summarize(name, all, treeUsage(b.pid, b.cluster).cpu-before.cpu, 0.15, 0.3), nil
}

// idle measures what an instance with nothing to do costs.
func (b *bench) idle(ctx context.Context) ([]row, error) {
	const span = 10 * time.Second
	before, beforeCluster := treeUsage(b.pid, b.cluster), treeUsage(b.cluster)
	time.Sleep(span)
	after, afterCluster := treeUsage(b.pid, b.cluster), treeUsage(b.cluster)
	line := func(name string, before, after usage) row {
		r := summarize(name, []time.Duration{span}, after.cpu-before.cpu, 0, 0)
		r.Note = after.memory().String()
		return r
	}
	return []row{line("idle, ours", before, after), line("idle, embedded cluster", beforeCluster, afterCluster)}, ctx.Err()
}

// restore measures the loss of the cluster: its data deleted, up again, the
// root Application applied, until everything is back.
func (b *bench) restore(ctx context.Context) ([]row, error) {
	if _, err := b.fairway(ctx, "down"); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(b.data, "cluster")); err != nil {
		return nil, err
	}
	began := time.Now()
	if _, err := b.fairway(ctx, "up"); err != nil {
		return nil, err
	}
	if err := b.connect(ctx); err != nil {
		return nil, err
	}
	if err := b.applyRoot(ctx); err != nil {
		return nil, err
	}
	if err := b.inSync(ctx); err != nil {
		return nil, err
	}
	return []row{summarize("cluster lost until everything is back", []time.Duration{time.Since(began)}, 0, 60, 0)}, nil
}

// deliver pushes a repository with a root Application of one app.
func (b *bench) deliver(ctx context.Context) error {
	if err := os.MkdirAll(b.work, 0o755); err != nil {
		return err
	}
	files := map[string]string{
		"root.yaml":       application("root", b.base, "apps", "argocd"),
		"apps/bench.yaml": application("bench", b.base, "app", namespace),
		"app/config.yaml": configMap("first"),
		"app/web.yaml":    deployment,
	}
	for name, content := range files {
		if err := b.write("../"+name, content); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "origin", b.gitURL + "/bench.git"},
		{"add", "-A"}, {"commit", "-qm", "first"}, {"push", "-q", "origin", "main"}} {
		if err := b.git(ctx, args...); err != nil {
			return err
		}
	}
	if err := b.applyRoot(ctx); err != nil {
		return err
	}
	return b.inSync(ctx)
}

func (b *bench) applyRoot(ctx context.Context) error {
	_, err := b.fairway(ctx, "kubectl", "apply", "-f", filepath.Join(b.work, "root.yaml"))
	return err
}

// inSync waits until the app is there, in sync and healthy.
func (b *bench) inSync(ctx context.Context) error {
	deadline := time.Now().Add(2 * time.Minute)
	for time.Now().Before(deadline) {
		out, err := b.fairway(ctx, "kubectl", "get", "application", "bench", "-n", "argocd", "--ignore-not-found",
			"-o", "jsonpath={.status.sync.status} {.status.health.status}")
		if err == nil && out == "Synced Healthy" {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the app was not in sync and healthy in time")
}

func (b *bench) write(name, content string) error {
	path := filepath.Join(b.work, "app", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(content), 0o644)
}

// watchConfigMap tells when the live object has the value.
func (b *bench) watchConfigMap(ctx context.Context, value string) (<-chan time.Time, error) {
	w, err := b.client.CoreV1().ConfigMaps(namespace).Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: "config"}))
	if err != nil {
		return nil, err
	}
	at := make(chan time.Time, 1)
	go func() {
		defer w.Stop()
		for e := range w.ResultChan() {
			if c, ok := e.Object.(*corev1.ConfigMap); ok && c.Data["key"] == value {
				at <- time.Now()
				return
			}
		}
	}()
	return at, nil
}
