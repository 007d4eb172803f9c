package node_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/dns/dnsmessage"
)

// beyond is a machine that the host reaches and the node has no route to: a
// network namespace with a web server and a DNS server.
type beyond struct {
	address    string
	resolvConf string
}

// Of the blocks for documentation (RFC 5737), which no real network has.
const (
	beyondLink    = "fwt-beyond"
	beyondHost    = "198.51.100.1/30"
	beyondAddress = "198.51.100.2"
	beyondName    = "somewhere.example."
	beyondAnswer  = "203.0.113.7"
)

func newBeyond(t *testing.T) *beyond {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a real node is optional: not root")
	}
	b := &beyond{address: beyondAddress, resolvConf: filepath.Join(t.TempDir(), "resolv.conf")}
	if err := os.WriteFile(b.resolvConf, []byte("nameserver "+beyondAddress+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	web, dns, err := listenBeyond()
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(beyondLink); err == nil {
			_ = netlink.LinkDel(link)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "beyond sees %s", host(r.RemoteAddr))
	})}
	go func() { _ = server.Serve(web) }()
	t.Cleanup(func() { server.Close() })
	go serveDNS(dns)
	t.Cleanup(func() { dns.Close() })
	return b
}

// listenBeyond makes the namespace and opens sockets in it, which keep it alive.
func listenBeyond() (web net.Listener, dns net.PacketConn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		err = func() error {
			hostNS, err := netns.Get()
			if err != nil {
				return err
			}
			defer hostNS.Close()
			ns, err := netns.New()
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := connectBeyond(hostNS, ns); err != nil {
				return err
			}
			if web, err = net.Listen("tcp4", beyondAddress+":80"); err != nil {
				return err
			}
			dns, err = net.ListenPacket("udp4", beyondAddress+":53")
			return err
		}()
	}()
	<-done
	return web, dns, err
}

func connectBeyond(hostNS, ns netns.NsHandle) error {
	host, err := netlink.NewHandleAt(hostNS)
	if err != nil {
		return err
	}
	defer host.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: beyondLink}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
	return errors.Join(
		host.LinkAdd(pair),
		up(host, beyondLink, beyondHost),
		up(inside, "eth0", beyondAddress+"/30"),
	)
}

func up(h *netlink.Handle, name, address string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(h.AddrAdd(link, a), h.LinkSetUp(link))
}

// serveDNS answers every question with one address.
func serveDNS(conn net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		var message dnsmessage.Message
		if message.Unpack(buffer[:n]) != nil || len(message.Questions) != 1 {
			continue
		}
		question := message.Questions[0]
		message.Response, message.RecursionAvailable = true, true
		message.Additionals = nil
		if question.Name.String() != beyondName {
			message.RCode = dnsmessage.RCodeNameError
		} else if question.Type == dnsmessage.TypeA {
			answer := dnsmessage.AResource{A: [4]byte(net.ParseIP(beyondAnswer).To4())}
			message.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Type: question.Type, Class: question.Class, TTL: 60},
				Body:   &answer,
			}}
		}
		if answer, err := message.Pack(); err == nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

// testEgress reaches the host and what is beyond it from a pod.
func (b *beyond) testEgress(t *testing.T, i *instance) {
	if got := i.exec(t, "client", "get", "http://"+b.address); got != "beyond sees "+host(beyondHost) {
		t.Errorf("beyond the host: %q", got)
	}
	listener, err := net.Listen("tcp4", i.ready.HostAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "the host sees %s", host(r.RemoteAddr))
	})}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	if got := i.exec(t, "client", "get", "http://"+listener.Addr().String()); got != "the host sees "+i.ready.NodeAddress {
		t.Errorf("the host: %q", got)
	}
	// Nobody listens there: an error, not a connection that hangs.
	if out, err := i.tryKubectl(nil, "exec", "client", "--", "/probe", "get", "http://"+b.address+":81"); err == nil {
		t.Errorf("a port that nobody listens at: %q", out)
	}
}

// testNames resolves names of the cluster and of the world.
func (b *beyond) testNames(t *testing.T, i *instance) {
	i.kubectl(t, "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout="+patience.String())
	for name, want := range map[string]string{
		"kubernetes.default":                i.get(t, "service/kubernetes", "{.spec.clusterIP}"),
		"web":                               i.get(t, "service/web", "{.spec.clusterIP}"),
		"web.default.svc.cluster.local":     i.get(t, "service/web", "{.spec.clusterIP}"),
		strings.TrimSuffix(beyondName, "."): beyondAnswer,
	} {
		if got := strings.TrimSpace(i.exec(t, "client", "lookup", name)); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
	if out, err := i.tryKubectl(nil, "exec", "client", "--", "/probe", "lookup", "nowhere.example"); err == nil {
		t.Errorf("a name that is not there: %q", out)
	}
}

func host(address string) string {
	h, _, err := net.SplitHostPort(address)
	if err != nil {
		h, _, _ = strings.Cut(address, "/")
	}
	return h
}
