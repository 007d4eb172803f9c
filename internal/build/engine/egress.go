package engine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/pkg/oci"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/util/network"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// egress is the way out for the proxy of a build: the network of this machine,
// but for this machine. A container that is put into it without a proxy has no
// network at all.
type egress struct{}

var (
	_ network.Provider  = (*egress)(nil)
	_ network.Namespace = (*egress)(nil)
	_ network.Dialer    = (*egress)(nil)
)

// New implements network.Provider.
func (e *egress) New(context.Context, string, network.NamespaceOptions) (network.Namespace, error) {
	return e, nil
}

// Close implements network.Provider and network.Namespace.
func (e *egress) Close() error { return nil }

// Set implements network.Namespace: a namespace of its own, with nothing in it.
func (e *egress) Set(s *specs.Spec) error {
	return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace})(nil, nil, nil, s)
}

// Sample implements network.Namespace.
func (e *egress) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }

// DialContext implements network.Dialer. The address is judged after the name
// was resolved, by the socket that is about to be connected: no name can say
// one thing and mean another.
func (e *egress) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("a build may not reach %s: %w", address, err)
		}
		return permit(at.Addr())
	}}
	return d.DialContext(ctx, network, address)
}

// ForbiddenError says that a build may not reach an address.
type ForbiddenError struct{ Addr netip.Addr }

func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("a build may not reach %s, which is this machine's or its network's own", e.Addr)
}

// permit refuses what is this machine's, or means something to it only:
// loopback, link-local (where clouds have their metadata), multicast and its own
// addresses.
func permit(addr netip.Addr) error {
	addr = addr.Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast() {
		return &ForbiddenError{addr}
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list the addresses of this machine: %w", err)
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == addr {
			return &ForbiddenError{addr}
		}
	}
	return nil
}
