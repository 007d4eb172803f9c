package e2e

import (
	"path/filepath"
	"testing"
)

// Who says which instance is meant does not get another cluster.
func TestNoInstanceIsNoOtherCluster(t *testing.T) {
	own := newInstance(shared.bin, filepath.Join(t.TempDir(), "typo"))
	own.env = append(own.env, "KUBECONFIG="+shared.status(t).Kubeconfig)
	own.refused(t, "no instance in "+own.data, "app", "list")
	own.refused(t, "no instance in", "app", "delete", "victim", "--data", t.TempDir())
	own.refused(t, "is not up", "kubectl", "get", "namespaces")
	own.must(t, "app", "list", "--kubeconfig", shared.status(t).Kubeconfig)
	far := elsewhere(t)
	far.env = append(far.env, "KUBECONFIG="+shared.status(t).Kubeconfig)
	far.must(t, "app", "list")
}
