package sealed

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	"golang.org/x/time/rate"
)

// What anybody may ask for, in all: opening a SealedSecret costs RSA.
const (
	perSecond = 2
	burst     = 10
	maxBody   = 2 << 20
)

// Routes are what kubeseal asks for, by http.ServeMux pattern
// (sealed-secrets' pkg/controller/server.go):
//
//	GET  /v1/cert.pem  the certificate to seal with
//	POST /v1/verify    200 where the SealedSecret opens, 409 where it does not
//	POST /v1/rotate    the SealedSecret, sealed with the newest key
//
// kubeseal comes through the API server's proxy, which takes credentials away,
// so nobody is asked who he is: no answer holds what is sealed. keys returns
// the keys, and makes the first one.
func Routes(keys func(context.Context) (*Keys, error)) map[string]http.Handler {
	h := &handler{keys: keys, limit: rate.NewLimiter(perSecond, burst)}
	return map[string]http.Handler{
		"GET /v1/cert.pem": http.HandlerFunc(h.certificate),
		"POST /v1/verify":  http.HandlerFunc(h.verify),
		"POST /v1/rotate":  http.HandlerFunc(h.rotate),
	}
}

type handler struct {
	keys  func(context.Context) (*Keys, error)
	limit *rate.Limiter
}

func (h *handler) certificate(w http.ResponseWriter, r *http.Request) {
	keys, err := h.keys(r.Context())
	if err != nil {
		h.unavailable(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(keys.Certificate())
}

func (h *handler) verify(w http.ResponseWriter, r *http.Request) {
	s, keys, ok := h.read(w, r)
	if !ok {
		return
	}
	if _, err := open(s, keys); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (h *handler) rotate(w http.ResponseWriter, r *http.Request) {
	s, keys, ok := h.read(w, r)
	if !ok {
		return
	}
	out, err := Reseal(s, keys)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

// read reads the SealedSecret of a request. Where ok is false, it is answered.
func (h *handler) read(w http.ResponseWriter, r *http.Request) (s *v1alpha1.SealedSecret, keys *Keys, ok bool) {
	if !h.limit.Allow() {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests", http.StatusTooManyRequests)
		return nil, nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		http.Error(w, "the SealedSecret is too large", http.StatusRequestEntityTooLarge)
		return nil, nil, false
	}
	s = &v1alpha1.SealedSecret{}
	if err != nil || json.Unmarshal(body, s) != nil || s.Kind != Kind {
		http.Error(w, "the body is not a SealedSecret in JSON", http.StatusBadRequest)
		return nil, nil, false
	}
	keys, err = h.keys(r.Context())
	if err != nil {
		h.unavailable(w, r, err)
		return nil, nil, false
	}
	return s, keys, true
}

func (h *handler) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	slog.ErrorContext(r.Context(), "reading the sealing keys", "error", err)
	http.Error(w, "the sealing keys cannot be read", http.StatusServiceUnavailable)
}
