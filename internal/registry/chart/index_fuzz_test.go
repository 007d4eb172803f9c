package chart

import "testing"

func FuzzIndex(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nentries:\n  web:\n  - {version: 1.0.0, urls: [a.tgz], digest: abc}\n"), "^1")
	f.Add([]byte(`{"apiVersion":"v1","entries":{"web":[null,{"version":"1","urls":[]}]}}`), "")
	f.Add([]byte("apiVersion: v1\nentries: {web: [{version: x, urls: [a]}]}\n"), "what?")
	f.Fuzz(func(t *testing.T, data []byte, version string) {
		x, err := parseIndex(data)
		if err != nil {
			return
		}
		v, err := x.Find("web", version)
		if err != nil {
			return
		}
		if v.URL == "" || v.semver == nil {
			t.Errorf("found %+v", v)
		}
		if u, err := v.at("https://example.com/charts"); err == nil && u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "oci" {
			t.Errorf("its URL is %s", u)
		}
	})
}
