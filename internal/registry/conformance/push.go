package conformance

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const octets = "application/octet-stream"

func (c *client) startUpload(t *testing.T) {
	r := c.send(t, "POST", c.path("blobs/uploads/"), nil).want(t, http.StatusAccepted)
	r.location(t)
}

// wholeUpload accepts 202 too: a registry may not support it, and the client
// then goes on with PUT.
func (c *client) wholeUpload(t *testing.T) {
	content, d := random(t, 1000)
	r := c.send(t, "POST", c.path("blobs/uploads/?digest="+d.String()), content, "Content-Type", octets).
		want(t, http.StatusCreated, http.StatusAccepted)
	if r.status == http.StatusAccepted {
		c.send(t, "PUT", with(t, r.location(t), "digest", d.String()), content, "Content-Type", octets).want(t, http.StatusCreated)
	}
	c.wantBlob(t, d, content)
}

func (c *client) wantBlob(t *testing.T, d digest.Digest, content []byte) {
	t.Helper()
	if got := c.send(t, "GET", c.path("blobs", d.String()), nil).want(t, http.StatusOK); !bytes.Equal(got.body, content) {
		t.Error("the content is another one")
	}
}

// chunk sends part of a blob, and returns where the next one goes.
func (c *client) chunk(t *testing.T, location string, content []byte, from int) *response {
	t.Helper()
	return c.send(t, "PATCH", location, content, "Content-Type", octets,
		"Content-Range", fmt.Sprintf("%d-%d", from, from+len(content)-1),
		"Content-Length", strconv.Itoa(len(content)))
}

func (c *client) chunkedUpload(t *testing.T) {
	content, d := random(t, 3000)
	location := c.start(t)
	c.chunk(t, location, content[1000:2000], 1000).want(t, http.StatusRequestedRangeNotSatisfiable)

	r := c.chunk(t, location, content[:1000], 0).want(t, http.StatusAccepted).wantHeader(t, "Range", "0-999")
	location = r.location(t)
	c.chunk(t, location, content[:1000], 0).want(t, http.StatusRequestedRangeNotSatisfiable)
	c.chunk(t, location, content[2000:], 2000).want(t, http.StatusRequestedRangeNotSatisfiable)

	r = c.chunk(t, location, content[1000:2000], 1000).want(t, http.StatusAccepted).wantHeader(t, "Range", "0-1999")
	c.send(t, "PUT", with(t, r.location(t), "digest", d.String()), content[2000:], "Content-Type", octets,
		"Content-Range", "2000-2999").want(t, http.StatusCreated).wantHeader(t, "Docker-Content-Digest", d.String())
	c.wantBlob(t, d, content)
}

func (c *client) finishUpload(t *testing.T) {
	content, d := random(t, 1000)
	r := c.send(t, "PUT", with(t, c.start(t), "digest", d.String()), content, "Content-Type", octets).want(t, http.StatusCreated)
	if got := c.send(t, "GET", r.location(t), nil).want(t, http.StatusOK); !bytes.Equal(got.body, content) {
		t.Error("the content at the Location is another one")
	}
	// A stream of unknown length, and then nothing but the digest.
	content, d = random(t, 1000)
	r = c.send(t, "PATCH", c.start(t), content, "Content-Type", octets).want(t, http.StatusAccepted)
	c.send(t, "PUT", with(t, r.location(t), "digest", d.String()), nil).want(t, http.StatusCreated)
	c.wantBlob(t, d, content)

	// Content that has another digest is not stored, under neither.
	content, d = random(t, 1000)
	_, other := random(t, 8)
	c.send(t, "PUT", with(t, c.start(t), "digest", other.String()), content, "Content-Type", octets).
		want(t, http.StatusBadRequest).wantCode(t, "DIGEST_INVALID")
	for _, d := range []digest.Digest{d, other} {
		c.send(t, "HEAD", c.path("blobs", d.String()), nil).want(t, http.StatusNotFound)
	}
}

