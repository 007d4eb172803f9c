package git

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fairway-cd/fairway/internal/core/loopback"
)

// diagnose turns git's failure to talk to a remote into an error with a type.
// Git says why in sentences only. Over http the first request of the protocol
// is therefore made once more here, where it has a status.
func diagnose(ctx context.Context, u remote, auth Auth, failure error) error {
	var failed *commandError
	if errors.Is(failure, context.DeadlineExceeded) {
		return &UnreachableError{URL: u.String(), Reason: "it took too long"}
	}
	if !errors.As(failure, &failed) {
		return failure
	}
	said := oneLine(auth.redact(failed.stderr))
	if u.scheme == "ssh" {
		return diagnoseSSH(u, auth, said)
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	resp, err := probe(ctx, u, auth)
	if err != nil {
		return &UnreachableError{URL: u.String(), Reason: oneLine(auth.redact(cause(err).Error()))}
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return &AuthError{URL: u.String(), Given: auth.given()}
	case code == http.StatusNotFound, code == http.StatusGone:
		return &NotFoundError{Repository: u.String()}
	case code != http.StatusOK:
		return &UnreachableError{URL: u.String(), Reason: "it answers with HTTP status " + resp.Status}
	case !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/x-git-"):
		return &UnreachableError{URL: u.String(), Reason: "it is not a Git repository"}
	}
	return &UnreachableError{URL: u.String(), Reason: said}
}

// cause is an http error without the URL in it.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// probe makes the first request of the smart protocol.
func probe(ctx context.Context, u remote, auth Auth) (*http.Response, error) {
	config := &tls.Config{InsecureSkipVerify: auth.Insecure} //nolint:gosec // where the user asks for it
	if len(auth.CA) > 0 {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(auth.CA)
	}
	if len(auth.ClientCert) > 0 {
		cert, err := tls.X509KeyPair(auth.ClientCert, auth.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("the client certificate cannot be read: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true,
		DialContext: loopback.Dial((&net.Dialer{}).DialContext), // as the git program does it
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String()+"/info/refs?service="+uploadPack, nil)
	if err != nil {
		return nil, err
	}
	switch {
	case auth.Token != "":
		req.Header.Set("Authorization", "Bearer "+auth.Token)
	case auth.Username != "" || auth.Password != "":
		req.SetBasicAuth(auth.username(), auth.Password)
	}
	return (&http.Client{Transport: transport}).Do(req)
}

// sshFailures are what OpenSSH and the forges behind it say, in the C locale:
// over ssh there is nothing but text to go by. It decides nothing but which
// sentence a person reads; all of them are tried again.
var sshFailures = []struct {
	says string
	make func(u remote, a Auth) error
}{
	{"Host key verification failed", func(u remote, _ Auth) error {
		return &UnreachableError{URL: u.String(), Reason: "its host key is not among the known hosts"}
	}},
	{"Permission denied", func(u remote, a Auth) error { return &AuthError{URL: u.String(), Given: a.given()} }},
	{"Repository not found", func(u remote, _ Auth) error { return &NotFoundError{Repository: u.String()} }},
	{"does not appear to be a git repository", func(u remote, _ Auth) error { return &NotFoundError{Repository: u.String()} }},
	{"could not be found", func(u remote, _ Auth) error { return &NotFoundError{Repository: u.String()} }},
}

func diagnoseSSH(u remote, auth Auth, said string) error {
	for _, f := range sshFailures {
		if strings.Contains(said, f.says) {
			return f.make(u, auth)
		}
	}
	return &UnreachableError{URL: u.String(), Reason: said}
}
