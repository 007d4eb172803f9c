package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Garbage collection frees the space of what nobody needs, keeps what runs and
// what may be rolled back to though it has no tag, and harms no push that is
// under way.
func TestGarbageCollection(t *testing.T) {
	ensureNamespace(t, "gc")
	first, second := makeImage(t, "gc/app:first"), makeImage(t, "gc/app:second")
	never, alone := makeImage(t, "gc/app:never"), makeImage(t, "gc/alone:v1")
	byHand := makeImage(t, "gc/app:by-hand")
	shared.kubectl(t, "-n", "gc", "run", "by-hand", "--image="+byHand.ref)

	dir := shared.repository(t, "gc", map[string]string{"a/pod.yaml": workload(first.ref)})
	shared.apply(t, application("gc", publicGitURL(t)+"/gc.git", "a", "gc"))
	shared.must(t, "app", "wait", "gc", "--revision", shared.git(t, dir, "rev-parse", "HEAD"))
	shared.push(t, dir, map[string]string{"a/pod.yaml": workload(second.ref)})
	shared.must(t, "app", "wait", "gc", "--revision", shared.git(t, dir, "rev-parse", "HEAD"))

	shared.must(t, "image", "delete", "gc/app:first", "gc/app:second", "gc/app:never", "gc/app:by-hand", "gc/alone:v1")
	age(t, filepath.Join(shared.data, "registry", "docker"), 48*time.Hour)
	push := beginPush(t, "gc/pushed")

	var report struct {
		Manifests []string
		Bytes     int64
	}
	if err := json.Unmarshal([]byte(shared.must(t, "image", "collect", "-o", "json")), &report); err != nil {
		t.Fatal(err)
	}
	gone := fmt.Sprint(report.Manifests)
	for _, i := range []pushedImage{never, alone} {
		if !strings.Contains(gone, i.digest) {
			t.Errorf("%s was not collected: %s", i.ref, gone)
		}
		for _, d := range append(i.layers, i.digest) {
			if _, err := os.Stat(blobFile(d)); !os.IsNotExist(err) {
				t.Errorf("%s of %s is still on disk: %v", d, i.ref, err)
			}
		}
	}
	if report.Bytes == 0 {
		t.Error("no space was freed")
	}
	for name, i := range map[string]pushedImage{"may be rolled back to": first, "is deployed": second, "runs": byHand} {
		if _, err := shared.run(t.Context(), "image", "pull", i.ref, filepath.Join(t.TempDir(), "layout")); err != nil {
			t.Errorf("what %s is gone: %v", name, err)
		}
	}
	if list := shared.must(t, "image", "list"); strings.Contains(list, "gc/alone") || !strings.Contains(list, "gc/app") {
		t.Errorf("the list of repositories is\n%s", list)
	}
	push.end(t)
	shared.must(t, "image", "pull", "gc/pushed:v1", filepath.Join(t.TempDir(), "layout"))
	shared.must(t, "app", "delete", "gc")
}

// A repository of others that is away holds up no collection: what was
// delivered from it is known here.
func TestGarbageCollectionWhileASourceIsAway(t *testing.T) {
	ensureNamespace(t, "gc-away")
	first, second, never := makeImage(t, "gc-away/app:first"), makeImage(t, "gc-away/app:second"), makeImage(t, "gc-away/app:never")
	from := newExternal(t, map[string]string{"a/pod.yaml": workload(first.ref)})
	shared.apply(t, application("gc-away", from.url, "a", "gc-away"))
	shared.must(t, "app", "wait", "gc-away", "--revision", shared.git(t, from.work, "rev-parse", "HEAD"))
	shared.push(t, from.work, map[string]string{"a/pod.yaml": workload(second.ref)})
	shared.must(t, "app", "get", "gc-away", "--refresh")
	shared.must(t, "app", "wait", "gc-away", "--revision", shared.git(t, from.work, "rev-parse", "HEAD"))
	from.stop()

	shared.must(t, "image", "delete", "gc-away/app:first", "gc-away/app:second", "gc-away/app:never")
	age(t, filepath.Join(shared.data, "registry", "docker"), 48*time.Hour)
	if gone := shared.must(t, "image", "collect", "-o", "json"); !strings.Contains(gone, never.digest) {
		t.Errorf("nothing was collected: %s", gone)
	}
	for name, i := range map[string]pushedImage{"may be rolled back to": first, "is deployed": second} {
		if _, err := shared.run(t.Context(), "image", "pull", i.ref, filepath.Join(t.TempDir(), "layout")); err != nil {
			t.Errorf("what %s is gone: %v", name, err)
		}
	}
	shared.must(t, "app", "delete", "gc-away")
}

