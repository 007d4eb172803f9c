// Package shards tries the division of deliveries among replicas for real:
// processes that are killed and paused, and a watch that sees each write.
package shards

import (
	"context"
	"errors"
	"fmt"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/ptr"

	"github.com/fairway-cd/fairway/internal/testkit"
)

var cluster *testkit.Cluster

func TestMain(m *testing.M) { testkit.RunWithCluster(m, &cluster, testkit.ClusterOptions{}) }

const (
	namespace = "shards"
	apps      = 40
	shards    = 8
)

var (
	repositories   = schema.GroupVersionResource{Group: "source.toolkit.fluxcd.io", Version: "v1", Resource: "gitrepositories"}
	kustomizations = schema.GroupVersionResource{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Resource: "kustomizations"}
)

// replica is one process of the engine.
type replica struct {
	*exec.Cmd
	log string
}

func startReplica(t *testing.T, name string, args ...string) *replica {
	t.Helper()
	bin := os.Getenv("FAIRWAY_BIN")
	if bin == "" {
		var err error
		if bin, err = filepath.Abs("../../bin/fairway"); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	args = append([]string{"controller", "--data", filepath.Join(dir, "data"), "--kubeconfig", cluster.Kubeconfig,
		"--namespace", namespace, "--shards", fmt.Sprint(shards)}, args...)
	r := &replica{exec.Command(bin, args...), filepath.Join(dir, name+".log")}
	log, err := os.Create(r.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r.Stdout, r.Stderr = log, log
	r.Env = append(os.Environ(), "HOME="+dir)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.Process.Signal(syscall.SIGCONT)
		_ = r.Process.Kill()
		_ = r.Wait()
		if t.Failed() {
			data, _ := os.ReadFile(r.log)
			t.Logf("%s:\n%s", name, data[max(0, len(data)-4000):])
		}
	})
	return r
}

func (r *replica) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := r.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// divided waits until that many replicas share the shards evenly.
func divided(t *testing.T, replicas int) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%d replicas to share the shards", replicas), func() error {
		list, err := cluster.Client.CoordinationV1().Leases(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "fairway-cd.io/shard"})
		if err != nil {
			return err
		}
		by := map[string]int{}
		for _, l := range list.Items {
			by[ptr.Deref(l.Spec.HolderIdentity, "")]++
		}
		if len(by) != replicas || by[""] > 0 || len(list.Items) != shards {
			return fmt.Errorf("they are %v", by)
		}
		for _, n := range by {
			if n != shards/replicas {
				return fmt.Errorf("they are %v", by)
			}
		}
		return nil
	})
}

// serveGit serves the repository over HTTP, and returns its URL.
func serveGit(t *testing.T, repo *testkit.Repo) string {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.Symlink(filepath.Join(repo.Dir, ".git"), filepath.Join(root, "all.git")); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	})
	t.Cleanup(server.Close)
	return server.URL + "/all.git"
}

// commit gives all ConfigMaps a value.
func commit(repo *testkit.Repo, value string) {
	files := map[string]string{}
	for i := range apps {
		files[fmt.Sprintf("apps/%s/a.yaml", appName(i))] = fmt.Sprintf(
			"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", appName(i), value)
	}
	repo.Commit(value, files)
}

func appName(i int) string { return fmt.Sprintf("app-%02d", i) }

// history is what each ConfigMap has been: each of its writes.
type history struct {
	prefix string // of the ConfigMaps' names

	mu     sync.Mutex
	values map[string][]string
}

func follow(t *testing.T, prefix string) *history {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h := &history{prefix: prefix, values: map[string][]string{}}
	list, err := cluster.Client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	version, done := list.ResourceVersion, make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-done
	})
	go func() {
		defer close(done)
		for ctx.Err() == nil { // a watch can end; the next one begins where it was
			w, err := cluster.Client.CoreV1().ConfigMaps(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: version})
			if err != nil {
				continue
			}
			for e := range w.ResultChan() {
				if c, ok := e.Object.(*corev1.ConfigMap); ok {
					version = c.ResourceVersion
					h.add(c)
				}
			}
		}
	}()
	return h
}

func (h *history) add(c *corev1.ConfigMap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if strings.HasPrefix(c.Name, h.prefix) {
		h.values[c.Name] = append(h.values[c.Name], c.Data["value"])
	}
}

