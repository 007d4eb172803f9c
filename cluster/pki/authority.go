// Package pki issues the certificates of one embedded cluster.
//
// All files lie in one directory that belongs to the cluster. An authority is
// a NAME.crt and a NAME.key; the certificate alone is what others get to see
// (the controller manager publishes it in every namespace). A leaf is one file
// NAME.pem with certificate and key, so that it is replaced in one rename and
// no reader ever meets the certificate of one pair and the key of another.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	// clockSkew is how far the clocks of two machines may differ.
	clockSkew = 5 * time.Minute
)

// Authority signs certificates. Its methods may be called from any goroutine.
type Authority struct {
	dir     string
	name    string
	cert    *x509.Certificate
	key     *ecdsa.PrivateKey
	certPEM []byte
}

// OpenAuthority loads the authority NAME in dir, and makes it where it is not
// there yet. The directory must exist.
func OpenAuthority(dir, name, commonName string, now time.Time) (*Authority, error) {
	a := &Authority{dir: dir, name: name}
	// The certificate is written last: without it nothing was signed yet, and
	// a key that a killed process left alone is of no use to anybody.
	certPEM, err := os.ReadFile(a.CertFile())
	if errors.Is(err, fs.ErrNotExist) {
		return a, a.create(commonName, now)
	}
	if err != nil {
		return nil, fmt.Errorf("reading authority %s: %w", name, err)
	}
	keyPEM, err := os.ReadFile(a.KeyFile())
	if err != nil {
		return nil, fmt.Errorf("reading the key of authority %s: %w", name, err)
	}
	if a.cert, a.key, err = parsePair(certPEM, keyPEM); err != nil {
		return nil, fmt.Errorf("authority %s in %s: %w", name, dir, err)
	}
	a.certPEM = certPEM
	return a, nil
}

// CertFile is the path of the authority's certificate.
func (a *Authority) CertFile() string { return filepath.Join(a.dir, a.name+".crt") }

// KeyFile is the path of the authority's private key.
func (a *Authority) KeyFile() string { return filepath.Join(a.dir, a.name+".key") }

// CertPEM is the authority's certificate, for those who are to trust it.
func (a *Authority) CertPEM() []byte { return a.certPEM }

func (a *Authority) create(commonName string, now time.Time) error {
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("signing authority %s: %w", a.name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("reading back authority %s: %w", a.name, err)
	}
	a.cert, a.key = cert, key
	a.certPEM = pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der})
	if err := WriteFile(a.KeyFile(), keyPEM, 0o600); err != nil {
		return err
	}
	return WriteFile(a.CertFile(), a.certPEM, 0o644)
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generating a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choosing a serial number: %w", err)
	}
	return serial.Add(serial, big.NewInt(1)), nil
}
