package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/registry"
)

const noDigest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

// TestMountAsksForTheSource: who may not read a repository cannot have its
// blobs by mounting them, in whatever way the source is named.
func TestMountAsksForTheSource(t *testing.T) {
	h := newHouse(t)
	secret := h.blob(t, "secret/app", []byte("the secret")).Digest
	start := "/v2/web-app/blobs/uploads/"
	query := "mount=" + secret.String() + "&from=secret/app"
	h.must(t, 202, "alice-token", "POST", start+"?"+query, nil)
	h.must(t, 202, "alice-token", "POST", start, []byte(query), "Content-Type", "application/x-www-form-urlencoded")
	h.must(t, 202, "alice-token", "POST", start+"?mount="+secret.String(), []byte("from=secret/app"), "Content-Type", "application/x-www-form-urlencoded")
	form := "--b\r\nContent-Disposition: form-data; name=\"from\"\r\n\r\nsecret/app\r\n--b\r\nContent-Disposition: form-data; name=\"mount\"\r\n\r\n" + secret.String() + "\r\n--b--\r\n"
	h.must(t, 202, "alice-token", "POST", start, []byte(form), "Content-Type", "multipart/form-data; boundary=b")
	if h.has(t, "web-app", "blobs", secret) {
		t.Fatal("the blob of another tenant was mounted")
	}
	h.must(t, 201, "admin-token", "POST", start+"?"+query, nil)
	h.must(t, 200, "alice-token", "GET", "/v2/web-app/blobs/"+secret.String(), nil)
}

func TestBlobsStayInTheirRepository(t *testing.T) {
	h := newHouse(t)
	d := h.image(t, "secret/app", "v1", "the secret")
	layer := digest.FromString("the secret")
	h.must(t, 404, "alice-token", "GET", "/v2/web-app/blobs/"+layer.String(), nil)
	h.must(t, 404, "alice-token", "GET", "/v2/web-app/manifests/"+d.String(), nil)
	// Nor by a manifest that names them.
	config := h.blob(t, "web-app", []byte("{}"))
	body, err := json.Marshal(ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: layer, Size: 10}}})
	if err != nil {
		t.Fatal(err)
	}
	body = bytes.Replace(body, []byte(`"schemaVersion":0`), []byte(`"schemaVersion":2`), 1)
	res, answer := h.send(t, "alice-token", "PUT", "/v2/web-app/manifests/v1", body, "Content-Type", ocispec.MediaTypeImageManifest)
	if res.StatusCode != 400 || !strings.Contains(string(answer), "MANIFEST_BLOB_UNKNOWN") {
		t.Errorf("it is %d: %s", res.StatusCode, answer)
	}
}

func TestCatalogIsWhatTheCallerMayRead(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"web-app", "default/api", "secret/app", "secret/deep/down", "default/apps/blobs"} {
		h.image(t, name, "v1", "x")
	}
	list := func(token, query string) ([]string, string) {
		res, body := h.must(t, 200, token, "GET", "/v2/_catalog"+query, nil)
		var l struct{ Repositories []string }
		if err := json.Unmarshal(body, &l); err != nil {
			t.Fatal(err)
		}
		return l.Repositories, res.Header.Get("Link")
	}
	if got, _ := list("alice-token", ""); !slices.Equal(got, []string{"default/api", "default/apps/blobs", "default/web-app"}) {
		t.Errorf("alice sees %q", got)
	}
	if got, _ := list("nobody-token", ""); len(got) != 0 {
		t.Errorf("nobody sees %q", got)
	}
	if got, link := list("admin-token", "?n=2&last=default/apps/blobs"); !slices.Equal(got, []string{"default/web-app", "secret/app"}) || !strings.Contains(link, "last=secret%2Fapp") {
		t.Errorf("the page is %q, %s", got, link)
	}
}

// TestAnUploadHasOneWriter: two requests that write to one upload at a time
// would leave content under a digest that it does not have.
func TestAnUploadHasOneWriter(t *testing.T) {
	h := newHouse(t)
	for range 20 {
		res, _ := h.must(t, 202, "alice-token", "POST", "/v2/web-app/blobs/uploads/", nil)
		location := res.Header.Get("Location")
		var writers sync.WaitGroup
		contents := [][]byte{bytes.Repeat([]byte("a"), 1<<20), bytes.Repeat([]byte("b"), 1<<20)}
		for _, content := range contents {
			writers.Go(func() {
				res, body := h.send(t, "alice-token", "PUT", location+"&digest="+digest.FromBytes(content).String(), content)
				if !slices.Contains([]int{201, 400, 404, 416, 429}, res.StatusCode) {
					t.Errorf("it is %d: %s", res.StatusCode, body)
				}
			})
		}
		writers.Wait()
		for _, content := range contents {
			h.has(t, "web-app", "blobs", digest.FromBytes(content)) // says where it is another content
		}
	}
}

