package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// send makes a request as the user of a token and reads the answer.
func (h *house) send(t *testing.T, token, method, path string, content []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	if path[0] == '/' {
		path = h.server.URL + path
	}
	req, err := http.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("any", token)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

// must is send that expects a status.
func (h *house) must(t *testing.T, status int, token, method, path string, content []byte, header ...string) (*http.Response, []byte) {
	t.Helper()
	res, body := h.send(t, token, method, path, content, header...)
	if res.StatusCode != status {
		t.Fatalf("%s %s is %d, want %d: %s", method, path, res.StatusCode, status, body)
	}
	return res, body
}

func (h *house) blob(t *testing.T, repo string, content []byte) ocispec.Descriptor {
	t.Helper()
	d := digest.FromBytes(content)
	h.must(t, 201, "admin-token", "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), content)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(content))}
}

// image pushes an image with one layer of that content, as a tag or, where
// that is "", by its digest.
func (h *house) image(t *testing.T, repo, tag, content string, change ...func(*ocispec.Manifest)) digest.Digest {
	t.Helper()
	config := h.blob(t, repo, []byte(`{"of":"`+content+`"}`))
	config.MediaType = ocispec.MediaTypeImageConfig
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{h.blob(t, repo, []byte(content))},
	}
	for _, f := range change {
		f(&m)
	}
	return h.manifest(t, repo, tag, m.MediaType, m)
}

func (h *house) manifest(t *testing.T, repo, tag, mediaType string, m any) digest.Digest {
	t.Helper()
	content, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(content)
	if tag == "" {
		tag = d.String()
	}
	h.must(t, 201, "admin-token", "PUT", "/v2/"+repo+"/manifests/"+tag, content, "Content-Type", mediaType)
	return d
}

// about makes a manifest one about a subject.
func about(subject digest.Digest) func(*ocispec.Manifest) {
	return func(m *ocispec.Manifest) {
		m.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: 1}
	}
}

func (h *house) has(t *testing.T, repo, kind string, d digest.Digest) bool {
	t.Helper()
	res, body := h.send(t, "admin-token", "GET", fmt.Sprintf("/v2/%s/%s/%s", repo, kind, d), nil)
	if res.StatusCode == 200 && digest.FromBytes(body) != d {
		t.Errorf("%s is served with the digest %s", d, digest.FromBytes(body))
	}
	return res.StatusCode == 200
}

// age makes everything in the registry look as if it was last used d ago.
func (h *house) age(t *testing.T, d time.Duration) {
	t.Helper()
	then := time.Now().Add(-d)
	err := filepath.WalkDir(filepath.Join(h.dir, "docker"), func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(p, then, then)
	})
	if err != nil {
		t.Fatal(err)
	}
}
