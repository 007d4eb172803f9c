// Package certs holds the certificates with which Fairway serves TLS: given
// files, or a certificate authority of the instance's own.
package certs

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// Source is a serving certificate that stays good while the program runs.
type Source interface {
	// GetCertificate is for tls.Config.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// CA is what clients need to trust, in PEM; empty where that is not ours to
	// say.
	CA() []byte
	// Run keeps the certificate good, until ctx ends; then it returns nil.
	Run(ctx context.Context) error
}

// Config is how to serve TLS with s.
func Config(s Source) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.GetCertificate}
}

// Files is a Source of a certificate chain and a key in PEM files. While Run
// runs, a change of the files is noticed and taken up for new connections; a
// pair that does not fit is logged and the former one kept.
type Files struct {
	watcher *certwatcher.CertWatcher
}

var _ Source = (*Files)(nil)

// Load reads the files.
func Load(certFile, keyFile string) (*Files, error) {
	watcher, err := certwatcher.New(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("loading certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return &Files{watcher: watcher}, nil
}

// GetCertificate implements Source.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.watcher.GetCertificate(hello)
}

// CA implements Source: who made the files knows who is trusted.
func (f *Files) CA() []byte { return nil }

// Run implements Source.
func (f *Files) Run(ctx context.Context) error {
	if err := f.watcher.Start(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("watching the certificate: %w", err)
	}
	return nil
}

// NeedsTLS says whether an address that is listened on can be reached from
// other machines. Ask for the bound address (net.Listener.Addr), not for the
// wanted one: a name may resolve to anything, and no host means all.
func NeedsTLS(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.UnixAddr:
		return false
	case *net.TCPAddr:
		return !a.IP.IsLoopback()
	default:
		return true
	}
}
