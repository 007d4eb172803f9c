package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// cluster is the Kubernetes that the instance uses: one of its own, or one
// that was there before.
type cluster struct {
	// config is how the server itself reaches the API.
	config   *rest.Config
	embedded bool
	stopped  func()
	// usable waits until others than the administrator, controllers and nodes
	// included, are there, too: what is installed need not wait for them. It
	// is called once.
	usable func(context.Context) error
	// plan has no real node where the cluster is not embedded.
	plan nodePlan
}

func (c *cluster) stop() {
	if c.stopped != nil {
		c.stopped()
	}
}

// clusterStartTimeout is how long the API server may take to be ready: it
// takes seconds, but on a busy machine with a large store more of them.
const clusterStartTimeout = 3 * time.Minute

// startCluster connects to the configured cluster, or starts the embedded
// one, which then runs until stop is called.
func (s *Server) startCluster(ctx, base context.Context) (*cluster, error) {
	if path := s.inst.Config.Kubeconfig; path != "" {
		s.progress(Step{Name: "connecting to the cluster of " + path})
		return s.externalCluster(ctx, path)
	}
	s.progress(Step{Name: "starting Kubernetes"})
	if err := s.inst.checkRoom(); err != nil {
		return nil, err
	}
	program, err := ClusterProgram()
	if err != nil {
		return nil, err
	}
	plan, err := s.planNode(ctx, program)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		cl, err := s.startEmbedded(ctx, base, program, plan)
		if err == nil || try == mostPorts || ctx.Err() != nil || !s.inst.clusterPortTaken(plan) {
			return cl, err
		}
		if err := s.inst.nextClusterPort(err); err != nil {
			return nil, err
		}
	}
}

// startEmbedded starts the embedded Kubernetes once. Where it does not come up
// it is stopped.
func (s *Server) startEmbedded(ctx, base context.Context, program string, plan nodePlan) (*cluster, error) {
	dir, serving, ready := s.inst.path("cluster"), s.inst.path("run", "cluster-serving"), s.inst.path("run", "cluster-ready")
	if err := errors.Join(os.RemoveAll(serving), os.RemoveAll(ready)); err != nil {
		return nil, err
	}
	failed := make(chan error, 1)
	c := &child{
		name: "control plane",
		args: []string{program, "control-plane", "--data", dir,
			"--address", "127.0.0.1", "--port", strconv.Itoa(s.inst.Config.ClusterPort),
			"--serving-file", serving, "--ready-file", ready, "--die-with-parent",
			"--service-socket", sealingNamespace + "/" + sealingService + "=" + sealingSocket,
			"--cluster-cidr", plan.ClusterCIDR, "--service-cidr", plan.ServiceCIDR},
		logPath:     s.inst.logName("cluster.log"),
		stopTimeout: 20 * time.Second,
		began:       func(pid int) { s.update(func(st *State) { st.ClusterPID = pid }) },
		exited:      tell(failed),
	}
	if plan.real {
		c.args = append(c.args, "--also-listen", plan.HostAddress, "--advertise-address", plan.HostAddress)
	}
	cl := &cluster{embedded: true, plan: plan}
	cl.stopped = runInBackground(base, c.Run)
	arrived := func(ctx context.Context, file string) error {
		if err := waitFile(ctx, file, failed); err != nil {
			return &StartError{fmt.Sprintf("the embedded Kubernetes did not start: %v\n%s", err, tail(c.logPath, 2000)), "its log is " + c.logPath}
		}
		return nil
	}
	cl.usable = func(ctx context.Context) error { return arrived(ctx, ready) }
	if err := arrived(ctx, serving); err != nil {
		cl.stop()
		return nil, err
	}
	var err error
	cl.config, err = clientcmd.BuildConfigFromFlags("", s.inst.path("cluster", "admin.kubeconfig"))
	if err != nil {
		cl.stop()
		return nil, fmt.Errorf("connecting to the embedded Kubernetes: %w", err)
	}
	return cl, nil
}

// externalCluster checks that the cluster answers.
func (s *Server) externalCluster(ctx context.Context, path string) (*cluster, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster of %s: %w", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := client.Discovery().RESTClient().Get().AbsPath("/version").DoRaw(ctx); err != nil {
		return nil, fmt.Errorf("the cluster of %s does not answer: %w", path, err)
	}
	return &cluster{config: cfg, usable: func(context.Context) error { return nil }}, nil
}

// runInBackground runs f until the returned function is called, which returns
// when f has.
func runInBackground(base context.Context, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(base)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// exitInUse is how the cluster's processes say that another one still has
// their directory: that of a server which was just killed, and which ends in a
// moment.
const exitInUse = 3

// tell returns a function that sends the first error that it is given, but
// for those that go away by trying again.
func tell(failed chan<- error) func(error) {
	return func(err error) {
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == exitInUse {
			return
		}
		select {
		case failed <- err:
		default:
		}
	}
}

// waitFile waits until the file is there. An error on failed ends it.
func waitFile(ctx context.Context, path string, failed <-chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, clusterStartTimeout, errors.New("it was not ready in time"))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-failed:
			if err == nil {
				err = errors.New("it ended")
			}
			return err
		case <-tick.C:
		}
	}
}
