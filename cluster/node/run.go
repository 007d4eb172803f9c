package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairway-cd/fairway/cluster/node/inside"
	"github.com/fairway-cd/fairway/cluster/node/network"
	"github.com/fairway-cd/fairway/cluster/node/storage"
	"github.com/fairway-cd/fairway/cluster/pki"
)

// steadyAfter is how long a node must have lived for its end to be taken as an
// accident, after which it is started again.
const steadyAfter = 30 * time.Second

// node is one run of a node, from its namespaces to their end.
type node struct {
	o        *Options
	plan     network.Plan
	layout   inside.Layout
	settings settings
	api      *rest.Config
	images   []inside.Image
	started  time.Time
}

// Run runs the node until ctx ends, and leaves nothing of it on the host. It
// may be started before the API server answers.
func Run(ctx context.Context, o *Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	if err := Supported(o.Programs); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Data, 0o755); err != nil {
		return fmt.Errorf("making the node's directory: %w", err)
	}
	lock, err := lockData(o.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if o.DieWithParent {
		if err := watchParent(ctx, stop); err != nil {
			return err
		}
	}
	for {
		started := time.Now()
		err := runOnce(ctx, o)
		var ended *SandboxError
		if ctx.Err() != nil || !errors.As(err, &ended) || time.Since(started) < steadyAfter {
			return err
		}
		slog.ErrorContext(ctx, "node started again", "error", err)
	}
}

func runOnce(ctx context.Context, o *Options) (err error) {
	n, err := prepare(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup(o.Data, n.plan)) }()
	if o.ReadyFile != "" {
		if err := os.Remove(o.ReadyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the ready file: %w", err)
		}
		defer os.Remove(o.ReadyFile)
	}
	return n.run(ctx)
}

// prepare removes what an earlier run left and writes all files that the node
// needs.
func prepare(o *Options) (*node, error) {
	n := &node{o: o, layout: layoutOf(o.Data, o.Programs), started: time.Now()}
	var err error
	if n.plan, err = Plan(o.Data); err != nil {
		return nil, err
	}
	if err := cleanup(o.Data, n.plan); err != nil {
		return nil, fmt.Errorf("removing what an earlier node left: %w", err)
	}
	used, err := network.Used()
	if err != nil {
		return nil, err
	}
	if other, conflict := n.plan.Conflict(used); conflict {
		return nil, fmt.Errorf("the cluster's addresses are taken: this machine now has a route to %s", other)
	}
	if n.api, err = clientcmd.BuildConfigFromFlags("", o.Kubeconfig); err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	if err := makeLayout(n.layout); err != nil {
		return nil, err
	}
	return n, n.writeFiles()
}

func (n *node) writeFiles() error {
	images, err := prepareImages(n.layout)
	if err != nil {
		return err
	}
	n.images = []inside.Image{images["pause"], images["coredns"]}
	api, err := apiURL(n.api, n.plan, n.o.APIPort)
	if err != nil {
		return err
	}
	n.settings = settings{
		Plan: n.plan, Name: n.o.Name, API: api, EtcDir: inside.EtcDir, ProgramDir: inside.ProgramDir,
		PauseImage: images["pause"].Name, CoreDNSImage: images["coredns"].Name,
		Snapshotter: snapshotter(n.o.Data), RealLabel: inside.RealLabel,
	}
	if err := writeConfigs(n.layout.Etc, n.settings); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(n.layout.Etc, inside.RegistriesDir), 0o700); err != nil {
		return fmt.Errorf("making the directory of registries: %w", err)
	}
	return writeCredentials(n.o, n.plan, api)
}

