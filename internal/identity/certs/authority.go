package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/renameio/v2"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/clock"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	servingLife   = 90 * 24 * time.Hour
	// renewBefore is how much life a serving certificate must have left.
	renewBefore = 30 * 24 * time.Hour
	// backdate allows for clocks that are behind ours.
	backdate   = time.Hour
	checkEvery = time.Hour
)

// The files of an Authority. Those with a key hold key and certificate in one,
// so that they cannot be out of step.
const (
	authorityFile = "ca.pem"
	servingFile   = "serving.pem"
	// CAFile is the certificate that clients need to trust.
	CAFile = "ca.crt"
)

// Authority is a Source with a certificate authority of its own, kept in a
// directory that only its owner can read. The authority is made once and lasts
// ten years; the serving certificate lasts 90 days and is renewed in time while
// Run runs.
type Authority struct {
	dir     string
	hosts   []string
	clock   clock.WithTicker
	caPEM   []byte
	ca      tls.Certificate
	serving atomic.Pointer[tls.Certificate]
}

var _ Source = (*Authority)(nil)

// Generate opens the authority in dir, or makes it, with a serving certificate
// for these host names and addresses, and for localhost. Hosts may differ from
// those of the last time.
func Generate(dir string, hosts []string) (*Authority, error) {
	return generate(dir, hosts, clock.RealClock{})
}

func generate(dir string, hosts []string, c clock.WithTicker) (*Authority, error) {
	hosts = append([]string{"localhost", "127.0.0.1", "::1"}, hosts...)
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	for _, h := range hosts {
		if net.ParseIP(h) == nil && len(validation.IsDNS1123Subdomain(h)) > 0 && len(validation.IsWildcardDNS1123Subdomain(h)) > 0 {
			return nil, fmt.Errorf("%q is neither a host name nor an IP address", h)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory for certificates: %w", err)
	}
	a := &Authority{dir: dir, hosts: hosts, clock: c}
	if err := a.open(); err != nil {
		return nil, err
	}
	if pair, err := readPair(filepath.Join(dir, servingFile)); err == nil && a.good(pair.Leaf) {
		a.serving.Store(pair)
		return a, nil
	}
	return a, a.issue()
}

// open reads the authority, or makes it if there is none or it is about to
// end. One that cannot be read is an error: clients trust it, so it is not
// replaced behind their backs.
func (a *Authority) open() error {
	path := filepath.Join(a.dir, authorityFile)
	pair, err := readPair(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if pair, err = a.found(path); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("reading the certificate authority: %w", err)
	case pair.Leaf.NotAfter.Before(a.clock.Now().Add(servingLife)):
		slog.Warn("the certificate authority ends and is replaced; clients must trust the new one", "ended", pair.Leaf.NotAfter)
		if pair, err = a.found(path); err != nil {
			return err
		}
	}
	a.ca = *pair
	a.caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})
	public := filepath.Join(a.dir, CAFile)
	if was, err := os.ReadFile(public); err == nil && bytes.Equal(was, a.caPEM) {
		return nil
	}
	if err := renameio.WriteFile(public, a.caPEM, 0o644); err != nil {
		return fmt.Errorf("writing the authority's certificate: %w", err)
	}
	return nil
}

// found makes a new authority.
func (a *Authority) found(path string) (*tls.Certificate, error) {
	now := a.clock.Now()
	return writePair(path, &x509.Certificate{
		// The time tells one instance's authority from another's in a list.
		Subject:               pkix.Name{CommonName: "Fairway CA " + now.UTC().Format("2006-01-02 15:04:05")},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, nil)
}

// issue makes a new serving certificate and serves with it.
func (a *Authority) issue() error {
	now := a.clock.Now()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "Fairway"},
		NotBefore:   now.Add(-backdate),
		NotAfter:    now.Add(servingLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range a.hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	pair, err := writePair(filepath.Join(a.dir, servingFile), template, &a.ca)
	if err != nil {
		return err
	}
	a.serving.Store(pair)
	return nil
}

// good says whether a serving certificate can go on being used.
func (a *Authority) good(leaf *x509.Certificate) bool {
	if leaf.CheckSignatureFrom(a.ca.Leaf) != nil || a.clock.Now().Add(renewBefore).After(leaf.NotAfter) {
		return false
	}
	for _, h := range a.hosts {
		if leaf.VerifyHostname(h) != nil && !slices.Contains(leaf.DNSNames, h) {
			return false
		}
	}
	return true
}

// GetCertificate implements Source.
func (a *Authority) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.serving.Load(), nil
}

// CA implements Source.
func (a *Authority) CA() []byte { return slices.Clone(a.caPEM) }

// CAPath is the file with what CA returns.
func (a *Authority) CAPath() string { return filepath.Join(a.dir, CAFile) }

// Run implements Source. What cannot be renewed is logged and tried again.
func (a *Authority) Run(ctx context.Context) error {
	ticker := a.clock.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
			if a.good(a.serving.Load().Leaf) {
				continue
			}
			if err := a.issue(); err != nil {
				slog.ErrorContext(ctx, "renewing the serving certificate failed", "error", err)
			}
		}
	}
}

// writePair makes a key and a certificate for it, signed by parent or by
// itself, and writes both to one file.
func writePair(path string, template *x509.Certificate, parent *tls.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating a key: %w", err)
	}
	issuer, signer := template, crypto.PrivateKey(key)
	if parent != nil {
		issuer, signer = parent.Leaf, parent.PrivateKey
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a key: %w", err)
	}
	var file bytes.Buffer
	for _, b := range []*pem.Block{{Type: "CERTIFICATE", Bytes: cert}, {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := pem.Encode(&file, b); err != nil {
			return nil, fmt.Errorf("encoding a certificate: %w", err)
		}
	}
	if err := renameio.WriteFile(path, file.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("writing a certificate: %w", err)
	}
	return parsePair(path, file.Bytes())
}

func readPair(path string) (*tls.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parsePair(path, data)
}

func parsePair(path string, data []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &pair, nil
}
