package conformance

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func (c *client) base(t *testing.T) {
	c.send(t, "GET", "/v2/", nil).want(t, http.StatusOK)
}

func (c *client) blob(t *testing.T) {
	content, d := random(t, 4096)
	c.push(t, content)
	p := c.path("blobs", d.String())

	got := c.send(t, "GET", p, nil).want(t, http.StatusOK).wantHeader(t, "Docker-Content-Digest", d.String())
	if !bytes.Equal(got.body, content) {
		t.Error("the content is another one")
	}
	head := c.send(t, "HEAD", p, nil).want(t, http.StatusOK).
		wantHeader(t, "Docker-Content-Digest", d.String()).
		wantHeader(t, "Content-Length", strconv.Itoa(len(content)))
	if len(head.body) != 0 {
		t.Error("HEAD has a body")
	}
	part := c.send(t, "GET", p, nil, "Range", "bytes=1000-1999").want(t, http.StatusPartialContent).
		wantHeader(t, "Content-Range", "bytes 1000-1999/4096")
	if !bytes.Equal(part.body, content[1000:2000]) {
		t.Error("the range is another one")
	}
	tail := c.send(t, "GET", p, nil, "Range", "bytes=4000-").want(t, http.StatusPartialContent)
	if !bytes.Equal(tail.body, content[4000:]) {
		t.Error("the open range is another one")
	}
	c.send(t, "GET", p, nil, "Range", "bytes=5000-6000").want(t, http.StatusRequestedRangeNotSatisfiable)

	c.push(t, nil) // an empty blob is a blob
	c.send(t, "HEAD", c.path("blobs", digest.FromBytes(nil).String()), nil).want(t, http.StatusOK).wantHeader(t, "Content-Length", "0")

	_, none := random(t, 8)
	c.send(t, "HEAD", c.path("blobs", none.String()), nil).want(t, http.StatusNotFound)
}

func (c *client) manifest(t *testing.T) {
	content := c.image(t)
	d := digest.FromBytes(content)
	c.put(t, "end-3", content).want(t, http.StatusCreated)
	for _, ref := range []string{"end-3", d.String()} {
		p := c.path("manifests", ref)
		for _, accept := range []string{ocispec.MediaTypeImageManifest, "*/*", ocispec.MediaTypeImageIndex + ", " + ocispec.MediaTypeImageManifest} {
			got := c.send(t, "GET", p, nil, "Accept", accept).want(t, http.StatusOK).
				wantHeader(t, "Docker-Content-Digest", d.String()).
				wantHeader(t, "Content-Type", ocispec.MediaTypeImageManifest)
			if !bytes.Equal(got.body, content) {
				t.Errorf("%s with Accept %q is another manifest", ref, accept)
			}
		}
		c.send(t, "HEAD", p, nil).want(t, http.StatusOK).
			wantHeader(t, "Docker-Content-Digest", d.String()).
			wantHeader(t, "Content-Length", strconv.Itoa(len(content)))
	}
	for _, ref := range []string{"no-such-tag", ".INVALID_MANIFEST_NAME", digest.FromString("nothing").String()} {
		c.send(t, "GET", c.path("manifests", ref), nil).want(t, http.StatusNotFound).wantCode(t, "MANIFEST_UNKNOWN")
		c.send(t, "HEAD", c.path("manifests", ref), nil).want(t, http.StatusNotFound)
	}
}

type tagList struct {
	Name string
	Tags []string
}

func (c *client) tags(t *testing.T) {
	content := c.image(t)
	for _, tag := range []string{"list-c", "list-a", "list-B", "list-b"} {
		c.put(t, tag, content).want(t, http.StatusCreated)
	}
	list := decode[tagList](t, c.send(t, "GET", c.path("tags/list"), nil).want(t, http.StatusOK))
	if list.Name != c.target.Repository {
		t.Errorf("the name is %q", list.Name)
	}
	last, seen := "", map[string]bool{}
	for _, tag := range list.Tags {
		if tag <= last {
			t.Errorf("%q is listed after %q", tag, last)
		}
		last, seen[tag] = tag, true
	}
	for _, tag := range []string{"list-a", "list-b", "list-B", "list-c"} {
		if !seen[tag] {
			t.Errorf("%q is not listed", tag)
		}
	}
	c.send(t, "GET", "/v2/"+c.target.Repository+"-none/tags/list", nil).want(t, http.StatusNotFound)
}

func (c *client) tagPages(t *testing.T) {
	content := c.image(t)
	for i := range 5 {
		c.put(t, fmt.Sprintf("page-%d", i), content).want(t, http.StatusCreated)
	}
	all := decode[tagList](t, c.send(t, "GET", c.path("tags/list"), nil).want(t, http.StatusOK)).Tags
	var got []string
	for next := c.path("tags/list?n=2"); next != ""; {
		r := c.send(t, "GET", next, nil).want(t, http.StatusOK)
		page := decode[tagList](t, r).Tags
		if len(page) == 0 || len(page) > 2 {
			t.Fatalf("a page has %d tags", len(page))
		}
		got = append(got, page...)
		next = nextLink(r)
	}
	if fmt.Sprint(got) != fmt.Sprint(all) {
		t.Errorf("the pages are %q, all is %q", got, all)
	}
	page := decode[tagList](t, c.send(t, "GET", c.path("tags/list?n=3&last=page-0"), nil).want(t, http.StatusOK))
	if fmt.Sprint(page.Tags) != "[page-1 page-2 page-3]" {
		t.Errorf("after page-0 come %q", page.Tags)
	}
	none := c.send(t, "GET", c.path("tags/list?n=0"), nil).want(t, http.StatusOK)
	if list := decode[tagList](t, none); len(list.Tags) != 0 || nextLink(none) != "" {
		t.Errorf("n=0 gives %q with Link %q", list.Tags, nextLink(none))
	}
}
