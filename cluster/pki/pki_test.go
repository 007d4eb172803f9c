package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

var now = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

func openTestAuthority(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := OpenAuthority(dir, "ca", "test-ca", now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLeafIsTrustedByItsAuthorityAlone(t *testing.T) {
	dir := t.TempDir()
	a := openTestAuthority(t, dir)
	leaf := Leaf{Name: "server", CommonName: "server", DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if _, err := a.Ensure(dir, leaf, now); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(leaf.File(dir), leaf.File(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		pem    []byte
		trusts bool
	}{
		{"its authority", a.CertPEM(), true},
		{"another of the same name", openTestAuthority(t, t.TempDir()).CertPEM(), false},
	} {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(test.pem)
		for _, host := range []string{"localhost", "127.0.0.1"} {
			_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host, CurrentTime: now.Add(time.Hour)})
			if (err == nil) != test.trusts {
				t.Errorf("%s, host %s: %v", test.name, host, err)
			}
		}
	}
}

func TestEnsureReplacesWhatNoLongerServes(t *testing.T) {
	base := Leaf{Name: "leaf", CommonName: "user", Organizations: []string{"group"}}
	with := func(change func(*Leaf)) Leaf {
		l := base
		change(&l)
		return l
	}
	for _, test := range []struct {
		name    string
		leaf    Leaf
		at      time.Time
		corrupt string
		written bool
	}{
		{name: "the same again", leaf: base, at: now.Add(time.Hour)},
		{name: "just before it is due", leaf: base, at: now.Add(LeafLifetime - RenewBefore - time.Hour)},
		{name: "due", leaf: base, at: now.Add(LeafLifetime - RenewBefore + time.Hour), written: true},
		{name: "long ended", leaf: base, at: now.Add(2 * LeafLifetime), written: true},
		{name: "a clock that went back", leaf: base, at: now.Add(-time.Hour), written: true},
		{name: "another user", leaf: with(func(l *Leaf) { l.CommonName = "other" }), at: now, written: true},
		{name: "another group", leaf: with(func(l *Leaf) { l.Organizations = []string{"other"} }), at: now, written: true},
		{name: "a new address", leaf: with(func(l *Leaf) { l.IPs = []net.IP{net.IPv4(10, 0, 0, 1)} }), at: now, written: true},
		{name: "a new name", leaf: with(func(l *Leaf) { l.DNSNames = []string{"localhost"} }), at: now, written: true},
		{name: "a file cut off", leaf: base, at: now, corrupt: "-----BEGIN CERTIFICATE-----\n", written: true},
		{name: "an empty file", leaf: base, at: now, corrupt: "\n", written: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			a := openTestAuthority(t, dir)
			if written, err := a.Ensure(dir, base, now); err != nil || !written {
				t.Fatalf("first time: written %t, %v", written, err)
			}
			if test.corrupt != "" {
				if err := os.WriteFile(base.File(dir), []byte(test.corrupt), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			written, err := a.Ensure(dir, test.leaf, test.at)
			if err != nil || written != test.written {
				t.Fatalf("written %t, want %t; %v", written, test.written, err)
			}
			content, err := os.ReadFile(test.leaf.File(dir))
			if err != nil {
				t.Fatal(err)
			}
			if !a.serves(content, test.leaf, test.at) {
				t.Error("what is there does not serve")
			}
		})
	}
}

func TestAuthorityStays(t *testing.T) {
	dir := t.TempDir()
	first := openTestAuthority(t, dir)
	second := openTestAuthority(t, dir)
	if !bytes.Equal(first.CertPEM(), second.CertPEM()) {
		t.Error("opening it again made another authority")
	}
	if bytes.Contains(second.CertPEM(), []byte("PRIVATE")) {
		t.Error("the certificate that everybody gets holds the key")
	}
	// A process killed between the two files leaves a key alone.
	if err := os.Remove(first.CertFile()); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(openTestAuthority(t, dir).CertPEM(), first.CertPEM()) {
		t.Error("a certificate came back from nowhere")
	}
}

func TestAuthorityRefusesAForeignKey(t *testing.T) {
	dir := t.TempDir()
	a := openTestAuthority(t, dir)
	if err := EnsureKey(filepath.Join(dir, "other.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "other.key"), a.KeyFile()); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir, "ca", "test-ca", now); err == nil {
		t.Error("an authority was opened with a key that is not its own")
	}
}

func TestSecretsAreTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	a := openTestAuthority(t, dir)
	leaf := Leaf{Name: "admin", CommonName: "admin"}
	if _, err := a.Ensure(dir, leaf, now); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "service-account.key")
	if err := EnsureKey(key); err != nil {
		t.Fatal(err)
	}
	embedded, linked := filepath.Join(dir, "admin.kubeconfig"), filepath.Join(dir, "linked.kubeconfig")
	k := Kubeconfig{Cluster: "c", User: "u", Server: "https://127.0.0.1:6443"}
	if err := k.WriteEmbedded(embedded, a, leaf.File(dir)); err != nil {
		t.Fatal(err)
	}
	if err := k.WriteLinked(linked, a, leaf.File(dir)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{a.KeyFile(), leaf.File(dir), key, embedded, linked} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", filepath.Base(file), info.Mode())
		}
	}
	for _, file := range []string{embedded, linked} {
		config, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != k.Server {
			t.Errorf("%s points at %s", filepath.Base(file), config.Host)
		}
	}
}

func TestEnsureKeyKeepsTheKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	var contents [2][]byte
	for i := range contents {
		if err := EnsureKey(file); err != nil {
			t.Fatal(err)
		}
		var err error
		if contents[i], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(contents[0], contents[1]) {
		t.Error("the key was replaced")
	}
}

func TestWriteFileLeavesNoTraces(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	for _, content := range []string{"one", "two", "two"} {
		if err := WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("%d files are there, want one", len(entries))
	}
}
