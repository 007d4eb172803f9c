package conformance

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// errors has a test for each error code of the specification.
func (c *client) errors(t *testing.T) {
	_, none := random(t, 8)
	t.Run("code-1 BLOB_UNKNOWN", func(t *testing.T) {
		c.send(t, "GET", c.path("blobs", none.String()), nil).want(t, http.StatusNotFound).wantCode(t, "BLOB_UNKNOWN")
	})
	t.Run("code-2 BLOB_UPLOAD_INVALID", func(t *testing.T) {
		c.send(t, "PATCH", c.start(t), []byte("x"), "Content-Type", octets, "Content-Range", "what").
			want(t, http.StatusBadRequest, http.StatusRequestedRangeNotSatisfiable).wantCode(t, "BLOB_UPLOAD_INVALID")
		c.chunk(t, c.start(t), []byte("x"), 7).want(t, http.StatusRequestedRangeNotSatisfiable).wantCode(t, "BLOB_UPLOAD_INVALID")
	})
	t.Run("code-3 BLOB_UPLOAD_UNKNOWN", func(t *testing.T) {
		p := c.path("blobs/uploads/00000000-0000-4000-8000-000000000000")
		for _, method := range []string{"GET", "PATCH", "DELETE"} {
			c.send(t, method, p, nil).want(t, http.StatusNotFound).wantCode(t, "BLOB_UPLOAD_UNKNOWN")
		}
		c.send(t, "PUT", p+"?digest="+none.String(), nil).want(t, http.StatusNotFound).wantCode(t, "BLOB_UPLOAD_UNKNOWN")
	})
	t.Run("code-4 DIGEST_INVALID", func(t *testing.T) {
		content := c.image(t)
		c.put(t, none.String(), content).want(t, http.StatusBadRequest).wantCode(t, "DIGEST_INVALID")
		for _, bad := range []string{"sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "what"} {
			c.send(t, "PUT", with(t, c.start(t), "digest", bad), []byte("x")).want(t, http.StatusBadRequest).wantCode(t, "DIGEST_INVALID")
		}
		c.send(t, "PUT", c.start(t), []byte("x")).want(t, http.StatusBadRequest).wantCode(t, "DIGEST_INVALID")
	})
	c.manifestErrors(t, none)
	t.Run("code-8 NAME_INVALID", func(t *testing.T) {
		for _, name := range []string{"Upper", "a__-b", "-a", "a..b", "a/-", "a%2fb/C"} {
			c.send(t, "GET", "/v2/"+name+"/tags/list", nil).want(t, http.StatusBadRequest, http.StatusNotFound).wantCode(t, "NAME_INVALID")
		}
	})
	t.Run("code-9 NAME_UNKNOWN", func(t *testing.T) {
		c.send(t, "GET", "/v2/"+c.target.Repository+"-none/tags/list", nil).want(t, http.StatusNotFound).wantCode(t, "NAME_UNKNOWN")
	})
	t.Run("code-10 SIZE_INVALID", func(t *testing.T) {
		c.send(t, "PATCH", c.start(t), []byte("four"), "Content-Type", octets, "Content-Range", "0-9").
			want(t, http.StatusBadRequest).wantCode(t, "SIZE_INVALID")
		if c.target.ManifestLimit > 0 {
			huge := bytes.Repeat([]byte(" "), c.target.ManifestLimit+1)
			c.put(t, "code-10", huge).want(t, http.StatusRequestEntityTooLarge).wantCode(t, "SIZE_INVALID")
		}
	})
	t.Run("code-11 UNAUTHORIZED", func(t *testing.T) { c.unauthorized(t) })
	t.Run("code-12 DENIED", func(t *testing.T) { c.denied(t, none) })
	t.Run("code-13 UNSUPPORTED", func(t *testing.T) {
		c.send(t, "POST", c.path("manifests/latest"), nil).want(t, http.StatusMethodNotAllowed).wantCode(t, "UNSUPPORTED")
	})
	t.Run("code-14 TOOMANYREQUESTS", func(t *testing.T) {
		if c.target.UploadLimit == 0 {
			t.Skip("the limit of the registry is not known")
		}
		p := "/v2/" + c.target.Other + "-many/blobs/uploads/"
		for range c.target.UploadLimit {
			c.send(t, "POST", p, nil).want(t, http.StatusAccepted)
		}
		c.send(t, "POST", p, nil).want(t, http.StatusTooManyRequests).wantCode(t, "TOOMANYREQUESTS")
	})
}

