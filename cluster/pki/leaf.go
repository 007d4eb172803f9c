package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	certBlock = "CERTIFICATE"
	keyBlock  = "EC PRIVATE KEY"

	// LeafLifetime is how long a new leaf is good for, and RenewBefore how
	// long before its end Ensure replaces it.
	LeafLifetime = 365 * 24 * time.Hour
	RenewBefore  = LeafLifetime / 3
)

// Leaf is what a certificate is to say.
type Leaf struct {
	// Name is the file's name without its extension.
	Name string
	// CommonName is the user, Organizations are the groups: that is how
	// Kubernetes reads a client certificate.
	CommonName    string
	Organizations []string
	// DNSNames and IPs make it a server's certificate. A certificate without
	// either is for clients only.
	DNSNames []string
	IPs      []net.IP
}

// File is the path of the leaf in a directory: certificate and key in one.
func (l Leaf) File(dir string) string { return filepath.Join(dir, l.Name+".pem") }

// Ensure leaves a valid certificate for leaf in dir and says whether it had to
// write one: it does where there is none, where it ends within RenewBefore,
// where another authority signed it or where it says something else.
func (a *Authority) Ensure(dir string, leaf Leaf, now time.Time) (written bool, err error) {
	content, err := os.ReadFile(leaf.File(dir))
	switch {
	case err == nil && a.serves(content, leaf, now):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("reading certificate %s: %w", leaf.Name, err)
	}
	content, err = a.issue(leaf, now)
	if err != nil {
		return false, err
	}
	return true, WriteFile(leaf.File(dir), content, 0o600)
}

func (a *Authority) issue(leaf Leaf, now time.Time) ([]byte, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if leaf.server() {
		usages = append(usages, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: leaf.CommonName, Organization: leaf.Organizations},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(LeafLifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  usages,
		DNSNames:     leaf.DNSNames,
		IPAddresses:  leaf.IPs,
	}, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("signing certificate %s: %w", leaf.Name, err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}), keyPEM...), nil
}

// serves says whether a file's content is still what leaf asks for.
func (a *Authority) serves(content []byte, leaf Leaf, now time.Time) bool {
	cert, _, err := parsePair(content, content)
	if err != nil || cert.CheckSignatureFrom(a.cert) != nil {
		return false
	}
	return now.After(cert.NotBefore) && now.Before(cert.NotAfter.Add(-RenewBefore)) &&
		cert.Subject.CommonName == leaf.CommonName &&
		slices.Equal(cert.Subject.Organization, leaf.Organizations) &&
		slices.Equal(cert.DNSNames, leaf.DNSNames) &&
		slices.EqualFunc(cert.IPAddresses, leaf.IPs, net.IP.Equal) &&
		leaf.server() == slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
}

func (l Leaf) server() bool { return len(l.DNSNames)+len(l.IPs) > 0 }

// EnsureKey leaves a private key in file. It is never replaced: what was
// signed with it, the tokens of service accounts, must stay valid.
func EnsureKey(file string) error {
	switch _, err := os.Stat(file); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("looking for key %s: %w", file, err)
	}
	_, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	return WriteFile(file, keyPEM, 0o600)
}

func parsePair(certPEM, keyPEM []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certDER, keyDER := findBlock(certPEM, certBlock), findBlock(keyPEM, keyBlock)
	if certDER == nil || keyDER == nil {
		return nil, nil, errors.New("no certificate or no key in it")
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing the certificate: %w", err)
	}
	key, err := x509.ParseECPrivateKey(keyDER)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing the key: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, errors.New("certificate and key do not belong together")
	}
	return cert, key, nil
}

func findBlock(content []byte, kind string) []byte {
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			return block.Bytes
		}
	}
	return nil
}

// WriteFile replaces a file in one step and durably: a reader sees the old
// content or the new one, also after a crash. Where the file has that content
// and mode already it is left alone.
func WriteFile(file string, content []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, content) {
		return os.Chmod(file, mode)
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
