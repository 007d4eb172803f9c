package node_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/fairway-cd/fairway/cluster/node"
	"github.com/fairway-cd/fairway/cluster/node/image"
	"github.com/fairway-cd/fairway/cluster/pki"
)

// testRegistry pulls by the name that a user pushed to, over TLS and with the
// node's own password, which then changes.
func testRegistry(t *testing.T, i *instance) {
	r := newRegistry(t, i.ready.HostAddress)
	img, err := image.Build(probeSpec(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"first", "second"} {
		r.password.Store(&password)
		r.assertClosed(t)
		// Pushed over the registry's own address; a user says localhost:PORT.
		tag, err := name.NewTag(r.address + "/team/probe:" + password)
		if err != nil {
			t.Fatal(err)
		}
		err = remote.Write(tag, img, remote.WithTransport(r.transport), remote.WithAuth(&authn.Basic{Username: "node", Password: password}))
		if err != nil {
			t.Fatal(err)
		}
		err = node.WriteRegistries(i.nodeData(), []node.RegistryConfig{{
			Names:    []string{"localhost:" + r.port, "127.0.0.1:" + r.port},
			Endpoint: "https://" + r.address,
			CAFile:   r.caFile,
			Username: "node",
			Password: password,
		}})
		if err != nil {
			t.Fatal(err)
		}
		for index, host := range []string{"localhost", "127.0.0.1"} {
			pod := fmt.Sprintf("pulled-%s-%d", password, index)
			i.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  containers:
    - {name: probe, image: "%s:%s/team/probe:%s", imagePullPolicy: Always, args: [wait]}
`, pod, host, r.port, password))
			i.wait(t, "pod/"+pod, "condition=Ready")
		}
	}
}

// testServer is a registry that lets nobody in without the password.
type testServer struct {
	address   string
	port      string
	caFile    string
	password  atomic.Pointer[string]
	transport *http.Transport
}

func newRegistry(t *testing.T, ip string) *testServer {
	t.Helper()
	dir := t.TempDir()
	authority, err := pki.OpenAuthority(dir, "ca", "test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf := pki.Leaf{Name: "registry", CommonName: "registry", IPs: []net.IP{net.ParseIP(ip)}}
	if _, err := authority.Ensure(dir, leaf, time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(leaf.File(dir), leaf.File(dir))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.CertPEM())
	r := &testServer{
		address: listener.Addr().String(), caFile: filepath.Join(dir, "ca.crt"),
		transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
	}
	_, r.port, _ = net.SplitHostPort(r.address)
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := &httptest.Server{
		Listener: listener,
		TLS:      &tls.Config{Certificates: []tls.Certificate{pair}},
		Config: &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
			if user, password, ok := request.BasicAuth(); !ok || user != "node" || password != *r.password.Load() {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			inner.ServeHTTP(w, request)
		})},
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	t.Cleanup(r.transport.CloseIdleConnections)
	return r
}

// assertClosed sees that the test would fail without a credential.
func (r *testServer) assertClosed(t *testing.T) {
	t.Helper()
	client := http.Client{Transport: r.transport}
	response, err := client.Get("https://" + r.address + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Fatalf("anonymous: %s", response.Status)
	}
}
