package controlplane

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func newTestListener(t *testing.T) *multiListener {
	t.Helper()
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := newMultiListener(first)
	t.Cleanup(func() { m.Close() })
	return m
}

func TestMultiListenerAcceptsAtEachAddress(t *testing.T) {
	m := newTestListener(t)
	first := addrPort(m.first)
	second := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), first.Port())
	for range 2 { // the second time it is there already
		if err := m.Add(t.Context(), second); err != nil {
			t.Fatal(err)
		}
	}
	for _, address := range []netip.AddrPort{first, second} {
		client, err := net.Dial("tcp", address.String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := m.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if got := server.LocalAddr().String(); got != address.String() {
			t.Errorf("a connection to %s came in at %s", address, got)
		}
	}
	if got := fmt.Sprint(m.addresses()); got != fmt.Sprint([]netip.AddrPort{first, second}) {
		t.Errorf("addresses are %s", got)
	}
}

func TestMultiListenerTakesAnAddressThatIsNotThereYet(t *testing.T) {
	m := newTestListener(t)
	for _, address := range []string{"192.0.2.77:0", "[2001:db8::77]:0"} {
		if err := m.Add(t.Context(), netip.MustParseAddrPort(address)); err != nil {
			t.Error(err)
		}
	}
}

func TestMultiListenerRefusesATakenAddress(t *testing.T) {
	m := newTestListener(t)
	taken := newTestListener(t)
	if err := m.Add(t.Context(), addrPort(taken.first)); err == nil {
		t.Error("two listen at one address")
	}
}

func TestMultiListenerClose(t *testing.T) {
	m := newTestListener(t)
	accepted := make(chan error, 1)
	go func() {
		_, err := m.Accept()
		accepted <- err
	}()
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept gave %v", err)
	}
	if _, err := net.Dial("tcp", m.Addr().String()); err == nil {
		t.Error("it still listens")
	}
	if err := m.Add(t.Context(), netip.MustParseAddrPort("127.0.0.3:0")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Add gave %v", err)
	}
}

func TestListenPrefersTheLastPort(t *testing.T) {
	file := filepath.Join(t.TempDir(), "port")
	first, err := listen(t.Context(), "127.0.0.1", 0, file)
	if err != nil {
		t.Fatal(err)
	}
	port := addrPort(first).Port()

	// While it is taken another is chosen.
	other, err := listen(t.Context(), "127.0.0.1", 0, file)
	if err != nil {
		t.Fatal(err)
	}
	if addrPort(other).Port() == port {
		t.Error("two listen at one port")
	}
	again := addrPort(other).Port()
	first.Close()
	other.Close()

	third, err := listen(t.Context(), "127.0.0.1", 0, file)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if got := addrPort(third).Port(); got != again {
		t.Errorf("listens at port %d, the last was %d", got, again)
	}
}

func TestListenBearsABrokenPortFile(t *testing.T) {
	for _, content := range []string{"", "x", "-1", "0", "65536", "99999999999999999999"} {
		file := filepath.Join(t.TempDir(), "port")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := listen(t.Context(), "127.0.0.1", 0, file)
		if err != nil {
			t.Errorf("%q: %v", content, err)
			continue
		}
		l.Close()
	}
}
