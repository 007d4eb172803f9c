package testkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// startTimeout is far above the few seconds that a start takes, for machines
// under load.
const startTimeout = 2 * time.Minute

// ClusterOptions is what may differ from one cluster to another. The zero
// value is a cluster with one simulated node.
type ClusterOptions struct {
	// KwokNodes is the number of simulated nodes; 0 means 1, negative none.
	KwokNodes int
	// Args are more flags of "fairway-cluster control-plane".
	Args []string
}

// Cluster is a Kubernetes control plane in a process of its own, with its data
// in a temporary directory. Pods are scheduled to simulated nodes and reported
// Running there.
type Cluster struct {
	// Dir is the data directory, Kubeconfig the administrator's file in it.
	Dir        string
	Kubeconfig string
	// Config and Client are the administrator's, without a rate limit. They
	// stay good over a Restart.
	Config *rest.Config
	Client kubernetes.Interface

	binary  string
	options ClusterOptions
	process *process
}

// StartCluster starts a cluster for one test, which fails where the binary is
// not built. Prefer one cluster for a package, see RunWithCluster.
func StartCluster(tb testing.TB, options ClusterOptions) *Cluster {
	tb.Helper()
	c, err := newCluster(tb.TempDir(), options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		// Its data are thrown away, so there is nothing to stop cleanly.
		if err := c.Kill(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// RunWithCluster is the body of a TestMain: it starts one cluster, puts it
// where cluster points, runs the package's tests and ends the process.
func RunWithCluster(m *testing.M, cluster **Cluster, options ClusterOptions) {
	os.Exit(runWithCluster(m, cluster, options))
}

func runWithCluster(m *testing.M, cluster **Cluster, options ClusterOptions) int {
	dir, err := os.MkdirTemp("", "fairway-cluster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	c, err := newCluster(dir, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = c.Kill() }()
	*cluster = c
	return m.Run()
}

func newCluster(dir string, options ClusterOptions) (*Cluster, error) {
	binary, err := clusterBinary()
	if err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir, binary: binary, options: options}
	if err := c.start(); err != nil {
		return nil, err
	}
	if c.Config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig); err == nil {
		c.Config.QPS = -1
		c.Client, err = kubernetes.NewForConfig(c.Config)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a client of the cluster: %w", err), c.Kill())
	}
	return c, nil
}

// clusterBinary is FAIRWAY_CLUSTER, or else what "make build" leaves in bin.
func clusterBinary() (string, error) {
	binary := os.Getenv("FAIRWAY_CLUSTER")
	if binary == "" {
		root, err := ProjectRoot()
		if err != nil {
			return "", err
		}
		binary = filepath.Join(root, "bin", "fairway-cluster")
	}
	if _, err := os.Stat(binary); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the embedded Kubernetes is not built: run make build (looked for %s)", binary)
	} else if err != nil {
		return "", fmt.Errorf("looking for the embedded Kubernetes: %w", err)
	}
	return filepath.Abs(binary)
}

func (c *Cluster) start() error {
	nodes := max(c.options.KwokNodes, 0)
	if c.options.KwokNodes == 0 {
		nodes = 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	args := append([]string{
		"control-plane",
		"--data=" + c.Dir,
		"--port=0",
		"--kwok-nodes=" + strconv.Itoa(nodes),
		"--unsafe-no-fsync",
		"--die-with-parent",
	}, c.options.Args...)
	p, ready, err := startProcess(ctx, c.binary, args, filepath.Join(c.Dir, "control-plane.log"))
	if err != nil {
		return fmt.Errorf("starting a cluster: %w", err)
	}
	c.process, c.Kubeconfig = p, ready.Kubeconfig
	return nil
}

// Stop ends the control plane cleanly. Its data stay.
func (c *Cluster) Stop() error { return c.process.stop() }

// Kill ends the control plane as kill -9 does. Its data stay.
func (c *Cluster) Kill() error { return c.process.kill() }

// Restart starts the control plane again on its data, at the same address. Call
// it after Stop or Kill.
func (c *Cluster) Restart() error { return c.start() }

// Namespace makes a namespace of its own for a test, with its default service
// account, and deletes it at the test's end without waiting for that.
func (c *Cluster) Namespace(tb testing.TB) string {
	tb.Helper()
	created, err := c.Client.CoreV1().Namespaces().Create(tb.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatalf("creating a namespace: %v", err)
	}
	name := created.Name
	tb.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			tb.Errorf("deleting namespace %s: %v", name, err)
		}
	})
	Eventually(tb, "service account default in namespace "+name, func() error {
		_, err := c.Client.CoreV1().ServiceAccounts(name).Get(tb.Context(), "default", metav1.GetOptions{})
		return err
	})
	return name
}
