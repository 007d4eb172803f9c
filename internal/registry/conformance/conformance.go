// Package conformance tests a registry against the OCI distribution
// specification 1.1, over HTTP and with nothing but its URL: a test for each
// endpoint (end-1 to end-13), and one for each error code (code-1 to code-14).
package conformance

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Target is a registry and what the tests may do there. They push to
// Repository and Other, and delete.
type Target struct {
	// URL is the registry without /v2/.
	URL string
	// Username and Password are sent as basic credentials, unless both are
	// empty.
	Username, Password string
	// Repository and Other are two repositories that the user may use.
	Repository, Other string
	// Denied is one that the user may not use; empty where there is none.
	Denied string
	// UploadLimit is how many uploads a repository may have open before it is
	// told TOOMANYREQUESTS; 0 where that is not known.
	UploadLimit int
	// ManifestLimit is the largest manifest in bytes; 0 where that is not
	// known.
	ManifestLimit int
	// SHA512 says that digests of that algorithm are supported.
	SHA512 bool
}

// Run tests the target.
func Run(t *testing.T, target Target) {
	c := &client{target: target}
	t.Run("end-1", c.base)
	t.Run("end-2", c.blob)
	t.Run("end-3", c.manifest)
	t.Run("end-4a", c.startUpload)
	t.Run("end-4b", c.wholeUpload)
	t.Run("end-5", c.chunkedUpload)
	t.Run("end-6", c.finishUpload)
	t.Run("end-7", c.putManifest)
	t.Run("end-8a", c.tags)
	t.Run("end-8b", c.tagPages)
	t.Run("end-9", c.deleteManifest)
	t.Run("end-10", c.deleteBlob)
	t.Run("end-11", c.mount)
	t.Run("end-12a", c.referrers)
	t.Run("end-12b", c.referrersByType)
	t.Run("end-13", c.uploadStatus)
	t.Run("cancel-upload", c.cancelUpload)
	t.Run("sha512", c.sha512)
	t.Run("errors", c.errors)
}

type client struct{ target Target }

// response is an answer, read to its end.
type response struct {
	status int
	header http.Header
	body   []byte
}

// send makes a request. path is absolute or a whole URL; header is in pairs.
func (c *client) send(t *testing.T, method, path string, content []byte, header ...string) *response {
	t.Helper()
	base, err := url.Parse(c.target.URL)
	if err != nil {
		t.Fatal(err)
	}
	to, err := base.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, to.String(), bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if c.target.Username != "" || c.target.Password != "" {
		req.SetBasicAuth(c.target.Username, c.target.Password)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end below
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &response{res.StatusCode, res.Header, body}
}

// want fails the test unless the status is one of those.
func (r *response) want(t *testing.T, statuses ...int) *response {
	t.Helper()
	for _, s := range statuses {
		if r.status == s {
			return r
		}
	}
	t.Fatalf("status is %d, want %d: %s", r.status, statuses, r.body)
	return r
}

// wantHeader fails the test unless the header has the value.
func (r *response) wantHeader(t *testing.T, key, value string) *response {
	t.Helper()
	if got := r.header.Get(key); got != value {
		t.Errorf("%s is %q, want %q", key, got, value)
	}
	return r
}

// wantCode fails the test unless the body is the error of the specification
// with this code.
func (r *response) wantCode(t *testing.T, code string) {
	t.Helper()
	var body struct {
		Errors []struct{ Code, Message string } `json:"errors"`
	}
	if err := json.Unmarshal(r.body, &body); err != nil {
		t.Errorf("the body of the error is not JSON: %v: %q", err, r.body)
		return
	}
	for _, e := range body.Errors {
		if e.Code == code {
			return
		}
	}
	t.Errorf("no code %s in %s", code, r.body)
}

func (r *response) location(t *testing.T) string {
	t.Helper()
	l := r.header.Get("Location")
	if l == "" {
		t.Fatal("no Location")
	}
	return l
}

// with adds a query parameter to a location.
func with(t *testing.T, location, key, value string) string {
	t.Helper()
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}

func (c *client) path(parts ...string) string {
	return "/v2/" + c.target.Repository + "/" + strings.Join(parts, "/")
}

func (c *client) start(t *testing.T) string {
	t.Helper()
	return c.send(t, "POST", c.path("blobs/uploads/"), nil).want(t, http.StatusAccepted).location(t)
}

// random returns content that no registry has.
func random(t *testing.T, n int) ([]byte, digest.Digest) {
	t.Helper()
	content := make([]byte, n)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	return content, digest.FromBytes(content)
}

// push uploads content as a blob.
func (c *client) push(t *testing.T, content []byte) ocispec.Descriptor {
	t.Helper()
	d := digest.FromBytes(content)
	c.send(t, "PUT", with(t, c.start(t), "digest", d.String()), content,
		"Content-Type", "application/octet-stream").want(t, http.StatusCreated)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(content))}
}

// image makes a manifest whose blobs are pushed.
func (c *client) image(t *testing.T, change ...func(*ocispec.Manifest)) []byte {
	t.Helper()
	layer, _ := random(t, 32)
	config := c.push(t, []byte("{}"))
	config.MediaType = ocispec.MediaTypeImageConfig
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    []ocispec.Descriptor{c.push(t, layer)},
	}
	for _, f := range change {
		f(&m)
	}
	return encode(t, m)
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	content, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// put pushes a manifest of an image.
func (c *client) put(t *testing.T, reference string, content []byte) *response {
	t.Helper()
	return c.send(t, "PUT", c.path("manifests", reference), content, "Content-Type", ocispec.MediaTypeImageManifest)
}
