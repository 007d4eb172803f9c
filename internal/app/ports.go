package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"
)

const (
	// DefaultPort is tried first for an instance that was given none.
	DefaultPort = 8420
	// clusterPort is tried first for the embedded API server.
	clusterPort = 16443
	// portTimeout is how long a port may still be taken by what was just
	// killed.
	portTimeout = 5 * time.Second
	// mostPorts is how many are tried for the embedded API server in one start,
	// where others take them between their choice and their use.
	mostPorts = 4
)

// choosePorts settles the ports of an instance that has none yet, so that
// they stay what they are from then on: its URLs are in people's remotes. What
// cannot be had is said now, not when everything else has started.
func (i *Instance) choosePorts(ctx context.Context) error {
	if i.Config.Port == 0 {
		port, err := freePort(DefaultPort, 50)
		if err != nil {
			return err
		}
		i.Config.Port = port
	}
	if err := await(ctx, loopback(i.Config.Port)); err != nil {
		return &StartError{fmt.Sprintf("port %d cannot be taken: %v", i.Config.Port, err), "choose another with --port"}
	}
	for _, address := range i.Config.Listen {
		if err := await(ctx, address); err != nil {
			return &StartError{fmt.Sprintf("%s cannot be listened on: %v", address, err), "see --listen"}
		}
	}
	if i.Config.Kubeconfig == "" {
		if err := i.chooseClusterPort(ctx); err != nil {
			return err
		}
	}
	return i.Save()
}

// chooseClusterPort keeps the embedded API server's port where it can. Nobody
// chose it, and everybody reads it from a kubeconfig that is written at each
// start: where somebody else took it meanwhile, it is another one.
func (i *Instance) chooseClusterPort(ctx context.Context) error {
	if i.Config.ClusterPort != 0 {
		err := await(ctx, loopback(i.Config.ClusterPort))
		if err == nil {
			return nil
		}
		slog.Warn("the API server's port is taken, choosing another", "port", i.Config.ClusterPort, "error", err)
	}
	port, err := freePort(clusterPort, 200)
	if err != nil {
		return err
	}
	i.Config.ClusterPort = port
	return nil
}

// clusterPortTaken says whether somebody listens where the embedded API server
// was to. It was free when it was chosen, but the API server does not listen
// before its store is open.
func (i *Instance) clusterPortTaken(plan nodePlan) bool {
	addresses := []string{loopback(i.Config.ClusterPort)}
	if plan.real {
		addresses = append(addresses, net.JoinHostPort(plan.HostAddress, strconv.Itoa(i.Config.ClusterPort)))
	}
	for _, address := range addresses {
		l, err := net.Listen("tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return true
		}
		if err == nil {
			_ = l.Close()
		}
	}
	return false
}

// nextClusterPort chooses another port for the embedded API server, which
// could not have its own.
func (i *Instance) nextClusterPort(why error) error {
	slog.Warn("the API server's port was taken meanwhile, choosing another", "port", i.Config.ClusterPort, "error", why)
	port, err := freePort(i.Config.ClusterPort+1, 200)
	if err != nil {
		return err
	}
	i.Config.ClusterPort = port
	return i.Save()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// await waits for portTimeout until the address can be listened on. Whatever
// is wrong beyond its being taken is returned at once.
func await(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, portTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return l.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// freePort is the first port from from on that nobody listens on.
func freePort(from, tries int) (int, error) {
	for port := from; port < from+tries; port++ {
		l, err := net.Listen("tcp", loopback(port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("looking for a free port: %w", err)
		}
		return port, l.Close()
	}
	return 0, &StartError{fmt.Sprintf("no free port from %d to %d", from, from+tries-1), "choose one with --port"}
}
