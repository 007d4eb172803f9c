package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// serve serves TLS with s, and returns how to see the certificate that a
// client who trusts ca alone is shown.
func serve(t *testing.T, s Source, name string, ca []byte) func() (*x509.Certificate, error) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Listener = tls.NewListener(server.Listener, Config(s))
	server.Start()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return func() (*x509.Certificate, error) {
		conn, err := tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name})
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0], nil
	}
}

func TestGeneratedCertificateIsTrusted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	a, err := Generate(dir, []string{"fairway.example", "192.0.2.7", "*.apps.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fairway.example", "192.0.2.7", "localhost", "127.0.0.1", "web.apps.example"} {
		if _, err := serve(t, a, name, a.CA())(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := serve(t, a, "other.example", a.CA())(); err == nil {
		t.Error("good for a name that was not asked for")
	}
	for _, name := range []string{authorityFile, servingFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if ca, err := os.ReadFile(a.CAPath()); err != nil || !bytes.Equal(ca, a.CA()) {
		t.Errorf("the CA's file is not what CA says: %v", err)
	}
}

func TestAuthorityStaysAndHostsMayChange(t *testing.T) {
	dir := t.TempDir()
	first, err := Generate(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Generate(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.serving.Load().Certificate[0], again.serving.Load().Certificate[0]) {
		t.Error("a good certificate was replaced")
	}
	more, err := Generate(dir, []string{"new.example"})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.CA(), more.CA()) {
		t.Error("another authority for another host")
	}
	if _, err := serve(t, more, "new.example", first.CA())(); err != nil {
		t.Error(err)
	}
}

func TestCertificateIsRenewedWhileServing(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	a, err := generate(t.TempDir(), nil, clock)
	if err != nil {
		t.Fatal(err)
	}
	shown := serve(t, a, "localhost", a.CA())
	before, err := shown()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	for !clock.HasWaiters() {
		time.Sleep(time.Millisecond)
	}
	clock.Step(servingLife - renewBefore + time.Minute)
	for a.serving.Load().Leaf.SerialNumber.Cmp(before.SerialNumber) == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	after := a.serving.Load().Leaf
	if !after.NotAfter.After(before.NotAfter) {
		t.Errorf("the new one ends at %v, the old one at %v", after.NotAfter, before.NotAfter)
	}
	// A start with an old file renews as well.
	clock.Step(servingLife)
	if b, err := generate(a.dir, nil, clock); err != nil || !b.serving.Load().Leaf.NotAfter.After(after.NotAfter) {
		t.Errorf("not renewed at the start: %v", err)
	}
}

func TestBrokenAuthorityIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, authorityFile), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Generate(dir, nil); err == nil {
		t.Error("replaced")
	}
}

func TestBrokenServingCertificateIsReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, servingFile), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Generate(dir, nil); err != nil {
		t.Error(err)
	}
}

func TestHostsAreChecked(t *testing.T) {
	for _, host := range []string{"", "a b", "https://x", "x:80"} {
		if _, err := Generate(t.TempDir(), []string{host}); err == nil {
			t.Errorf("%q is taken for a host", host)
		}
	}
}

func TestFilesAreReloaded(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	first, err := Generate(one, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Generate(two, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(one, servingFile) // holds both
	f, err := Load(path, path)
	if err != nil {
		t.Fatal(err)
	}
	f.watcher.WithWatchInterval(10 * time.Millisecond)
	if _, err := serve(t, f, "localhost", first.CA())(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	if err := os.Rename(filepath.Join(two, servingFile), path); err != nil {
		t.Fatal(err)
	}
	before, after := first.serving.Load().Certificate[0], []byte(nil)
	for after == nil || bytes.Equal(before, after) {
		time.Sleep(10 * time.Millisecond)
		pair, err := f.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		after = pair.Certificate[0]
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestLoadSaysWhichFile(t *testing.T) {
	if _, err := Load("/nowhere/cert.pem", "/nowhere/key.pem"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestNeedsTLS(t *testing.T) {
	for address, needs := range map[string]bool{
		"127.0.0.1:80": false, "[::1]:80": false, "127.9.9.9:80": false,
		"0.0.0.0:80": true, "[::]:80": true, "192.0.2.1:80": true, ":80": true,
	} {
		addr, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := NeedsTLS(addr); got != needs {
			t.Errorf("%s: needs TLS: %v", address, got)
		}
	}
	if NeedsTLS(&net.UnixAddr{Name: "/run/x", Net: "unix"}) {
		t.Error("a unix socket needs TLS")
	}
}