func TestHostilePaths(t *testing.T) {
	h := newHouse(t)
	for _, p := range []string{"/v2/../../etc/passwd", "/v2/a/../b/tags/list", "/v2/a//b/tags/list", "/v2/%2e%2e/tags/list", "/v2/_catalog/x",
		"/v2/a/b%2f..%2f..%2fc/manifests/x", "/v2/a/manifests/..", "/v2/a/manifests/../../x", "/v2/a/blobs/sha256:../../x", "/v2/a/blobs/uploads/../x",
		"/v2/_uploads/tags/list", "/v2/a/_layers/tags/list", "/v2x", "/v2/" + strings.Repeat("a/", 200) + "tags/list"} {
		for _, method := range []string{"GET", "PUT", "POST", "PATCH", "DELETE"} {
			req, err := http.NewRequestWithContext(t.Context(), method, h.server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.URL.Opaque = p // as it is
			req.SetBasicAuth("", "admin-token")
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode < 400 || res.StatusCode >= 500 {
				t.Errorf("%s %s is %d", method, p, res.StatusCode)
			}
		}
	}
}

func TestAccessThatIsAway(t *testing.T) {
	h := newHouse(t)
	h.access.setAway(errors.New("dial: a secret path"))
	res, body := h.must(t, 503, "alice-token", "GET", "/v2/web-app/tags/list", nil)
	if !strings.Contains(string(body), "UNAVAILABLE") || !strings.Contains(string(body), "the API server") || strings.Contains(string(body), "secret") {
		t.Errorf("it says %s", body)
	}
	if res.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to try again")
	}
}

func TestLimits(t *testing.T) {
	h := newHouse(t, func(o *registry.Options) { o.Limits.BlobBytes = 1000 })
	large := bytes.Repeat([]byte("x"), 1001)
	d := digest.FromBytes(large)
	h.must(t, 413, "alice-token", "POST", "/v2/web-app/blobs/uploads/?digest="+d.String(), large)
	res, _ := h.must(t, 202, "alice-token", "POST", "/v2/web-app/blobs/uploads/", nil)
	res, _ = h.must(t, 202, "alice-token", "PATCH", res.Header.Get("Location"), large[:600])
	h.must(t, 413, "alice-token", "PATCH", res.Header.Get("Location"), large[:600])
	// Of a length that is not said before.
	res, _ = h.must(t, 202, "alice-token", "POST", "/v2/web-app/blobs/uploads/", nil)
	req, err := http.NewRequestWithContext(t.Context(), "PATCH", h.server.URL+res.Header.Get("Location"), struct{ *bytes.Reader }{bytes.NewReader(large)})
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("", "alice-token")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != 413 {
		t.Errorf("a stream is %d", answer.StatusCode)
	}
	exact := large[:1000]
	h.must(t, 201, "alice-token", "POST", "/v2/web-app/blobs/uploads/?digest="+digest.FromBytes(exact).String(), exact)
}

func TestPushedIsTold(t *testing.T) {
	var mu sync.Mutex
	var got []core.ImagePush
	h := newHouse(t, func(o *registry.Options) {
		o.Pushed = func(_ context.Context, p core.ImagePush) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, p)
		}
	})
	d := h.image(t, "web-app", "v1", "x")
	s := h.image(t, "web-app", "", "signature", about(d))
	h.send(t, "admin-token", "PUT", "/v2/web-app/manifests/v2", []byte("{}"), "Content-Type", ocispec.MediaTypeImageManifest)
	if len(got) != 2 {
		t.Fatalf("told of %+v", got)
	}
	if got[0].Image.String() != "default/web-app:v1@"+d.String() || got[0].Who != "admin" || got[0].ID == "" || got[0].Subject != "" {
		t.Errorf("told of %+v", got[0])
	}
	if got[1].Image.Digest != s.String() || got[1].Subject != d.String() || got[1].Image.Tag != "" {
		t.Errorf("told of %+v", got[1])
	}
}

