package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	dnsPort = 53
	// maxDNS bounds the queries and connections under way.
	maxDNS = 256
	// dnsTimeout is how long one of the host's servers may take. CoreDNS gives
	// up after 5 s, so that two of them can be asked.
	dnsTimeout = 2 * time.Second
	// maxMessage is the largest DNS message.
	maxMessage = 65535
)

// DNS carries queries that leave the cluster to the host's DNS servers, also
// to one at the host's loopback address, as systemd-resolved's. It listens in
// the node's namespace and asks from the host's. What it carries it does not
// read.
type DNS struct {
	packets *net.UDPConn
	streams *net.TCPListener
	// resolvConf is read for each query, so that a laptop that changes its
	// network keeps its names.
	resolvConf string
}

// ListenDNS opens port 53 of address inside the namespace of process pid.
func ListenDNS(ctx context.Context, pid int, address netip.Addr, resolvConf string) (*DNS, error) {
	d := &DNS{resolvConf: resolvConf}
	err := Inside(pid, func() error {
		at := netip.AddrPortFrom(address, dnsPort)
		var err error
		if d.packets, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)); err != nil {
			return err
		}
		if d.streams, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)); err != nil {
			d.packets.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening for DNS queries in the node: %w", err)
	}
	return d, nil
}

// Run carries queries until ctx ends.
func (d *DNS) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		d.packets.Close()
		d.streams.Close()
	})
	defer stop()
	slots := make(chan struct{}, maxDNS)
	group.Go(func() error { return d.runPackets(ctx, slots) })
	group.Go(func() error { return d.runStreams(ctx, slots) })
	return group.Wait()
}

func (d *DNS) runPackets(ctx context.Context, slots chan struct{}) error {
	buffer := make([]byte, maxMessage)
	for {
		n, from, err := d.packets.ReadFromUDPAddrPort(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("receiving DNS queries: %w", err)
		}
		if err != nil {
			time.Sleep(acceptRetryDelay)
			continue
		}
		select {
		case slots <- struct{}{}:
			query := append([]byte(nil), buffer[:n]...)
			go func() {
				defer func() { <-slots }()
				if answer, err := d.ask(ctx, query); err != nil {
					slog.DebugContext(ctx, "DNS query not answered", "error", err)
				} else {
					_, _ = d.packets.WriteToUDPAddrPort(answer, from)
				}
			}()
		default: // Too many: the client asks again.
		}
	}
}

// ask puts one query to the host's servers, one after the other.
func (d *DNS) ask(ctx context.Context, query []byte) ([]byte, error) {
	servers, err := nameservers(d.resolvConf)
	if err != nil {
		return nil, err
	}
	err = errors.New("the host has no DNS server")
	for _, server := range servers {
		var answer []byte
		if answer, err = askOne(ctx, server, query); err == nil {
			return answer, nil
		}
	}
	return nil, err
}

func askOne(ctx context.Context, server netip.AddrPort, query []byte) ([]byte, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", server.String())
	if err != nil {
		return nil, fmt.Errorf("asking DNS server %s: %w", server, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dnsTimeout)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(query); err != nil {
		return nil, fmt.Errorf("asking DNS server %s: %w", server, err)
	}
	answer := make([]byte, maxMessage)
	n, err := conn.Read(answer)
	if err != nil {
		return nil, fmt.Errorf("hearing DNS server %s: %w", server, err)
	}
	return answer[:n], nil
}

func (d *DNS) runStreams(ctx context.Context, slots chan struct{}) error {
	for {
		conn, err := d.streams.AcceptTCP()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accepting DNS connections: %w", err)
		}
		if err != nil {
			time.Sleep(acceptRetryDelay)
			continue
		}
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				d.carry(ctx, conn)
			}()
		default:
			reset(conn)
		}
	}
}

func (d *DNS) carry(ctx context.Context, inside *net.TCPConn) {
	servers, err := nameservers(d.resolvConf)
	if err != nil {
		slog.WarnContext(ctx, "host's DNS servers not known", "error", err)
	}
	dialer := net.Dialer{Timeout: dnsTimeout}
	for _, server := range servers {
		outside, err := dialer.DialContext(ctx, "tcp", server.String())
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { inside.Close() })
		defer stop()
		// One query and its answer, or a few of them; not a connection for ever.
		deadline := time.Now().Add(10 * dnsTimeout)
		_ = errors.Join(inside.SetDeadline(deadline), outside.SetDeadline(deadline))
		splice(inside, outside.(*net.TCPConn))
		return
	}
	reset(inside)
}

// nameservers reads the servers of a resolv.conf (see resolv.conf(5)).
func nameservers(file string) ([]netip.AddrPort, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the host's DNS servers: %w", err)
	}
	defer f.Close()
	var servers []netip.AddrPort
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if address, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(address, dnsPort))
		}
	}
	return servers, nil
}