// A push into a namespace that is not there is one clear error, and leaves
// nothing.
func TestPushIntoNoNamespace(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("f"), 0o600); err != nil {
		t.Fatal(err)
	}
	shared.must(t, "image", "create", "--layout", filepath.Join(dir, "layout"), "--add", filepath.Join(dir, "f")+":/f")
	shared.refused(t, "namespace nowhere does not exist", "image", "push", filepath.Join(dir, "layout"), "nowhere/app:v1")
	if _, err := os.Stat(repositoryDir("nowhere")); !os.IsNotExist(err) {
		t.Errorf("something was stored: %v", err)
	}
}

// pushedImage is an image of its own content.
type pushedImage struct {
	ref, digest string
	layers      []string
}

func makeImage(t *testing.T, name string) pushedImage {
	t.Helper()
	file := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
		t.Fatal(err)
	}
	ref := strings.TrimSpace(shared.must(t, "image", "create", "-t", name, "--add", file+":/content"))
	var d struct {
		Digest string
		Layers []struct{ Digest string }
	}
	if err := json.Unmarshal([]byte(shared.must(t, "image", "inspect", ref, "-o", "json")), &d); err != nil {
		t.Fatal(err)
	}
	out := pushedImage{ref: ref, digest: d.Digest}
	for _, l := range d.Layers {
		out.layers = append(out.layers, l.Digest)
	}
	if len(out.layers) != 1 {
		t.Fatalf("%s is %+v", name, d)
	}
	return out
}

func registryDir() string { return filepath.Join(shared.data, "registry", "docker", "registry", "v2") }

func repositoryDir(name string) string { return filepath.Join(registryDir(), "repositories", name) }

func blobFile(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	return filepath.Join(registryDir(), "blobs", "sha256", hex[:2], hex, "data")
}

// age makes everything below dir older than it is.
func age(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, then, then)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func workload(image string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
spec:
  revisionHistoryLimit: 0
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - name: app
        image: %s
`, image)
}

// slowPush is a push that is half done: one blob is stored that no manifest
// needs yet, of another a part was sent.
type slowPush struct {
	base, user, password string
	stored, sent         []byte
	upload               string
}

func beginPush(t *testing.T, name string) *slowPush {
	t.Helper()
	at, err := url.Parse(shared.status(t).GitURL)
	if err != nil {
		t.Fatal(err)
	}
	p := &slowPush{base: "http://" + at.Host, stored: []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`),
		sent: bytes.Repeat([]byte("layer"), 1000)}
	p.user = at.User.Username()
	p.password, _ = at.User.Password()
	uploads := "/v2/" + name + "/blobs/uploads/"
	p.do(t, http.MethodPost, uploads+"?digest="+digestOf(p.stored), p.stored, http.StatusCreated)
	p.upload = p.do(t, http.MethodPost, uploads, nil, http.StatusAccepted).Get("Location")
	p.upload = p.do(t, http.MethodPatch, p.upload, p.sent[:2000], http.StatusAccepted).Get("Location")
	return p
}

// end sends the rest.
func (p *slowPush) end(t *testing.T) {
	t.Helper()
	location := p.do(t, http.MethodPatch, p.upload, p.sent[2000:], http.StatusAccepted).Get("Location")
	with := "?"
	if strings.Contains(location, "?") {
		with = "&"
	}
	p.do(t, http.MethodPut, location+with+"digest="+digestOf(p.sent), nil, http.StatusCreated)
	name, _, _ := strings.Cut(strings.TrimPrefix(location, "/v2/"), "/blobs/")
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		digestOf(p.stored), len(p.stored), digestOf(p.sent), len(p.sent))
	p.do(t, http.MethodPut, "/v2/"+name+"/manifests/v1", []byte(manifest), http.StatusCreated)
}

func (p *slowPush) do(t *testing.T, method, path string, body []byte, want int) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.base+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(p.user, p.password)
	if strings.Contains(path, "/manifests/") {
		req.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil || answer.StatusCode != want {
		t.Fatalf("%s %s is %d, %v: %s", method, path, answer.StatusCode, err, said)
	}
	return answer.Header
}

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }
