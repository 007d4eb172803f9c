package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxEgress bounds the connections that pods may hold beyond the cluster.
	maxEgress     = 4096
	egressTimeout = 20 * time.Second
	// acceptRetryDelay follows a failed accept: at once, it would fail again.
	acceptRetryDelay = 10 * time.Millisecond
)

// Egress is the way of TCP out of the node. The node's packet filter redirects
// connections that leave the cluster to a listener in the node's namespace;
// each is dialled again from the host's. So whatever the host reaches, through
// VPNs and its own addresses, pods reach too, and nothing on the host is
// changed for it.
//
// A connection is accepted before it is known whether its destination answers:
// one that does not is reset.
type Egress struct {
	listener *net.TCPListener
	dialer   net.Dialer
}

// ListenEgress opens the listener inside the namespace of process pid.
func ListenEgress(ctx context.Context, pid int) (*Egress, error) {
	e := &Egress{dialer: net.Dialer{Timeout: egressTimeout}}
	err := Inside(pid, func() error {
		var config net.ListenConfig
		l, err := config.Listen(ctx, "tcp4", "0.0.0.0:0")
		if err != nil {
			return err
		}
		e.listener = l.(*net.TCPListener)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listening for connections out of the node: %w", err)
	}
	return e, nil
}

// Port is what the packet filter redirects to.
func (e *Egress) Port() uint16 { return e.listener.Addr().(*net.TCPAddr).AddrPort().Port() }

// Run carries connections until ctx ends.
func (e *Egress) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { e.listener.Close() })
	defer stop()
	defer e.listener.Close()
	slots := make(chan struct{}, maxEgress)
	for {
		conn, err := e.listener.AcceptTCP()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accepting connections out of the node: %w", err)
		}
		if err != nil {
			// Out of file descriptors, or the client is gone already.
			slog.WarnContext(ctx, "connection out of the node not accepted", "error", err)
			time.Sleep(acceptRetryDelay)
			continue
		}
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				e.carry(ctx, conn)
			}()
		default:
			reset(conn)
		}
	}
}

func (e *Egress) carry(ctx context.Context, inside *net.TCPConn) {
	to, err := originalDestination(inside)
	// A connection that was not redirected was made to this listener itself;
	// to dial it would come back here.
	if err != nil || to == inside.LocalAddr().(*net.TCPAddr).AddrPort() || to.Addr().IsLoopback() {
		reset(inside)
		return
	}
	outside, err := e.dialer.DialContext(ctx, "tcp4", to.String())
	if err != nil {
		slog.DebugContext(ctx, "destination beyond the node not reached", "destination", to, "error", err)
		reset(inside)
		return
	}
	stop := context.AfterFunc(ctx, func() { inside.Close() })
	defer stop()
	splice(inside, outside.(*net.TCPConn))
}

// reset closes a connection so that its client sees an error, not an end.
func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	conn.Close()
}

// originalDestination is where a redirected connection wanted to go, as the
// kernel's connection tracking remembers it (SO_ORIGINAL_DST).
func originalDestination(conn *net.TCPConn) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var (
		address unix.RawSockaddrInet4
		errno   unix.Errno
	)
	size := uint32(unsafe.Sizeof(address))
	err = raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_IP, unix.SO_ORIGINAL_DST,
			uintptr(unsafe.Pointer(&address)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("asking for a connection's destination: %w", err)
	}
	port := (*[2]byte)(unsafe.Pointer(&address.Port)) // in network order
	return netip.AddrPortFrom(netip.AddrFrom4(address.Addr), uint16(port[0])<<8|uint16(port[1])), nil
}
