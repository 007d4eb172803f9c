// Package controlplane runs the whole of a Kubernetes control plane in this
// process: etcd, API server, controller manager, scheduler, and KWOK for
// simulated nodes.
//
// Upstream keeps process-wide registries, so a process runs one control plane
// and one only, and it runs nothing else.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	// Deadlines for a clean stop, part by part. What is not done by then ends
	// with the process: all state is in etcd, which is safe at any time.
	stopControllersTimeout = time.Second
	stopAPIServerTimeout   = 3 * time.Second
	// renewInterval is how often the certificates' ends are looked at.
	renewInterval = 12 * time.Hour
)

// Run starts a control plane on o.Data, reports when it is ready, and runs
// until ctx ends, when it returns nil, or until one of its parts fails. It
// changes the working directory of the process to o.Data.
func Run(ctx context.Context, o *Options) error {
	started := time.Now()
	collect(ctx)
	if err := o.complete(); err != nil {
		return err
	}
	if o.DieWithParent {
		if err := dieWithParent(); err != nil {
			return err
		}
	}
	if err := makePrivate(o.Data); err != nil {
		return err
	}
	lock, err := lockData(o.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := os.Chdir(o.Data); err != nil {
		return fmt.Errorf("entering the data directory: %w", err)
	}

	p := &plane{options: o, started: started}
	defer p.stop()
	if err := p.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return p.wait(ctx)
}

// makePrivate makes a directory that only this user may enter: what etcd
// serves in there asks nobody for a name.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("keeping others out of the data directory: %w", err)
	}
	return nil
}

// plane is one running control plane.
type plane struct {
	options     *Options
	started     time.Time
	credentials *credentials
	client      kubernetes.Interface

	listener    *multiListener
	etcd        *etcd
	apiServer   *part
	controllers []*part
}

func (p *plane) start(ctx context.Context) error {
	serviceIP, err := firstServiceIP(p.options.ServiceCIDR)
	if err != nil {
		return err
	}
	if p.credentials, err = openCredentials(p.options, serviceIP, time.Now()); err != nil {
		return err
	}
	if err := p.startServers(ctx); err != nil {
		return err
	}
	if err := waitServing(ctx, p.client, p.apiServer); err != nil {
		return err
	}
	if err := p.writeReady(p.options.ServingFile); err != nil {
		return err
	}
	if err := waitReady(ctx, p.client, p.apiServer); err != nil {
		return err
	}
	p.startControllers()
	if err := waitUsable(ctx, p.client, p.options.KwokNodes, p.failed); err != nil {
		return err
	}
	return p.report()
}

// startServers starts etcd and the API server beside each other: the latter
// works for half a second before it asks etcd for anything, and waits where it
// has to.
func (p *plane) startServers(ctx context.Context) error {
	var group errgroup.Group
	group.Go(func() (err error) {
		p.etcd, err = startEtcd(ctx, filepath.Join(p.options.Data, "etcd"), p.options.UnsafeNoFsync)
		return err
	})
	group.Go(func() error { return p.startAPIServer(ctx) })
	return group.Wait()
}

func (p *plane) startAPIServer(ctx context.Context) error {
	first, err := listen(ctx, p.options.Address, p.options.Port, filepath.Join(p.options.Data, "port"))
	if err != nil {
		return err
	}
	p.listener = newMultiListener(first)
	port := addrPort(first).Port()
	for _, also := range p.options.AlsoListen {
		address, err := parseListenAddress(also, port)
		if err != nil {
			return fmt.Errorf("--also-listen: %w", err)
		}
		if err := p.listener.Add(ctx, address); err != nil {
			return err
		}
	}
	if err := p.credentials.writeKubeconfigs(p.server()); err != nil {
		return err
	}
	if p.client, err = adminClient(p.credentials.adminKubeconfig()); err != nil {
		return err
	}
	run, err := newAPIServer(ctx, p.options, p.credentials, p.listener)
	if err != nil {
		return err
	}
	p.apiServer = startPart("API server", run)
	return nil
}

func (p *plane) startControllers() {
	o, c := p.options, p.credentials
	p.controllers = append(p.controllers,
		startPart("controller manager", func(ctx context.Context) error { return runControllerManager(ctx, o, c) }),
		startPart("scheduler", func(ctx context.Context) error { return runScheduler(ctx, c) }),
		startPart("simulated nodes", func(ctx context.Context) error { return runKwokNodes(ctx, o, p.client) }),
		startPart("certificate renewal", p.renewCertificates),
	)
	if o.KwokNodes > 0 {
		p.controllers = append(p.controllers,
			startPart("KWOK", func(ctx context.Context) error { return runKwok(ctx, o, c) }),
			startPart("simulated volumes", func(ctx context.Context) error { return runKwokVolumes(ctx, p.client) }))
	}
}

// server is the API server's URL on this machine.
func (p *plane) server() string {
	address := addrPort(p.listener.first)
	host := address.Addr().Unmap().String()
	if address.Addr().IsUnspecified() {
		host = "127.0.0.1"
	}
	return "https://" + net.JoinHostPort(host, fmt.Sprint(address.Port()))
}

func (p *plane) renewCertificates(ctx context.Context) error {
	ticker := time.NewTicker(renewInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			err := errors.Join(p.credentials.renew(now), p.credentials.writeKubeconfigs(p.server()))
			if err != nil {
				klog.FromContext(ctx).Error(err, "Renewing certificates")
			}
		}
	}
}

// failed is the error of the first part that ended unasked, or nil.
func (p *plane) failed() error {
	for _, part := range append([]*part{p.apiServer}, p.controllers...) {
		if err, ended := part.ended(); ended {
			return err
		}
	}
	select {
	case err := <-p.etcd.Err():
		return fmt.Errorf("etcd: %w", err)
	default:
		return nil
	}
}

// wait blocks until ctx ends or a part does.
func (p *plane) wait(ctx context.Context) error {
	ended := make(chan error, len(p.controllers)+2)
	for _, part := range append([]*part{p.apiServer}, p.controllers...) {
		go func() {
			<-part.done
			err, _ := part.ended()
			ended <- err
		}()
	}
	go func() { ended <- fmt.Errorf("etcd: %w", <-p.etcd.Err()) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

// stop ends the parts in the order in which they depend on each other.
func (p *plane) stop() {
	stopParts(stopControllersTimeout, p.controllers...)
	if p.apiServer != nil {
		stopParts(stopAPIServerTimeout, p.apiServer)
	}
	if p.listener != nil {
		p.listener.Close()
	}
	if p.etcd != nil {
		p.etcd.stop()
	}
}

func adminClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the administrator's kubeconfig: %w", err)
	}
	config.QPS = -1 // no limit
	rest.AddUserAgent(config, "fairway-cluster")
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making the administrator's client: %w", err)
	}
	return client, nil
}
