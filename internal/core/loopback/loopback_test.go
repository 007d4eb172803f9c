package loopback_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core/loopback"
)

func TestNamed(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost": true, "localhost.": true, "registry.localhost": true, "a.b.localhost.": true,
		"": false, ".": false, "localhost.example.com": false, "notlocalhost": false, "127.0.0.1": false, "::1": false, "localhost..": false,
	} {
		if loopback.Named(host) != want {
			t.Errorf("Named(%q) = %v", host, !want)
		}
	}
}

// noResolver is a dialer that cannot look anything up.
func noResolver(t *testing.T) loopback.DialContext {
	return (&net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("a name server is asked")
		return nil, errors.New("there is no name server")
	}}}).DialContext
}

func TestNamesOfThisMachineAreNotLookedUp(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "[::1]"} {
		l, err := net.Listen("tcp", ip+":0")
		if err != nil {
			t.Logf("no %s here: %v", ip, err)
			continue
		}
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"localhost", "LOCALHOST.", "registry.localhost"} {
			conn, err := loopback.Dial(noResolver(t))(t.Context(), "tcp", net.JoinHostPort(name, port))
			if err != nil {
				t.Errorf("%s at %s: %v", name, ip, err)
				continue
			}
			if got := conn.RemoteAddr().String(); got != l.Addr().String() {
				t.Errorf("%s is %s, want %s", name, got, l.Addr())
			}
			conn.Close()
		}
		l.Close()
		var refused *net.OpError
		if _, err := loopback.Dial(noResolver(t))(t.Context(), "tcp", net.JoinHostPort("localhost", port)); !errors.As(err, &refused) {
			t.Errorf("nobody listens: %v", err)
		}
	}
}

// What is not this machine's goes on as it is.
func TestOthersAreDialedAsTheyAre(t *testing.T) {
	var dialed []string
	dial := loopback.Dial(func(_ context.Context, network, address string) (net.Conn, error) {
		dialed = append(dialed, network+" "+address)
		return nil, net.ErrClosed
	})
	for _, address := range []string{"example.com:443", "10.0.0.1:80", "no port"} {
		if _, err := dial(t.Context(), "tcp4", address); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	if got := strings.Join(dialed, ", "); got != "tcp4 example.com:443, tcp4 10.0.0.1:80, tcp4 no port" {
		t.Error(got)
	}
}

// asBare makes the test binary one that only dials the address.
const asBare = "FAIRWAY_LOOPBACK_TEST_DIAL"

func TestMain(m *testing.M) {
	if address := os.Getenv(asBare); address != "" {
		dial := loopback.Dial((&net.Dialer{}).DialContext)
		if _, err := dial(context.Background(), "tcp", address); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A machine has neither /etc/hosts nor a name server.
func TestABareMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bare := func(script string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--map-root-user", "sh", "-c",
			"for f in /etc/hosts /etc/resolv.conf; do mount --bind /dev/null $f || exit 2; done; "+script, self)
		cmd.Env = append(os.Environ(), asBare+"=localhost:"+port)
		return cmd
	}
	if out, err := bare("true").CombinedOutput(); err != nil {
		t.Skipf("this machine does not let us mount: %v: %s", err, out)
	}
	if out, err := bare(`exec "$0"`).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