// manifestErrors are those of manifests; none is the digest of nothing that is
// there.
func (c *client) manifestErrors(t *testing.T, none digest.Digest) {
	t.Run("code-5 MANIFEST_BLOB_UNKNOWN", func(t *testing.T) {
		content := c.image(t, func(m *ocispec.Manifest) { m.Layers[0].Digest = none })
		c.put(t, "code-5", content).want(t, http.StatusBadRequest, http.StatusNotFound).wantCode(t, "MANIFEST_BLOB_UNKNOWN")
		c.send(t, "GET", c.path("manifests/code-5"), nil).want(t, http.StatusNotFound)
		// Neither does a manifest that was refused count as a referrer.
		_, subject := random(t, 8)
		content = c.image(t, func(m *ocispec.Manifest) {
			m.Layers[0].Digest = none
			m.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: 1}
		})
		c.put(t, "code-5", content).want(t, http.StatusBadRequest, http.StatusNotFound)
		if index, _ := c.list(t, c.path("referrers", subject.String())); len(index.Manifests) != 0 {
			t.Errorf("it is a referrer: %+v", index.Manifests)
		}
	})
	t.Run("code-6 MANIFEST_INVALID", func(t *testing.T) {
		for _, content := range []string{"", "{", "[]", "{}", `{"schemaVersion":1}`, `{"schemaVersion":2}`,
			`{"schemaVersion":2,"mediaType":"application/vnd.example"}`,
			`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[]}`,
			`{"schemaVersion":2,"config":{"digest":"../../x"},"layers":[]}`,
		} {
			c.put(t, "code-6", []byte(content)).want(t, http.StatusBadRequest).wantCode(t, "MANIFEST_INVALID")
		}
	})
	t.Run("code-7 MANIFEST_UNKNOWN", func(t *testing.T) {
		c.send(t, "GET", c.path("manifests", none.String()), nil).want(t, http.StatusNotFound).wantCode(t, "MANIFEST_UNKNOWN")
		c.send(t, "DELETE", c.path("manifests", none.String()), nil).want(t, http.StatusNotFound).wantCode(t, "MANIFEST_UNKNOWN")
	})
}

func (c *client) unauthorized(t *testing.T) {
	if c.target.Password == "" {
		t.Skip("the registry is open")
	}
	for _, password := range []string{"", "not-the-password"} {
		stranger := &client{target: c.target}
		stranger.target.Password = password
		if password == "" {
			stranger.target.Username = ""
		}
		for _, p := range []string{"/v2/", c.path("tags/list"), "/v2/_catalog"} {
			r := stranger.send(t, "GET", p, nil).want(t, http.StatusUnauthorized)
			r.wantCode(t, "UNAUTHORIZED")
			if r.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s has no challenge", p)
			}
		}
	}
}

func (c *client) denied(t *testing.T, none digest.Digest) {
	if c.target.Denied == "" {
		t.Skip("the user may do everything")
	}
	base := "/v2/" + c.target.Denied
	for _, req := range [][2]string{
		{"GET", "/tags/list"}, {"GET", "/manifests/latest"}, {"HEAD", "/manifests/latest"}, {"PUT", "/manifests/latest"},
		{"DELETE", "/manifests/latest"}, {"GET", "/blobs/" + none.String()}, {"DELETE", "/blobs/" + none.String()},
		{"POST", "/blobs/uploads/"}, {"GET", "/referrers/" + none.String()},
		{"PATCH", "/blobs/uploads/00000000-0000-4000-8000-000000000000"},
	} {
		r := c.send(t, req[0], base+req[1], nil).want(t, http.StatusForbidden)
		if req[0] != "HEAD" {
			r.wantCode(t, "DENIED")
		}
	}
}