// TestReferrersAreMadeAnew: of a directory that knows of no referrers.
func TestReferrersAreMadeAnew(t *testing.T) {
	h := newHouse(t)
	d := h.image(t, "web-app", "v1", "x")
	s := h.image(t, "web-app", "", "signature", about(d))
	if err := os.Remove(filepath.Join(h.dir, "docker/registry/v2/referrers-version")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(h.dir, "docker/registry/v2/repositories/default/web-app/_referrers")); err != nil {
		t.Fatal(err)
	}
	again := openHouse(t, h.dir)
	_, body := again.must(t, 200, "reader-token", "GET", "/v2/web-app/referrers/"+d.String(), nil)
	if !strings.Contains(string(body), s.String()) {
		t.Errorf("the referrers are %s", body)
	}
}

func TestReferrersByPages(t *testing.T) {
	h := newHouse(t, func(o *registry.Options) { o.Limits.Page = 2 })
	d := h.image(t, "web-app", "v1", "x")
	want := map[string]bool{}
	for _, content := range []string{"1", "2", "3", "4", "5"} {
		want[h.image(t, "web-app", "", content, about(d)).String()] = true
	}
	for next := "/v2/web-app/referrers/" + d.String() + "?artifactType=" + url.QueryEscape(ocispec.MediaTypeImageConfig); next != ""; {
		res, body := h.must(t, 200, "reader-token", "GET", next, nil)
		var index ocispec.Index
		if err := json.Unmarshal(body, &index); err != nil {
			t.Fatal(err)
		}
		if len(index.Manifests) == 0 || len(index.Manifests) > 2 {
			t.Fatalf("a page has %d", len(index.Manifests))
		}
		for _, m := range index.Manifests {
			delete(want, m.Digest.String())
		}
		next, _, _ = strings.Cut(strings.TrimPrefix(res.Header.Get("Link"), "<"), ">")
	}
	if len(want) != 0 {
		t.Errorf("no page has %v", want)
	}
}

// TestSkopeo has the program, as Debian has it, copy, look, and delete.
func TestSkopeo(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Fatal("skopeo is not installed: apt-get install skopeo")
	}
	h := newHouse(t)
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), skopeo, args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo %s: %v: %s", args[0], err, out)
		}
		return string(out)
	}
	d := h.image(t, "web-app", "v1", "not a tar, which a registry need not know")
	dir, image := t.TempDir(), "docker://"+h.host()+"/web-app"
	auth := filepath.Join(t.TempDir(), "auth.json")
	run("login", "--tls-verify=false", "--authfile="+auth, "-u", "alice", "-p", "alice-token", h.host())
	run("copy", "--src-tls-verify=false", "--src-authfile="+auth, image+":v1", "oci:"+dir+":v1")
	run("copy", "--dest-tls-verify=false", "--dest-authfile="+auth, "oci:"+dir+":v1", image+":v2")
	if out := run("list-tags", "--tls-verify=false", "--authfile="+auth, image); !strings.Contains(out, `"v2"`) {
		t.Errorf("the tags are %s", out)
	}
	if got, err := crane.Digest(h.host()+"/web-app:v2", as("alice-token")); err != nil || got != d.String() {
		t.Errorf("v2 is %s, %v, want %s", got, err, d)
	}
	run("delete", "--tls-verify=false", "--authfile="+auth, image+":v2")
	h.must(t, 404, "alice-token", "GET", "/v2/web-app/manifests/"+d.String(), nil)
	h.must(t, 404, "alice-token", "GET", "/v2/web-app/blobs/"+noDigest, nil)
}

// TestPatience: a slow client is served for as long as it takes a byte now
// and then; one that sends nothing is told so.
func TestPatience(t *testing.T) {
	h := newHouse(t, func(o *registry.Options) { o.Limits.Idle = time.Second })
	content := bytes.Repeat([]byte("x"), 24<<20)
	d := h.blob(t, "web-app", content).Digest
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.server.URL+"/v2/web-app/blobs/"+d.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("", "alice-token")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	total := 0
	for buf := make([]byte, 1<<20); ; {
		n, err := io.ReadFull(res.Body, buf)
		total += n
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			t.Fatalf("after %d bytes: %v", total, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if total != len(content) {
		t.Errorf("%d bytes came of %d", total, len(content))
	}

	start, _ := h.must(t, 202, "alice-token", "POST", "/v2/web-app/blobs/uploads/", nil)
	body, stalled := io.Pipe()
	defer func() { _ = stalled.Close() }() // ends the client's request
	req, err = http.NewRequestWithContext(t.Context(), "PATCH", h.server.URL+start.Header.Get("Location"), body)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("", "alice-token")
	go func() { _, _ = stalled.Write([]byte("some")) }() // and no more
	late, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = late.Body.Close()
	if late.StatusCode != http.StatusRequestTimeout {
		t.Errorf("it is %d", late.StatusCode)
	}
}
