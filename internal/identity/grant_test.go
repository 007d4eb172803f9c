package identity

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseGrant(t *testing.T) {
	for text, want := range map[string]string{
		"push:web-app":            "push:team/web-app",
		"pull:other/img":          "pull:other/img",
		"repo:create:web-app":     "repo:create:team/web-app",
		"create:web-app":          "create:team/web-app",
		"image:pull:other/*":      "image:pull:other/*",
		"pull:*":                  "pull:team/*",
		"image:push:team/a/b.c_d": "image:push:team/a/b.c_d",
		"delete:x":                "delete:team/x",
	} {
		g, err := ParseGrant(text, "team")
		if err != nil || g.String() != want {
			t.Errorf("%q: %v, %v; want %q", text, g, err, want)
		}
	}
	for _, text := range []string{
		"", "push", "push:", ":x", "clone:x", "repo:x", "tag:push:x", "push:a:b:c", "push:/x", "push:x/", "push:../x",
		"push:UPPER", "pull:*/*", "pull:a/b/*", "image:create:x", "push:a/b/c", "repo:push:a/b/c", "pull:a.b/x", "pull:x*", "push:x y",
	} {
		var refused *GrantError
		if g, err := ParseGrant(text, "team"); !errors.As(err, &refused) {
			t.Errorf("%q: taken as %v, error %v", text, g, err)
		}
	}
}

func TestGrantErrorSaysOurWord(t *testing.T) {
	_, err := ParseGrant("clone:web-app", "default")
	if err == nil || !strings.Contains(err.Error(), `"pull"`) {
		t.Errorf("got %v", err)
	}
}

func TestParseGrantsFolds(t *testing.T) {
	grants, err := ParseGrants([]string{"push:b", "pull:a", "push:default/b"}, "default")
	if err != nil {
		t.Fatal(err)
	}
	if got := joinGrants(grants); got != "pull:default/a push:default/b" {
		t.Errorf("got %q", got)
	}
}

func TestGrantRulesNameWhatTheyGrant(t *testing.T) {
	g, err := ParseGrant("push:web-app", "default")
	if err != nil {
		t.Fatal(err)
	}
	rules := g.rules()
	if len(rules) != 2 {
		t.Fatalf("got %v", rules)
	}
	for i, resource := range []string{"repositories", "images"} {
		r := rules[i]
		if r.Resources[0] != resource || strings.Join(r.Verbs, " ") != "get update" || len(r.ResourceNames) != 1 || r.ResourceNames[0] != "web-app" {
			t.Errorf("got %v", r)
		}
	}
}

func FuzzParseGrant(f *testing.F) {
	for _, seed := range []string{"push:web-app", "image:pull:a/*", "repo:delete:a/b", "pull:*", "a:b:c:d", "push:a/b/c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGrant(text, "default")
		if err != nil {
			return
		}
		again, err := ParseGrant(g.String(), "elsewhere")
		if err != nil || again != g {
			t.Fatalf("%q is %v, whose canonical form is %v, %v", text, g, again, err)
		}
		for _, rule := range g.rules() {
			if len(rule.ResourceNames) == 0 && !strings.HasSuffix(text, "*") {
				t.Fatalf("%q grants everything of %v", text, g.Name.Namespace)
			}
		}
	})
}

func TestParseTTL(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90d": 90 * 24 * time.Hour, "12h": 12 * time.Hour, "1h30m": 90 * time.Minute, "2w": 14 * 24 * time.Hour, "10m": 10 * time.Minute,
	} {
		if got, err := ParseTTL(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "90", "9m", "0", "-1h", "1000y", "forever", "1.5h"} {
		var refused *TTLError
		if got, err := ParseTTL(text); !errors.As(err, &refused) {
			t.Errorf("%q: taken as %v, error %v", text, got, err)
		}
	}
}

func FuzzParseTTL(f *testing.F) {
	for _, seed := range []string{"90d", "1y2w", "10m", "99999999999999999999y", "-1h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if ttl, err := ParseTTL(text); err == nil && (ttl < minTTL || ttl > maxTTL) {
			t.Fatalf("%q is %v", text, ttl)
		}
	})
}
