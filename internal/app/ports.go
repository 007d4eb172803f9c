package app

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// DefaultPort is tried first for an instance that was given none.
const DefaultPort = 8420

// choosePorts settles the ports of an instance that has none yet, so that
// they stay what they are from then on: its URLs are in people's remotes.
func (i *Instance) choosePorts() error {
	if i.Config.Port == 0 {
		port, err := freePort(DefaultPort, 50)
		if err != nil {
			return err
		}
		i.Config.Port = port
	}
	if i.Config.ClusterPort == 0 && i.Config.Kubeconfig == "" {
		port, err := freePort(16443, 200)
		if err != nil {
			return err
		}
		i.Config.ClusterPort = port
	}
	return i.Save()
}

// freePort is the first port from from on that nobody listens on.
func freePort(from, tries int) (int, error) {
	for port := from; port < from+tries; port++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
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
