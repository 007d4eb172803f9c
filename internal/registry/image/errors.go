package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Error is what went wrong with an image, in one line, with what to do.
type Error struct {
	Op, What string
	Err      error
	Advice   string
}

func (e *Error) Error() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s: %v", e.Op, e.What, e.Err)), " ")
}

func (e *Error) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *Error) Hint() string { return e.Advice }

// explain says of an error of a registry what it means.
func explain(op, what, host string, err error) error {
	if err == nil {
		return nil
	}
	var ours *Error
	if errors.As(err, &ours) || errors.Is(err, context.Canceled) {
		return err
	}
	e := &Error{Op: op, What: what, Err: err}
	var answer *transport.Error
	var dns *net.DNSError
	var dial *net.OpError
	var unknown x509.UnknownAuthorityError
	var wrongHost x509.HostnameError
	var verify *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &answer):
		e.Advice, e.Err = fromStatus(answer, host)
	case errors.As(err, &dns):
		e.Err, e.Advice = fmt.Errorf("%s is not known", dns.Name), "check the registry's name"
	case errors.As(err, &wrongHost), errors.As(err, &unknown), errors.As(err, &verify):
		e.Advice = "trust the registry's CA with --ca FILE, or try --insecure"
	case errors.As(err, &notTLS):
		e.Advice = "the registry speaks plain HTTP: use --insecure"
	case errors.As(err, &dial):
		e.Err, e.Advice = fmt.Errorf("%s cannot be reached: %w", host, dial.Err), "is it running? 'fairway status' says where the instance's registry is"
	}
	return e
}

// StatusError is a registry's refusal, by its HTTP status.
type StatusError struct {
	Status  int
	Message string
}

func (e *StatusError) Error() string { return e.Message }

func fromStatus(answer *transport.Error, host string) (string, error) {
	said := ""
	if len(answer.Errors) > 0 {
		said = answer.Errors[0].Message
	}
	message, advice := said, ""
	switch answer.StatusCode {
	case http.StatusUnauthorized:
		message, advice = "not logged in to "+host, "log in with 'fairway login', or 'docker login "+host+"'"
	case http.StatusForbidden:
		if said == "" {
			message = "permission denied"
		}
		advice = "ask for the permission on images in that namespace, or log in as somebody else"
	case http.StatusNotFound:
		message, advice = "not found", "see what is there with 'fairway image list'"
		// Our registry says of a push what is missing.
		if unknown, hint, ok := strings.Cut(said, "; "); ok && answer.Errors[0].Code == transport.NameUnknownErrorCode {
			message, advice = unknown, hint
		}
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if said == "" {
			message = http.StatusText(answer.StatusCode)
		}
	default:
		if said == "" {
			message = fmt.Sprintf("the registry answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
		}
	}
	return advice, &StatusError{answer.StatusCode, message}
}
