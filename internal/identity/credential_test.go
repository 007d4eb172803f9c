package identity

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestCredential(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		token   string // empty: refused
	}{
		{"none", nil, ""},
		{"bearer", []string{"Bearer abc.def-ghi"}, "abc.def-ghi"},
		{"scheme in any case", []string{"bEARER abc"}, "abc"},
		{"basic, any user", []string{basic("whoever", "abc")}, "abc"},
		{"basic, no user", []string{basic("", "abc")}, "abc"},
		{"padding", []string{"Bearer abc=="}, "abc=="},
		{"two headers", []string{"Bearer abc", "Bearer abc"}, ""},
		{"other scheme", []string{"Digest abc"}, ""},
		{"empty bearer", []string{"Bearer "}, ""},
		{"scheme alone", []string{"Bearer"}, ""},
		{"basic, not base64", []string{"Basic ***"}, ""},
		{"basic, no colon", []string{"Basic " + base64.StdEncoding.EncodeToString([]byte("abc"))}, ""},
		{"basic, empty password", []string{basic("operator", "")}, ""},
		// A TokenReview of either would be answered "system:anonymous".
		{"leading space in the password", []string{basic("x", " abc")}, ""},
		{"space in the password", []string{basic("x", "abc def")}, ""},
		{"newline in the password", []string{basic("x", "abc\ndef")}, ""},
		{"padding alone", []string{"Bearer ==="}, ""},
		{"padding inside", []string{"Bearer a=b"}, ""},
		{"too long", []string{"Bearer " + strings.Repeat("a", maxToken+1)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			token, err := credential(http.Header{"Authorization": c.headers})
			if token != c.token {
				t.Errorf("token %q, want %q", token, c.token)
			}
			if (c.token == "") != errors.Is(err, core.ErrUnauthenticated) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func FuzzCredential(f *testing.F) {
	for _, seed := range []string{"", "Bearer abc", "Basic YTpi", "Basic YTog", "bearer  a b", "Digest x", "Bearer \x00", basic("a", "b:c")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token, err := credential(http.Header{"Authorization": {header}})
		switch {
		case err != nil && token != "":
			t.Fatalf("a token and an error: %q, %v", token, err)
		case err != nil && !errors.Is(err, core.ErrUnauthenticated):
			t.Fatalf("error of another kind: %v", err)
		case err == nil && (token == "" || strings.ContainsAny(token, " \t\r\n\x00") || len(token) > maxToken):
			t.Fatalf("no token, and taken for one: %q", token)
		}
	})
}

func jwt(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func TestUnverifiedClaims(t *testing.T) {
	c := unverifiedClaims(jwt(`{"exp":1700000000,"aud":["fairway","x"]}`))
	if !c.Expires.Equal(time.Unix(1700000000, 0)) || !c.meantFor(Audience) {
		t.Errorf("got %+v", c)
	}
	if c := unverifiedClaims(jwt(`{"exp":1.7e9,"aud":"fairway"}`)); c.Expires.Unix() != 1700000000 || !c.meantFor(Audience) {
		t.Errorf("got %+v", c)
	}
	for _, token := range []string{"opaque", "a.b.c", jwt(`[]`), jwt(`{"exp":-5,"aud":7}`), jwt(`{"exp":1e300}`), jwt(`{}`)} {
		if c := unverifiedClaims(token); !c.Expires.IsZero() || c.Audiences != nil {
			t.Errorf("%q says %+v", token, c)
		}
	}
}

func FuzzUnverifiedClaims(f *testing.F) {
	f.Add(jwt(`{"exp":1700000000,"aud":["fairway"]}`))
	f.Add(jwt(`{"exp":1e300,"aud":{}}`))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		if c := unverifiedClaims(token); !c.Expires.IsZero() && c.Expires.Unix() < 1 {
			t.Fatalf("expires %v", c.Expires)
		}
	})
}
