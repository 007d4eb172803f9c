package shards

import (
	"fmt"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/fairway-cd/fairway/internal/testkit"
)

const (
	manyApps = 5000
	// probes are the apps that the commit after the kill changes, some of each
	// shard: to change all would measure the API server.
	probes = 100
)

// Two replicas share 5,000 apps, and one is killed.
func TestSoakReplicas(t *testing.T) {
	if os.Getenv("FAIRWAY_SOAK") == "" {
		t.Skip("FAIRWAY_SOAK is not set: TestReplicas does the same with fewer apps")
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := cluster.Client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the replicas of before to be gone", func() error { return clear(t.Context()) })
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("many-%04d", i) }
	write := func(files map[string]string, i int, value string) {
		files["apps/"+name(i)+"/a.yaml"] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {value: %q}\n", name(i), value)
	}
	files := map[string]string{}
	for i := range manyApps {
		write(files, i, "1")
	}
	repo := testkit.GitRepo(t)
	repo.Commit("1", files)
	h := follow(t, "many-")
	a := startReplica(t, "a")
	startReplica(t, "b")
	create(t, client, repositories, "GitRepository", "many", map[string]any{"interval": "1s", "url": serveGit(t, repo), "ref": map[string]any{"branch": "main"}})
	began := time.Now()
	for i := range manyApps {
		create(t, client, kustomizations, "Kustomization", name(i), map[string]any{
			"interval": "60m", "prune": true, "targetNamespace": namespace, "path": "./apps/" + name(i),
			"sourceRef": map[string]any{"kind": "GitRepository", "name": "many"},
		})
	}
	h.until(t, "1", manyApps, 30*time.Minute)
	t.Logf("%d apps were installed by two replicas after %s", manyApps, time.Since(began).Round(time.Second))
	divided(t, 2)

	began = time.Now()
	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = a.Wait() // killed
	files = map[string]string{}
	for i := 0; i < manyApps; i += manyApps / probes {
		write(files, i, "2")
	}
	repo.Commit("2", files)
	h.until(t, "2", probes, 10*time.Minute)
	t.Logf("after the kill of one, %d apps of all shards had the next commit after %s", probes, time.Since(began).Round(100*time.Millisecond))
	divided(t, 1)
	h.check(t)
}

// until is wait, for as long as many apps take.
func (h *history) until(t *testing.T, value string, n int, most time.Duration) {
	t.Helper()
	for end := time.Now().Add(most); h.count(value) < n; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d ConfigMaps of %d have %s after %s", h.count(value), n, value, most)
		}
	}
}