// count is how many have the value now.
func (h *history) count(value string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, values := range h.values {
		if values[len(values)-1] == value {
			n++
		}
	}
	return n
}

func (h *history) wait(t *testing.T, value string, n int) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%d ConfigMaps to have %s", n, value), func() error {
		if has := h.count(value); has < n {
			return fmt.Errorf("%d have", has)
		}
		return nil
	})
}

// check fails where a ConfigMap was written twice with the same, or went back
// to what it was before. Values are in their order as texts.
func (h *history) check(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, values := range h.values {
		for i := 1; i < len(values); i++ {
			if values[i] <= values[i-1] {
				t.Errorf("%s was written as %v", name, values)
				break
			}
		}
	}
}

func create(t *testing.T, client dynamic.Interface, resource schema.GroupVersionResource, kind, name string, spec map[string]any) {
	t.Helper()
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource.GroupVersion().String(), "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": namespace}, "spec": spec,
	}}
	testkit.Eventually(t, kind+" to be made", func() error { // the kinds come with the first replica
		_, err := client.Resource(resource).Namespace(namespace).Create(t.Context(), u, metav1.CreateOptions{})
		return err
	})
}

// Two replicas share the deliveries. Whatever happens to one of them, the other
// one goes on with its part, and no object is ever written by one that was
// taken for dead.
func TestReplicas(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Fatal(err)
	}
	_, err := cluster.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	repo := testkit.GitRepo(t)
	commit(repo, "1")
	h := follow(t, "app-")

	a, b := startReplica(t, "a"), startReplica(t, "b")
	create(t, client, repositories, "GitRepository", "all", map[string]any{"interval": "1s", "url": serveGit(t, repo), "ref": map[string]any{"branch": "main"}})
	for i := range apps {
		create(t, client, kustomizations, "Kustomization", appName(i), map[string]any{
			"interval": "60m", "prune": true, "targetNamespace": namespace, "path": "./apps/" + appName(i),
			"sourceRef": map[string]any{"kind": "GitRepository", "name": "all"},
		})
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for resource, name := range map[schema.GroupVersionResource]string{repositories: "all", kustomizations: appName(0)} {
			u, err := client.Resource(resource).Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{})
			if err == nil {
				t.Logf("%s %s: %v", u.GetKind(), name, u.Object["status"])
			}
		}
	})
	h.wait(t, "1", apps)
	divided(t, 2)

	began := time.Now()
	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := a.Wait(); !errors.As(err, &exit) {
		t.Fatal(err)
	}
	commit(repo, "2")
	h.wait(t, "2", apps)
	t.Logf("all of a replica that was killed had gone on after %s", time.Since(began).Round(100*time.Millisecond))
	divided(t, 1)

	startReplica(t, "c")
	divided(t, 2)
	value := 3
	for pause := range 3 {
		// In the middle of a commit that changes all, one stands still until it
		// is taken for dead, and goes on when there is something newer.
		commit(repo, fmt.Sprint(value))
		h.wait(t, fmt.Sprint(value), 1+pause*apps/4)
		b.signal(t, syscall.SIGSTOP)
		commit(repo, fmt.Sprint(value+1))
		h.wait(t, fmt.Sprint(value+1), apps)
		b.signal(t, syscall.SIGCONT)
		divided(t, 2)
		value += 2
	}
	commit(repo, fmt.Sprint(value))
	h.wait(t, fmt.Sprint(value), apps)
	h.check(t)
}

// A replica that is asked to end leaves its shards to the others at once.
func TestReplicaEnds(t *testing.T) {
	testkit.Eventually(t, "the replicas of before to be gone", func() error { return clear(t.Context()) })
	a := startReplica(t, "a")
	startReplica(t, "b")
	divided(t, 2)
	a.signal(t, syscall.SIGTERM)
	if err := a.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	list, err := cluster.Client.CoordinationV1().Leases(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "!fairway-cd.io/shard,fairway-cd.io/shards-of"})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 {
		t.Errorf("%d replicas have a Lease", len(list.Items))
	}
	divided(t, 1)
}

// clear removes all Leases.
func clear(ctx context.Context) error {
	return cluster.Client.CoordinationV1().Leases(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "fairway-cd.io/shards-of"})
}