func (c *client) putManifest(t *testing.T) {
	content := c.image(t)
	d := digest.FromBytes(content)
	for _, ref := range []string{"end-7", d.String()} {
		r := c.put(t, ref, content).want(t, http.StatusCreated).wantHeader(t, "Docker-Content-Digest", d.String())
		if got := c.send(t, "GET", r.location(t), nil).want(t, http.StatusOK); !bytes.Equal(got.body, content) {
			t.Error("the manifest at the Location is another one")
		}
	}
	index := encode(t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(content))}},
	})
	c.send(t, "PUT", c.path("manifests/end-7-index"), index, "Content-Type", ocispec.MediaTypeImageIndex).want(t, http.StatusCreated)
	c.send(t, "GET", c.path("manifests/end-7-index"), nil).want(t, http.StatusOK).wantHeader(t, "Content-Type", ocispec.MediaTypeImageIndex)

	// An artifact, whose config is the empty one and whose layers are anything.
	artifact := c.image(t, func(m *ocispec.Manifest) {
		m.ArtifactType = "application/vnd.example.report"
		m.Config.MediaType = ocispec.MediaTypeEmptyJSON
		m.Layers[0].MediaType = "application/vnd.example.report.text"
	})
	c.put(t, "end-7-artifact", artifact).want(t, http.StatusCreated)
}

func (c *client) mount(t *testing.T) {
	content, d := random(t, 1000)
	c.push(t, content)
	other := "/v2/" + c.target.Other + "/blobs/"
	c.send(t, "HEAD", other+d.String(), nil).want(t, http.StatusNotFound)
	r := c.send(t, "POST", other+"uploads/?mount="+d.String()+"&from="+c.target.Repository, nil).
		want(t, http.StatusCreated, http.StatusAccepted)
	if r.status == http.StatusCreated {
		if got := c.send(t, "GET", r.location(t), nil).want(t, http.StatusOK); !bytes.Equal(got.body, content) {
			t.Error("the mounted blob is another one")
		}
	}
	_, none := random(t, 8)
	c.send(t, "POST", other+"uploads/?mount="+none.String()+"&from="+c.target.Repository, nil).
		want(t, http.StatusAccepted).location(t)
	c.send(t, "POST", other+"uploads/?mount="+none.String(), nil).want(t, http.StatusAccepted).location(t)
}

func (c *client) uploadStatus(t *testing.T) {
	content, _ := random(t, 1000)
	r := c.chunk(t, c.start(t), content, 0).want(t, http.StatusAccepted)
	status := c.send(t, "GET", r.location(t), nil).want(t, http.StatusNoContent).wantHeader(t, "Range", "0-999")
	// The status says where to go on.
	c.chunk(t, status.location(t), content, 1000).want(t, http.StatusAccepted).wantHeader(t, "Range", "0-1999")
}

func (c *client) cancelUpload(t *testing.T) {
	location := c.start(t)
	c.send(t, "DELETE", location, nil).want(t, http.StatusNoContent)
	c.send(t, "GET", location, nil).want(t, http.StatusNotFound).wantCode(t, "BLOB_UPLOAD_UNKNOWN")
}

func (c *client) sha512(t *testing.T) {
	if !c.target.SHA512 {
		t.Skip("the registry does not support sha512")
	}
	content, canonical := random(t, 1000)
	d := digest.SHA512.FromBytes(content)
	r := c.send(t, "PUT", with(t, c.start(t), "digest", d.String()), content, "Content-Type", octets).
		want(t, http.StatusCreated).wantHeader(t, "Docker-Content-Digest", d.String())
	for _, p := range []string{r.location(t), c.path("blobs", d.String())} {
		for _, method := range []string{"GET", "HEAD"} {
			c.send(t, method, p, nil).want(t, http.StatusOK).wantHeader(t, "Docker-Content-Digest", d.String())
		}
	}
	c.wantBlob(t, d, content)
	c.send(t, "PUT", with(t, c.start(t), "digest", digest.SHA512.FromString("other").String()), content, "Content-Type", octets).
		want(t, http.StatusBadRequest).wantCode(t, "DIGEST_INVALID")

	image := c.image(t, func(m *ocispec.Manifest) { m.Layers[0].Digest = d })
	md := digest.SHA512.FromBytes(image)
	c.put(t, md.String(), image).want(t, http.StatusCreated).wantHeader(t, "Docker-Content-Digest", md.String())
	got := c.send(t, "GET", c.path("manifests", md.String()), nil).want(t, http.StatusOK).wantHeader(t, "Docker-Content-Digest", md.String())
	if !bytes.Equal(got.body, image) {
		t.Error("the manifest is another one")
	}
	c.put(t, digest.SHA512.FromString("other").String(), image).want(t, http.StatusBadRequest).wantCode(t, "DIGEST_INVALID")
	c.send(t, "DELETE", c.path("manifests", md.String()), nil).want(t, http.StatusAccepted)
	c.send(t, "GET", c.path("manifests", md.String()), nil).want(t, http.StatusNotFound)
	c.send(t, "GET", c.path("blobs", canonical.String()), nil).want(t, http.StatusOK)
}
