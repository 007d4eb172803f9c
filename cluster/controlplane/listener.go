package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-cd/fairway/cluster/pki"
)

const acceptRetryDelay = 10 * time.Millisecond

// multiListener is one listener at several addresses, since the API server
// takes one. Its own address is the first.
type multiListener struct {
	accepted chan net.Conn
	done     chan struct{}

	mu        sync.Mutex
	closed    bool
	listeners map[netip.AddrPort]net.Listener
	first     net.Listener
}

var _ net.Listener = (*multiListener)(nil)

func newMultiListener(first net.Listener) *multiListener {
	m := &multiListener{
		accepted:  make(chan net.Conn),
		done:      make(chan struct{}),
		listeners: map[netip.AddrPort]net.Listener{},
		first:     first,
	}
	m.listeners[addrPort(first)] = first
	go m.accept(first)
	return m
}

// Add listens at one more address, which need not belong to this machine yet.
// An address that is listened at already is left as it is.
func (m *multiListener) Add(ctx context.Context, address netip.AddrPort) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return net.ErrClosed
	}
	if _, ok := m.listeners[address]; ok {
		return nil
	}
	config := net.ListenConfig{Control: freebind}
	l, err := config.Listen(ctx, "tcp", address.String())
	if err != nil {
		return fmt.Errorf("listening at %s: %w", address, err)
	}
	m.listeners[address] = l
	go m.accept(l)
	return nil
}

func (m *multiListener) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of file descriptors, or the client is gone already. Like
			// net/http: wait a little, the next one may be luckier.
			time.Sleep(acceptRetryDelay)
			continue
		}
		select {
		case m.accepted <- conn:
		case <-m.done:
			conn.Close()
			return
		}
	}
}

func (m *multiListener) Accept() (net.Conn, error) {
	select {
	case conn := <-m.accepted:
		return conn, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *multiListener) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	close(m.done)
	var errs []error
	for _, l := range m.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func (m *multiListener) Addr() net.Addr { return m.first.Addr() }

// addresses are all the addresses listened at, in order.
func (m *multiListener) addresses() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for address := range m.listeners {
		all = append(all, address.String())
	}
	slices.Sort(all)
	return all
}

func addrPort(l net.Listener) netip.AddrPort {
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// freebind lets a socket listen at an address that no interface has yet (see
// ip(7), IP_FREEBIND). It takes no privilege.
func freebind(network, _ string, conn syscall.RawConn) error {
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if network == "tcp6" {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	var err error
	controlErr := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), level, option, 1)
	})
	return errors.Join(controlErr, err)
}

// listen opens the API server's main socket. With port 0 it prefers the port
// of the run before, so that kubeconfigs that people copied stay good.
func listen(ctx context.Context, address string, port int, portFile string) (net.Listener, error) {
	var config net.ListenConfig
	at := func(port int) (net.Listener, error) {
		return config.Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	}
	l, err := listenAtLast(at, port, portFile)
	if err != nil {
		return nil, fmt.Errorf("listening for the API server: %w", err)
	}
	chosen := l.Addr().(*net.TCPAddr).Port
	if err := pki.WriteFile(portFile, []byte(strconv.Itoa(chosen)+"\n"), 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func listenAtLast(at func(int) (net.Listener, error), port int, portFile string) (net.Listener, error) {
	if port != 0 {
		return at(port)
	}
	if content, err := os.ReadFile(portFile); err == nil {
		if last, err := strconv.ParseUint(strings.TrimSpace(string(content)), 10, 16); err == nil && last != 0 {
			if l, err := at(int(last)); err == nil {
				return l, nil
			}
		}
	}
	return at(0)
}
