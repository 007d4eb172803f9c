// Package image does what `fairway image` says: it moves images between
// registries, files and the instance, and makes them out of files, with no
// Docker anywhere.
package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/fairway-cd/fairway/internal/core/loopback"
)

// Options are how registries are reached.
type Options struct {
	// Registry is the host of names that have none ("web-app:v1"). Default
	// index.docker.io, as everywhere.
	Registry string
	// Keychain has the credentials. Default: docker's configuration.
	Keychain authn.Keychain
	// Insecure allows plain HTTP and certificates of nobody.
	Insecure bool
	// CAFile has certificates, in PEM, that are trusted beside the system's.
	CAFile string
	// Progress, where set, is told how far a transfer is. It is called from
	// one goroutine at a time.
	Progress func(complete, total int64)
}

// Client talks to registries. It is safe for concurrent use, except for the
// order of Progress.
type Client struct {
	opts      Options
	transport http.RoundTripper
}

// New checks the options.
func New(opts Options) (*Client, error) {
	if opts.Keychain == nil {
		opts.Keychain = authn.DefaultKeychain
	}
	transport := remote.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = loopback.Dial(transport.DialContext)
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if opts.CAFile != "" {
		if opts.Insecure {
			return nil, fmt.Errorf("a CA file and insecure contradict each other: insecure trusts everybody")
		}
		pem, err := os.ReadFile(opts.CAFile)
		if err != nil {
			return nil, fmt.Errorf("reading the CA file: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading the CA file: there is no certificate in %s", opts.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	transport.TLSClientConfig.InsecureSkipVerify = opts.Insecure // asked for by name
	return &Client{opts: opts, transport: &strict{RoundTripper: transport}}, nil
}

func (c *Client) nameOptions() []name.Option {
	var out []name.Option
	if c.opts.Registry != "" {
		out = append(out, name.WithDefaultRegistry(c.opts.Registry))
	}
	if c.opts.Insecure {
		out = append(out, name.Insecure)
	}
	return out
}

// Parse reads the name of an image: "[HOST/]NAME[:TAG][@DIGEST]", where the
// tag is "latest" if there is neither.
func (c *Client) Parse(s string) (name.Reference, error) {
	ref, err := name.ParseReference(s, c.nameOptions()...)
	if err != nil {
		return nil, &Error{Op: "reading the image name", What: s, Err: err, Advice: "an image is [HOST/]NAME[:TAG] or [HOST/]NAME@sha256:…, in lower-case letters"}
	}
	return ref, nil
}

func (c *Client) parseRepository(s string) (name.Repository, error) {
	repo, err := name.NewRepository(s, c.nameOptions()...)
	if err != nil {
		return name.Repository{}, &Error{Op: "reading the repository name", What: s, Err: err, Advice: "a repository is [HOST/]NAME, without a tag"}
	}
	return repo, nil
}

func (c *Client) remote(ctx context.Context) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuthFromKeychain(c.opts.Keychain),
		remote.WithTransport(c.transport),
		remote.WithUserAgent("fairway"),
	}
}

// watch returns the option that reports progress, and what waits for the last
// report.
func (c *Client) watch() (opts []remote.Option, wait func(error)) {
	if c.opts.Progress == nil {
		return nil, func(error) {}
	}
	var total int64
	updates, done := make(chan v1.Update, 64), make(chan struct{})
	go func() {
		defer close(done)
		for u := range updates { // closed by the transfer
			if u.Error == nil {
				total = u.Total
				c.opts.Progress(u.Complete, u.Total)
			}
		}
	}()
	return []remote.Option{remote.WithProgress(updates)}, func(err error) {
		<-done
		if err == nil {
			// The library does not count what was there, or came with the end.
			c.opts.Progress(total, total)
		}
	}
}

// host is where a name leads to, for messages.
func host(ref name.Reference) string { return ref.Context().RegistryStr() }
