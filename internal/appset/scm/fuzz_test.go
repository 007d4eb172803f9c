package scm_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/appset/scm"
)

// FuzzLink reads any Link header: what comes out was in it, between angles.
func FuzzLink(f *testing.F) {
	for _, seed := range []string{
		`<https://host/x?page=2>; rel="next"`, `<https://host/1>; rel="prev", <https://host/3>; rel="next"`, `<>; rel="next"`, `; rel="next"`, `<a`, "", `<a>; rel="next"; title="<b>; rel=\"next\""`, `<a,b>; rel="next"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		link := scm.NextLink([]string{header})
		if link == "" {
			return
		}
		if !strings.Contains(header, "<"+link+">") {
			t.Errorf("%q has no %q", header, link)
		}
		if u, err := url.Parse(link); err == nil && u.String() == "" {
			t.Errorf("%q leads nowhere", link)
		}
	})
}
