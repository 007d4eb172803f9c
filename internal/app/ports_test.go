package app

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// TestThePortOfTheClusterIsTakenMeanwhile: what was free when it was chosen and
// is not when the API server comes to listen is another one then.
func TestThePortOfTheClusterIsTakenMeanwhile(t *testing.T) {
	if os.Getenv("FAIRWAY_CLUSTER") == "" {
		root, err := testkit.ProjectRoot()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("FAIRWAY_CLUSTER", filepath.Join(root, "bin", "fairway-cluster"))
	}
	inst, err := OpenInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inst.Config.Nodes = NodesKWOK
	if err := inst.choosePorts(t.Context()); err != nil {
		t.Fatal(err)
	}
	chosen := inst.Config.ClusterPort
	l, err := net.Listen("tcp", loopback(chosen))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	s := NewServer(inst, func(Step) {})
	cl, err := s.startCluster(t.Context(), t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.stop()
	again, err := OpenInstance(inst.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Config.ClusterPort; got == chosen || got == 0 || cl.config.Host != "https://"+loopback(got) {
		t.Errorf("the instance has port %d after %d, and the API server is at %s", got, chosen, cl.config.Host)
	}
}
