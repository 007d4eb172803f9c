package image

import (
	"crypto/tls"
	"errors"
	"net/http"
	"sync"
)

// strict refuses plain HTTP to a host whose certificate was refused: the
// library tries HTTP on loopback when HTTPS fails, for whatever reason, and
// would send it the credentials.
type strict struct {
	http.RoundTripper
	refused sync.Map // host → error
}

func (s *strict) RoundTrip(r *http.Request) (*http.Response, error) {
	if err, ok := s.refused.Load(r.URL.Host); ok && r.URL.Scheme == "http" {
		return nil, err.(error)
	}
	res, err := s.RoundTripper.RoundTrip(r)
	var certificate *tls.CertificateVerificationError
	if errors.As(err, &certificate) {
		s.refused.Store(r.URL.Host, err)
	}
	return res, err
}
