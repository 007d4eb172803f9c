package orphan_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
	"github.com/fairway-cd/fairway/internal/orphan"
	"github.com/fairway-cd/fairway/internal/testkit"
)

var cluster *testkit.Cluster

func TestMain(m *testing.M) { testkit.RunWithCluster(m, &cluster, testkit.ClusterOptions{}) }

// What watches says what is there, and is gone with Run.
func TestRunEndsWithAllThatItBegan(t *testing.T) {
	client, err := kube.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	namespace := cluster.Namespace(t)
	owner := core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: "shop"}
	told := make(chan core.Owner, 100)
	w := orphan.New(mark.Tracking{ArgoNamespace: "argocd"}, func(o core.Owner) { told <- o })
	if err := w.Want(owner, client, namespace); err != nil { // before Run
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()

	create := func(name string) {
		t.Helper()
		_, err := cluster.Client.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	create("left")
	if got := <-told; got != owner {
		t.Errorf("told of %s", got)
	}
	orphans := func(want ...string) {
		t.Helper()
		testkit.Eventually(t, "the orphans", func() error {
			var names []string
			for _, ref := range w.Orphans(owner) {
				names = append(names, ref.Name)
			}
			if fmt.Sprint(names) != fmt.Sprint(want) {
				return fmt.Errorf("they are %v", names)
			}
			return nil
		})
	}
	orphans("left")
	create("late")
	orphans("late", "left") // and who wants to know is about to be told

	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	stacks := make([]byte, 1<<22)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "internal/orphan.(") || strings.Contains(stack, "internal/kube.follow") {
			t.Errorf("it goes on:\n%s", stack)
		}
	}
	// Who comes later finds nothing that goes on.
	other := owner
	other.Name = "other"
	if err := w.Want(other, client, "default"); err != nil {
		t.Error(err)
	}
	if got := w.Orphans(other); len(got) != 0 {
		t.Errorf("somebody watches: %v", got)
	}
	w.Leave(owner)
	w.Leave(other)
}
