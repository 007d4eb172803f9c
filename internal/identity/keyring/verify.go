package keyring

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/fairway-cd/fairway/internal/core/loopback"
)

// RefusedError says that a server does not take a token.
type RefusedError struct {
	Server Server
	Said   string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s refuses the token: %s", e.Server, e.Said)
}

// Hint implements core.Hinted.
func (e *RefusedError) Hint() string {
	return "it may be wrong, expired or revoked, or another server's; 'fairway token create' makes one"
}

// UntrustedError says that a server's certificate is not trusted.
type UntrustedError struct {
	Server Server
	Err    error
}

func (e *UntrustedError) Error() string {
	return fmt.Sprintf("the certificate of %s is not trusted: %v", e.Server, e.Err)
}

func (e *UntrustedError) Unwrap() error { return e.Err }

// Hint implements core.Hinted.
func (e *UntrustedError) Hint() string {
	return "where Fairway generated it, 'fairway status' on that machine says which file to give to 'fairway login --ca'"
}

// HTTPClient returns a client for a server that is sent a token: with ca, in
// PEM, that is trusted besides the system's authorities, and no redirection is
// followed, because it could take the token elsewhere.
func HTTPClient(ca []byte) (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if len(ca) > 0 && !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the certificate authority is not PEM")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = loopback.Dial(transport.DialContext)
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// Verify asks the server whether it takes the token, by the version check of
// its registry, which needs no permission. With ca, in PEM, that is trusted
// besides the system's authorities.
func Verify(ctx context.Context, s Server, token string, ca []byte) error {
	client, err := HTTPClient(ca)
	if err != nil {
		return err
	}
	client.Timeout = 15 * time.Second
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.String()+"/v2/", nil)
	if err != nil {
		return fmt.Errorf("asking %s: %w", s, err)
	}
	req.SetBasicAuth(UserName, token)
	answer, err := client.Do(req)
	if err != nil {
		return Unreached(s, err)
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized, http.StatusTooManyRequests:
		return &RefusedError{Server: s, Said: reason(answer)}
	default:
		return fmt.Errorf("asking %s: it answered %s, which is not how Fairway does", s, answer.Status)
	}
}

// reason is what the server said, in the form of the registry's errors (OCI
// distribution specification, "Error Codes").
func reason(answer *http.Response) string {
	var said struct {
		Errors []struct{ Message string }
	}
	err := json.NewDecoder(io.LimitReader(answer.Body, 64<<10)).Decode(&said)
	if err != nil || len(said.Errors) == 0 || said.Errors[0].Message == "" {
		return answer.Status
	}
	return said.Errors[0].Message
}

// Unreached says why a request to the server had no answer: an
// *UntrustedError where its certificate is not trusted.
func Unreached(s Server, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return &UntrustedError{Server: s, Err: verification.Err}
	}
	return fmt.Errorf("asking %s: %w", s, err)
}
