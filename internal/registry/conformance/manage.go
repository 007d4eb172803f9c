package conformance

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func decode[T any](t *testing.T, r *response) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.body, &v); err != nil {
		t.Fatalf("%v: %s", err, r.body)
	}
	return v
}

// nextLink is the target of Link with rel="next", or "".
func nextLink(r *response) string {
	link, rest, ok := strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), ">")
	if !ok || !strings.Contains(rest, `rel="next"`) {
		return ""
	}
	return link
}

func (c *client) deleteManifest(t *testing.T) {
	content := c.image(t)
	d := digest.FromBytes(content)
	for _, tag := range []string{"end-9-a", "end-9-b", "end-9-c"} {
		c.put(t, tag, content).want(t, http.StatusCreated)
	}
	// A tag goes alone.
	c.send(t, "DELETE", c.path("manifests/end-9-a"), nil).want(t, http.StatusAccepted)
	c.send(t, "GET", c.path("manifests/end-9-a"), nil).want(t, http.StatusNotFound)
	c.send(t, "GET", c.path("manifests/end-9-b"), nil).want(t, http.StatusOK)
	c.send(t, "GET", c.path("manifests", d.String()), nil).want(t, http.StatusOK)
	c.send(t, "DELETE", c.path("manifests/end-9-a"), nil).want(t, http.StatusNotFound)
	// A manifest goes with its tags.
	c.send(t, "DELETE", c.path("manifests", d.String()), nil).want(t, http.StatusAccepted)
	for _, ref := range []string{"end-9-b", "end-9-c", d.String()} {
		c.send(t, "GET", c.path("manifests", ref), nil).want(t, http.StatusNotFound)
	}
	list := decode[tagList](t, c.send(t, "GET", c.path("tags/list"), nil).want(t, http.StatusOK))
	if slices.Contains(list.Tags, "end-9-b") || slices.Contains(list.Tags, "end-9-c") {
		t.Errorf("the tags are still listed: %q", list.Tags)
	}
	c.send(t, "DELETE", c.path("manifests", d.String()), nil).want(t, http.StatusNotFound)
	// It can be pushed again.
	c.put(t, "end-9-b", content).want(t, http.StatusCreated)
	c.send(t, "GET", c.path("manifests/end-9-b"), nil).want(t, http.StatusOK)
}

func (c *client) deleteBlob(t *testing.T) {
	content, d := random(t, 1000)
	c.push(t, content)
	c.send(t, "DELETE", c.path("blobs", d.String()), nil).want(t, http.StatusAccepted)
	c.send(t, "GET", c.path("blobs", d.String()), nil).want(t, http.StatusNotFound).wantCode(t, "BLOB_UNKNOWN")
	c.send(t, "DELETE", c.path("blobs", d.String()), nil).want(t, http.StatusNotFound).wantCode(t, "BLOB_UNKNOWN")
	c.push(t, content)
	c.wantBlob(t, d, content)
}

const (
	typeA = "application/vnd.example.a"
	typeB = "application/vnd.example.b"
)

// attach pushes a manifest about a subject.
func (c *client) attach(t *testing.T, subject digest.Digest, artifactType string) digest.Digest {
	t.Helper()
	content := c.image(t, func(m *ocispec.Manifest) {
		m.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: 1}
		m.Config.MediaType = artifactType
		m.Annotations = map[string]string{"example": artifactType}
	})
	d := digest.FromBytes(content)
	c.put(t, d.String(), content).want(t, http.StatusCreated).wantHeader(t, "OCI-Subject", subject.String())
	return d
}

func (c *client) list(t *testing.T, path string) (ocispec.Index, *response) {
	t.Helper()
	r := c.send(t, "GET", path, nil).want(t, http.StatusOK).wantHeader(t, "Content-Type", ocispec.MediaTypeImageIndex)
	index := decode[ocispec.Index](t, r)
	if index.SchemaVersion != 2 || index.MediaType != ocispec.MediaTypeImageIndex || index.Manifests == nil {
		t.Errorf("that is no index: %s", r.body)
	}
	return index, r
}

func (c *client) referrers(t *testing.T) {
	content := c.image(t)
	subject := digest.FromBytes(content)
	p := c.path("referrers", subject.String())
	// Before the subject is there, and before anything refers to it.
	if index, _ := c.list(t, p); len(index.Manifests) != 0 {
		t.Errorf("there are %d referrers of nothing", len(index.Manifests))
	}
	first := c.attach(t, subject, typeA)
	c.put(t, "end-12", content).want(t, http.StatusCreated)
	second := c.attach(t, subject, typeB)

	index, _ := c.list(t, p)
	got := map[digest.Digest]ocispec.Descriptor{}
	for _, d := range index.Manifests {
		got[d.Digest] = d
	}
	if len(index.Manifests) != 2 || got[first].ArtifactType != typeA || got[second].ArtifactType != typeB {
		t.Fatalf("the referrers are %+v", index.Manifests)
	}
	for d, desc := range got {
		r := c.send(t, "GET", c.path("manifests", d.String()), nil).want(t, http.StatusOK)
		if desc.Size != int64(len(r.body)) || desc.MediaType != ocispec.MediaTypeImageManifest || desc.Annotations["example"] != desc.ArtifactType {
			t.Errorf("the descriptor is %+v", desc)
		}
	}
	// A referrer that is deleted is not listed; others are.
	c.send(t, "DELETE", c.path("manifests", first.String()), nil).want(t, http.StatusAccepted)
	if index, _ := c.list(t, p); len(index.Manifests) != 1 || index.Manifests[0].Digest != second {
		t.Errorf("after the deletion the referrers are %+v", index.Manifests)
	}
	// A manifest is none of its own blobs' referrers, and an index may refer.
	list := encode(t, ocispec.Index{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageIndex,
		ArtifactType: typeA,
		Manifests:    []ocispec.Descriptor{},
		Subject:      &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: int64(len(content))},
	})
	c.send(t, "PUT", c.path("manifests", digest.FromBytes(list).String()), list, "Content-Type", ocispec.MediaTypeImageIndex).
		want(t, http.StatusCreated).wantHeader(t, "OCI-Subject", subject.String())
	if index, _ := c.list(t, p); len(index.Manifests) != 2 {
		t.Errorf("with an index the referrers are %+v", index.Manifests)
	}
	c.send(t, "GET", c.path("referrers", "sha256:short"), nil).want(t, http.StatusBadRequest)
}

func (c *client) referrersByType(t *testing.T) {
	subject := digest.FromBytes(c.image(t))
	c.attach(t, subject, typeA)
	b := c.attach(t, subject, typeB)
	p := c.path("referrers", subject.String())
	index, r := c.list(t, p+"?artifactType="+typeB)
	applied := r.header.Get("OCI-Filters-Applied")
	if applied == "" {
		t.Skip("the registry does not filter")
	}
	if applied != "artifactType" || len(index.Manifests) != 1 || index.Manifests[0].Digest != b {
		t.Errorf("filtered by %q the referrers are %+v", applied, index.Manifests)
	}
	if index, _ := c.list(t, p+"?artifactType=application/vnd.example.none"); len(index.Manifests) != 0 {
		t.Errorf("of no type the referrers are %+v", index.Manifests)
	}
}
