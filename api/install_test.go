package api_test

import (
	"slices"
	"sync"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/api"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// Replicas that start at the same time bring the kinds of another version to
// their own.
func TestInstallSideBySide(t *testing.T) {
	cluster := testkit.StartCluster(t, testkit.ClusterOptions{KwokNodes: -1})
	outcomes, err := api.Install(t.Context(), cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientset.NewForConfig(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	definitions := client.ApiextensionsV1().CustomResourceDefinitions()
	for _, o := range outcomes {
		testkit.Eventually(t, o.Name+" to be of another version", func() error {
			crd, err := definitions.Get(t.Context(), o.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			crd.Spec.Names.Categories = []string{"another-version"}
			_, err = definitions.Update(t.Context(), crd, metav1.UpdateOptions{})
			return err
		})
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := api.Install(t.Context(), cluster.Config); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, o := range outcomes {
		crd, err := definitions.Get(t.Context(), o.Name, metav1.GetOptions{})
		if err != nil || slices.Contains(crd.Spec.Names.Categories, "another-version") {
			t.Errorf("%s is of another version still: %v", o.Name, err)
		}
	}
}
