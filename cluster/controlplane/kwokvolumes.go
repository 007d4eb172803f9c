package controlplane

import (
	"context"
	"strings"

	"k8s.io/client-go/kubernetes"

	"github.com/fairway-cd/fairway/cluster/node/storage"
)

// runKwokVolumes binds the claims of pods on simulated nodes until ctx ends.
// Nothing is ever mounted there, so no directory is made.
func runKwokVolumes(ctx context.Context, client kubernetes.Interface) error {
	return storage.Run(ctx, client, storage.Nodes{
		Serves:  func(node string) bool { return strings.HasPrefix(node, kwokNodePrefix) },
		NodeDir: "/simulated",
	})
}
