package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var cluster *Cluster

func TestMain(m *testing.M) { RunWithCluster(m, &cluster, ClusterOptions{}) }

func TestClusterRunsPodsAndSurvivesKill(t *testing.T) {
	namespace := cluster.Namespace(t)
	pods := cluster.Client.CoreV1().Pods(namespace)
	_, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	running := func() error {
		pod, err := pods.Get(t.Context(), "web", metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("the pod is %s", pod.Status.Phase)
		}
		return err
	}
	Eventually(t, "pod web to run", running)

	host := cluster.Config.Host
	if err := cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := running(); err == nil {
		t.Error("the API server answers after Kill")
	}
	if err := cluster.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := running(); err != nil {
		t.Errorf("after Kill and Restart, with the same client at %s: %v", host, err)
	}
}

func TestNamespaceIsFreshAndDeleted(t *testing.T) {
	var first, second string
	t.Run("use", func(t *testing.T) { first, second = cluster.Namespace(t), cluster.Namespace(t) })
	if first == second {
		t.Errorf("both namespaces are %s", first)
	}
	Eventually(t, "namespace to go", func() error {
		_, err := cluster.Client.CoreV1().Namespaces().Get(t.Context(), first, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("namespace %s is still there: %w", first, err)
	})
}

func TestMissingBinaryIsNamed(t *testing.T) {
	t.Setenv("FAIRWAY_CLUSTER", filepath.Join(t.TempDir(), "fairway-cluster"))
	_, err := newCluster(t.TempDir(), ClusterOptions{})
	if err == nil || !strings.Contains(err.Error(), "run make build") {
		t.Errorf("got %v, want to be told to run make build", err)
	}
}

func TestFailedStartShowsTheLog(t *testing.T) {
	_, err := newCluster(t.TempDir(), ClusterOptions{Args: []string{"--service-cidr=nonsense"}})
	if err == nil || !strings.Contains(err.Error(), "--service-cidr") {
		t.Errorf("got %v, want what the control plane logged", err)
	}
}

func TestGitRepoIsTheSameInEveryRun(t *testing.T) {
	build := func() (*Repo, string) {
		r := GitRepo(t)
		r.Commit("first", map[string]string{"a/b.yaml": "x: 1\n", "c": "c\n"})
		r.Remove("c")
		return r, r.Commit("second", map[string]string{"a/b.yaml": "x: 2\n"})
	}
	r, first := build()
	_, second := build()
	if first != second {
		t.Errorf("two builds gave %s and %s", first, second)
	}
	// Of this content, by these people, at these times.
	if want := "56e1f17e8a3697e19f85c9798ca56b403a0f0b87"; first != want {
		t.Errorf("commit is %s, was %s", first, want)
	}
	if got := r.Git("ls-tree", "-r", "--name-only", "HEAD"); got != "a/b.yaml" {
		t.Errorf("the commit holds %q", got)
	}
	if got := GitClone(t, r.Dir).Head(); got != first {
		t.Errorf("a clone is at %s, want %s", got, first)
	}
}

func TestTryGitSaysWhatGitSaid(t *testing.T) {
	_, err := GitRepo(t).TryGit("rev-parse", "--verify", "nowhere")
	if err == nil || !strings.Contains(err.Error(), "fatal: ") {
		t.Errorf("got %v, want git's own message", err)
	}
}

func TestCorpusIsFoundOrSkipped(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FAIRWAY_CORPUS", dir)
	if err := os.WriteFile(filepath.Join(dir, "here.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Corpus(t, "here.yaml"); got != filepath.Join(dir, "here.yaml") {
		t.Errorf("got %s", got)
	}
	var skipped bool
	t.Run("absent", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		Corpus(t, "absent", "thing.yaml")
	})
	if !skipped {
		t.Error("an absent part of the corpus did not skip the test")
	}
}
