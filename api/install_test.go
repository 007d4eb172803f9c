package api_test

import (
	"sync"
	"testing"

	"github.com/fairway-cd/fairway/api"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// Replicas that start at the same time install the same kinds.
func TestInstallSideBySide(t *testing.T) {
	cluster := testkit.StartCluster(t, testkit.ClusterOptions{KwokNodes: -1})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := api.Install(t.Context(), cluster.Config); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}
