package registry

import (
	"path"
	"strings"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
)

// FuzzRoute: what parseRoute takes is canonical, stays below the repositories
// on disk, and leads distribution to what was authorized.
func FuzzRoute(f *testing.F) {
	for _, p := range []string{"/v2/", "/v2/a/tags/list", "/v2/a/b/manifests/latest", "/v2/a/blobs/uploads/", "/v2/a/blobs/uploads/x",
		"/v2/a/manifests/manifests/x", "/v2/a/blobs/uploads/manifests/x", "/v2/../x/tags/list", "/v2/a%2fb/referrers/sha256:0", "/v2/_catalog"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		rt, bad := parseRoute(p)
		if bad != nil {
			if bad.status < 400 || bad.status > 499 {
				t.Errorf("%q is %d", p, bad.status)
			}
			return
		}
		if rt.end == endBase || rt.end == endCatalog {
			return
		}
		if on := repoPath(rt.name); path.Clean(on) != on || !storagedriver.PathRegexp.MatchString(on) || strings.Contains(on, "/_") {
			t.Errorf("%q is kept in %q", p, on)
		}
		again, bad := parseRoute(rt.path())
		if bad != nil || again.name != rt.name || again.end != rt.end || again.ref != rt.ref {
			t.Errorf("%q is %+v, its path %q is %+v, %v", p, rt, rt.path(), again, bad)
		}
	})
}

// FuzzManifest: a manifest that is taken has nothing but valid digests.
func FuzzManifest(f *testing.F) {
	for _, s := range []string{"{}", `{"schemaVersion":2,"config":{"digest":"sha256:x"}}`, `{"schemaVersion":2,"manifests":[]}`, "[]", "null"} {
		f.Add([]byte(s), "")
	}
	f.Fuzz(func(t *testing.T, content []byte, mediaType string) {
		m, bad := parseManifest(content, mediaType)
		if bad != nil {
			return
		}
		for _, d := range append(m.blobs(), m.Manifests...) {
			if !storagedriver.PathRegexp.MatchString(blobPath(d.Digest)) {
				t.Errorf("a digest is %q", d.Digest)
			}
		}
	})
}
