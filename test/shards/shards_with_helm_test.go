package shards

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/fairway-cd/fairway/internal/testkit"
)

var helmReleases = schema.GroupVersionResource{Group: "helm.toolkit.fluxcd.io", Version: "v2", Resource: "helmreleases"}

// releases is how many HelmReleases there are.
const releases = 12

func releaseName(i int) string { return fmt.Sprintf("rel-%02d", i) }

// release gives the chart's ConfigMap a value.
func release(repo *testkit.Repo, value string) {
	repo.Commit(value, map[string]string{
		"chart/Chart.yaml":        "apiVersion: v2\nname: chart\nversion: 1.0.0\n",
		"chart/templates/cm.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {value: \"" + value + "\"}\n",
	})
}

// Helm's own actions, too, are ended by one that was taken for dead, and never
// go on in it.
func TestReplicasOfHelmReleases(t *testing.T) {
	testkit.Eventually(t, "the replicas of before to be gone", func() error { return clear(t.Context()) })
	_, err := cluster.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	repo := testkit.GitRepo(t)
	release(repo, "1")
	h := follow(t, "rel-")
	startReplica(t, "a")
	b := startReplica(t, "b")
	create(t, client, repositories, "GitRepository", "chart", map[string]any{"interval": "1s", "url": serveGit(t, repo), "ref": map[string]any{"branch": "main"}})
	for i := range releases {
		create(t, client, helmReleases, "HelmRelease", releaseName(i), map[string]any{
			"interval": "60m", "chart": map[string]any{"spec": map[string]any{
				"chart": "./chart", "reconcileStrategy": "Revision",
				"sourceRef": map[string]any{"kind": "GitRepository", "name": "chart"},
			}},
		})
	}
	h.wait(t, "1", releases)
	divided(t, 2)
	value := 2
	for pause := range 3 {
		release(repo, fmt.Sprint(value))
		h.wait(t, fmt.Sprint(value), 1+pause*releases/4)
		b.signal(t, syscall.SIGSTOP)
		release(repo, fmt.Sprint(value+1))
		h.wait(t, fmt.Sprint(value+1), releases)
		b.signal(t, syscall.SIGCONT)
		divided(t, 2)
		value += 2
	}
	release(repo, fmt.Sprint(value))
	h.wait(t, fmt.Sprint(value), releases)
	h.check(t)

	// Helm's record says the same: the newest revision is deployed, and no
	// other one is.
	testkit.Eventually(t, "one revision of each to be deployed", func() error {
		list, err := cluster.Client.CoreV1().Secrets(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
		if err != nil {
			return err
		}
		deployed, newest := map[string][]int{}, map[string]int{}
		for _, s := range list.Items {
			name, version := s.Labels["name"], 0
			if _, err := fmt.Sscan(s.Labels["version"], &version); err != nil {
				return err
			}
			newest[name] = max(newest[name], version)
			if s.Labels["status"] == "deployed" {
				deployed[name] = append(deployed[name], version)
			}
		}
		for name, versions := range deployed {
			if strings.HasPrefix(name, "rel-") && (len(versions) != 1 || versions[0] != newest[name]) {
				return fmt.Errorf("of %s, whose newest revision is %d, %v are deployed", name, newest[name], versions)
			}
		}
		if len(deployed) != releases {
			return fmt.Errorf("%d releases are deployed", len(deployed))
		}
		return nil
	})
}
