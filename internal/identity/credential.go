package identity

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

// maxToken bounds a token. Kubernetes' own are about 1 KiB; those of identity
// providers with many groups may have several.
const maxToken = 16 << 10

// unauthenticated is core.ErrUnauthenticated with a reason for people, which
// never holds any part of the credential.
func unauthenticated(reason string) error {
	return fmt.Errorf("%w: %s", core.ErrUnauthenticated, reason)
}

// credential takes the token out of a request: that of "Bearer TOKEN", or the
// password of "Basic", whose user name may be anything. Errors are
// core.ErrUnauthenticated.
func credential(h http.Header) (string, error) {
	values := h.Values("Authorization")
	switch len(values) {
	case 0:
		return "", core.ErrUnauthenticated
	case 1:
	default:
		return "", unauthenticated("more than one Authorization header")
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	var token string
	switch strings.ToLower(scheme) {
	case "bearer":
		token = strings.Trim(rest, " ")
	case "basic":
		decoded, err := base64.StdEncoding.DecodeString(strings.Trim(rest, " "))
		if err != nil {
			return "", unauthenticated("the basic credential is not base64")
		}
		_, password, found := strings.Cut(string(decoded), ":")
		if !found {
			return "", unauthenticated("the basic credential has no password")
		}
		token = password
	default:
		return "", unauthenticated("the Authorization header is neither Bearer nor Basic")
	}
	if !wellFormed(token) {
		return "", unauthenticated("this is no token; with basic authentication the password must be one")
	}
	return token, nil
}

// wellFormed says whether s can be a bearer token (RFC 6750, b64token). It
// matters beyond tidiness: a TokenReview of a token that begins with a space
// is answered "authenticated, system:anonymous", because the API server pastes
// it into a header and splits that at spaces.
func wellFormed(s string) bool {
	if len(s) > maxToken {
		return false
	}
	body := strings.TrimRight(s, "=")
	return body != "" && !strings.ContainsFunc(body, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-._~+/", c))
	})
}

// claims is what a token says of itself, unverified: nothing may be allowed
// because of it.
type claims struct {
	Expires   time.Time // zero: it does not say
	Audiences []string
}

func (c claims) expired(now time.Time) bool { return !c.Expires.IsZero() && !now.Before(c.Expires) }

func (c claims) meantFor(audience string) bool {
	return audience != "" && slices.Contains(c.Audiences, audience)
}

// unverifiedClaims reads the payload of a JWT, and nothing from other tokens.
func unverifiedClaims(token string) claims {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}
	}
	var raw struct {
		Expires  float64         `json:"exp"` // RFC 7519: seconds, maybe with a fraction
		Audience json.RawMessage `json:"aud"` // one string or several
	}
	if json.Unmarshal(payload, &raw) != nil {
		return claims{}
	}
	var c claims
	if raw.Expires >= 1 && raw.Expires < math.MaxUint32 {
		c.Expires = time.Unix(int64(raw.Expires), 0)
	}
	var one string
	if json.Unmarshal(raw.Audience, &one) == nil {
		c.Audiences = []string{one}
	} else if json.Unmarshal(raw.Audience, &c.Audiences) != nil {
		c.Audiences = nil
	}
	return c
}
