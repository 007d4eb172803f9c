package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NodeLink is the name of the link inside the node's namespace.
const NodeLink = "eth0"

// Used returns the networks that this machine has routes or addresses for,
// save the default route.
func Used() ([]netip.Prefix, error) {
	// Table 0 stands for all tables: a VPN may keep its routes in its own.
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	var used []netip.Prefix
	for _, r := range routes {
		if prefix, ok := toPrefix(r.Dst); ok && prefix.Bits() > 0 {
			used = append(used, prefix)
		}
	}
	return used, nil
}

func toPrefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP.To4())
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr, bits), ok
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// Connect joins the network namespace of process pid to the host. Everything
// it makes goes away with that namespace.
func Connect(p Plan, pid int) error {
	node, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("opening the node's network namespace: %w", err)
	}
	defer node.Close()
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: p.LinkName()},
		PeerName:      NodeLink,
		PeerNamespace: netlink.NsFd(node),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("adding link %s: %w", p.LinkName(), err)
	}
	if err := connectNode(p, node); err != nil {
		return err
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink: %w", err)
	}
	defer host.Close()
	if err := configure(host, p.LinkName(), netip.PrefixFrom(p.HostAddress(), linkBits)); err != nil {
		return err
	}
	return route(host, p.LinkName(), p.NodeAddress(), p.ClusterCIDR, p.ServiceCIDR)
}

func connectNode(p Plan, node netns.NsHandle) error {
	inside, err := netlink.NewHandleAt(node, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("opening netlink in the node's namespace: %w", err)
	}
	defer inside.Close()
	if err := configure(inside, "lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil {
		return err
	}
	if err := configure(inside, NodeLink, netip.PrefixFrom(p.NodeAddress(), linkBits)); err != nil {
		return err
	}
	// What no pod has must not be sent back to the host, whose routes point here.
	for _, own := range []netip.Prefix{p.ClusterCIDR, p.ServiceCIDR} {
		unreachable := &netlink.Route{Dst: toIPNet(own), Type: unix.RTN_UNREACHABLE, Priority: 1 << 20}
		if err := inside.RouteAdd(unreachable); err != nil {
			return fmt.Errorf("making %s unreachable in the node: %w", own, err)
		}
	}
	return route(inside, NodeLink, p.HostAddress(), netip.MustParsePrefix("0.0.0.0/0"))
}

// configure gives a link its address and sets it up.
func configure(h *netlink.Handle, name string, address netip.Prefix) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	err = h.AddrAdd(link, &netlink.Addr{IPNet: toIPNet(address)})
	// The loopback link gets its address from the kernel, on some of them.
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("giving %s the address %s: %w", name, address, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting link %s up: %w", name, err)
	}
	return nil
}

func route(h *netlink.Handle, name string, via netip.Addr, to ...netip.Prefix) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding link %s: %w", name, err)
	}
	for _, dst := range to {
		r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: toIPNet(dst), Gw: via.AsSlice()}
		if err := h.RouteAdd(r); err != nil {
			return fmt.Errorf("routing %s over %s: %w", dst, name, err)
		}
	}
	return nil
}

// Disconnect removes the host's end of the link, and with it the pair and its
// routes. It is no error where there is none.
func Disconnect(p Plan) error {
	link, err := netlink.LinkByName(p.LinkName())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("finding link %s: %w", p.LinkName(), err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("deleting link %s: %w", p.LinkName(), err)
	}
	return nil
}

// Inside calls f in the network namespace of process pid. Sockets that f opens
// belong to that namespace wherever they are used later; f must not start
// goroutines that open others.
func Inside(pid int, f func() error) error {
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that no other
		// goroutine ever runs on a thread in the wrong namespace.
		runtime.LockOSThread()
		result <- func() error {
			node, err := netns.GetFromPid(pid)
			if err != nil {
				return fmt.Errorf("opening the node's network namespace: %w", err)
			}
			defer node.Close()
			if err := netns.Set(node); err != nil {
				return fmt.Errorf("entering the node's network namespace: %w", err)
			}
			return f()
		}()
	}()
	return <-result
}