func (n *node) run(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(n.layout.Log, "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("opening the node's log: %w", err)
	}
	defer log.Close()
	if err := makeCgroup(n.plan.CgroupName()); err != nil {
		return err
	}
	s, err := startSandbox(log)
	if err != nil {
		return err
	}
	egress, dns, err := n.connect(ctx, s)
	if err != nil {
		s.kill()
		return err
	}
	pidFile := filepath.Join(n.o.Data, initPIDFile)
	defer os.Remove(pidFile)
	if err := pki.WriteFile(pidFile, []byte(strconv.Itoa(s.pid())+"\n"), 0o644); err != nil {
		s.kill()
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.run(ctx) })
	group.Go(func() error { return egress.Run(ctx) })
	group.Go(func() error { return dns.Run(ctx) })
	group.Go(func() error {
		return (&registries{
			data: n.o.Data, dir: filepath.Join(n.layout.Etc, inside.RegistriesDir),
			inNode: filepath.Join(inside.EtcDir, inside.RegistriesDir),
		}).run(ctx)
	})
	group.Go(func() error { return n.serveCluster(ctx) })
	return group.Wait()
}

// connect gives the waiting process 1 its network, opens the sockets on its
// side and lets it go on.
func (n *node) connect(ctx context.Context, s *sandbox) (*network.Egress, *network.DNS, error) {
	if err := joinCgroup(n.plan.CgroupName(), s.pid()); err != nil {
		return nil, nil, err
	}
	if err := network.Connect(n.plan, s.pid()); err != nil {
		return nil, nil, err
	}
	egress, err := network.ListenEgress(ctx, s.pid())
	if err != nil {
		return nil, nil, err
	}
	dns, err := network.ListenDNS(ctx, s.pid(), n.plan.NodeAddress(), n.o.ResolvConf)
	if err != nil {
		return nil, nil, err
	}
	return egress, dns, s.configure(inside.Config{
		Name: n.o.Name, NodeAddress: n.plan.NodeAddress(),
		ClusterCIDR: n.plan.ClusterCIDR, ServiceCIDR: n.plan.ServiceCIDR, Link: n.plan.Link,
		EgressPort: egress.Port(), Cgroup: n.plan.CgroupName(),
		Layout: n.layout, Images: n.images,
	})
}

// serveCluster does what the cluster needs from a node's side: its DNS server,
// volumes, and the word that the node is ready.
func (n *node) serveCluster(ctx context.Context) error {
	client, err := waitAPI(ctx, n.api)
	if err != nil {
		return ifRunning(ctx, err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return ifRunning(ctx, storage.Run(ctx, client, storage.Nodes{
			Serves:  func(name string) bool { return name == n.o.Name },
			HostDir: n.layout.Volumes, NodeDir: inside.VolumesDir,
		}))
	})
	group.Go(func() error {
		if err := applyDNS(ctx, n.api, n.settings); err != nil {
			return ifRunning(ctx, err)
		}
		joined, err := waitReady(ctx, client, n.o.Name, n.started)
		if err != nil {
			return ifRunning(ctx, err)
		}
		ready := Ready{
			Name: n.o.Name, PID: os.Getpid(),
			HostAddress: n.plan.HostAddress().String(), NodeAddress: n.plan.NodeAddress().String(),
			PodCIDR: joined.Spec.PodCIDR, Milliseconds: time.Since(n.started).Milliseconds(),
		}
		slog.InfoContext(ctx, "node ready", "name", ready.Name, "address", ready.NodeAddress, "milliseconds", ready.Milliseconds)
		if n.o.ReadyFile == "" {
			return nil
		}
		return writeReady(n.o.ReadyFile, ready)
	})
	return group.Wait()
}

// ifRunning drops an error that only says that ctx has ended.
func ifRunning(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watchParent calls stop when the parent process has ended.
func watchParent(ctx context.Context, stop func()) error {
	parent := os.Getppid()
	pidfd, err := unix.PidfdOpen(parent, 0)
	if err != nil {
		return fmt.Errorf("watching the parent process: %w", err)
	}
	go func() {
		defer unix.Close(pidfd)
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for ctx.Err() == nil {
			// In turns, so that the goroutine ends with ctx.
			if n, err := unix.Poll(fds, 1000); n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
				stop()
				return
			}
		}
	}()
	// The parent may have ended before it was watched.
	if os.Getppid() != parent {
		stop()
	}
	return nil
}
