package registry_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairway-cd/fairway/internal/registry"
)

const repo = "default/web-app"

func TestCollectKeepsWhatIsNeeded(t *testing.T) {
	h := newHouse(t)
	old := h.image(t, repo, "", "old")
	replaced := h.image(t, repo, "latest", "replaced")
	tagged := h.image(t, repo, "latest", "tagged")
	signature := h.image(t, repo, "", "signature", about(tagged))
	onSignature := h.image(t, repo, "", "on-signature", about(signature))
	orphan := h.image(t, repo, "", "orphan", about(old))
	running := h.image(t, repo, "", "running")
	runningConfig := digest.FromString(`{"of":"by-config"}`)
	byConfig := h.image(t, repo, "", "by-config")
	child := h.image(t, repo, "", "child")
	h.manifest(t, repo, "index", ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: child, Size: 1}},
	})
	oldIndex := h.manifest(t, repo, "", ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageManifest, Digest: old, Size: 1}},
	})
	loose := h.blob(t, repo, []byte("loose")).Digest
	// The same content in another repository, where it is needed.
	h.image(t, "other/app", "v1", "old")
	h.must(t, 202, "admin-token", "POST", "/v2/"+repo+"/blobs/uploads/", nil)
	h.age(t, 48*time.Hour)
	young := h.image(t, repo, "", "young")
	youngBlob := h.blob(t, repo, []byte("young-blob")).Digest

	opts := registry.CollectOptions{
		Keep: func(context.Context) ([]string, error) {
			return []string{h.host() + "/web-app@" + running.String(), runningConfig.String(), h.host() + "/web-app:latest", "nonsense@x"}, nil
		},
		DryRun: true,
	}
	dry, err := h.Collect(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	opts.DryRun = false
	report, err := h.Collect(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(dry) != fmt.Sprint(report) {
		t.Errorf("the dry run said %+v, the run %+v", dry, report)
	}
	if len(report.Manifests) != 4 || report.Uploads != 1 || report.Bytes == 0 {
		t.Errorf("the report is %+v", report)
	}
	for name, d := range map[string]digest.Digest{"old": old, "replaced": replaced, "orphan": orphan, "old index": oldIndex} {
		if h.has(t, repo, "manifests", d) {
			t.Errorf("%s is still there", name)
		}
	}
	for name, d := range map[string]digest.Digest{"tagged": tagged, "signature": signature, "on-signature": onSignature,
		"running": running, "by-config": byConfig, "child": child, "young": young} {
		if !h.has(t, repo, "manifests", d) {
			t.Errorf("%s is gone", name)
		}
		if !h.has(t, repo, "blobs", digest.FromString(name)) {
			t.Errorf("the layer of %s is gone", name)
		}
	}
	if h.has(t, repo, "blobs", loose) || h.has(t, repo, "blobs", digest.FromString("old")) {
		t.Error("a blob that nobody needs is still there")
	}
	if !h.has(t, repo, "blobs", youngBlob) || !h.has(t, "other/app", "blobs", digest.FromString("old")) {
		t.Error("a blob that is young, or needed in another repository, is gone")
	}
	again, err := h.Collect(t.Context(), opts)
	if err != nil || len(again.Manifests)+len(again.Blobs)+again.Links+again.Uploads != 0 {
		t.Errorf("a second run did %+v, %v", again, err)
	}
}

func TestCollectStopsWhereItDoesNotKnowWhatRuns(t *testing.T) {
	h := newHouse(t)
	d := h.image(t, repo, "", "old")
	h.age(t, 48*time.Hour)
	away := errors.New("away")
	_, err := h.Collect(t.Context(), registry.CollectOptions{Keep: func(context.Context) ([]string, error) { return nil, away }})
	if !errors.Is(err, away) || !h.has(t, repo, "manifests", d) {
		t.Errorf("it collected: %v", err)
	}
}

// Where any manifest may be needed, all stay; what none needs goes.
func TestCollectKeepsManifestsWhereOneMayBeNeeded(t *testing.T) {
	h := newHouse(t)
	d := h.image(t, repo, "", "old")
	loose := h.blob(t, repo, []byte("loose")).Digest
	h.age(t, 48*time.Hour)
	report, err := h.Collect(t.Context(), registry.CollectOptions{Keep: func(context.Context) ([]string, error) {
		return nil, fmt.Errorf("%w: a host is away", registry.ErrKeepManifests)
	}})
	if err != nil || len(report.Manifests) != 0 || !h.has(t, repo, "manifests", d) {
		t.Errorf("%+v, %v", report, err)
	}
	if h.has(t, repo, "blobs", loose) {
		t.Error("a blob that no manifest needs is still there")
	}
}

// TestCollectBesideAPush is the way of a push that finds everything there
// already: it must find it there at its end, whenever collection comes.
func TestCollectBesideAPush(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	for _, mounted := range []bool{false, true} {
		config, layer := h.blob(t, repo, []byte(`{}`)), h.blob(t, repo, []byte("layer"))
		h.image(t, "other/app", "v1", "layer")
		h.age(t, 48*time.Hour)
		if mounted {
			h.must(t, 201, "admin-token", "POST", "/v2/"+repo+"/blobs/uploads/?mount="+layer.Digest.String()+"&from=other/app", nil)
		} else {
			h.must(t, 200, "admin-token", "HEAD", "/v2/"+repo+"/blobs/"+layer.Digest.String(), nil)
		}
		h.must(t, 200, "admin-token", "HEAD", "/v2/"+repo+"/blobs/"+config.Digest.String(), nil)
		if _, err := h.Collect(ctx, registry.CollectOptions{}); err != nil {
			t.Fatal(err)
		}
		config.MediaType = ocispec.MediaTypeImageConfig
		h.manifest(t, repo, "v1", ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: config, Layers: []ocispec.Descriptor{layer},
		})
		h.must(t, 202, "admin-token", "DELETE", "/v2/"+repo+"/manifests/v1", nil)
	}
}

// TestCollectAllTheTime has pushes, tags that move and collections, whose
// minimum age is as short as can be, at the same time. What a push was told
// is stored must be whole at its end.
func TestCollectAllTheTime(t *testing.T) {
	h := newHouse(t)
	stop := make(chan struct{})
	var collector sync.WaitGroup
	runs := 0
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := h.Collect(t.Context(), registry.CollectOptions{MinAge: time.Nanosecond}); err != nil {
				t.Error(err)
				return
			}
			runs++
		}
	})
	var pushers sync.WaitGroup
	for p := range 4 {
		pushers.Go(func() {
			for i := range 15 {
				// By manifests of two repositories that share their layers; a
				// push may be told that a blob has gone, and then tries again.
				content := fmt.Sprintf("layer-%d", i%3)
				name := fmt.Sprintf("default/app-%d", p%2)
				for !h.tryImage(t, name, fmt.Sprintf("v%d", p), content) {
				}
			}
		})
	}
	pushers.Wait()
	close(stop)
	collector.Wait()
	if runs == 0 {
		t.Fatal("nothing was collected meanwhile")
	}
	for p := range 4 {
		name := fmt.Sprintf("default/app-%d", p%2)
		h.must(t, 200, "admin-token", "GET", fmt.Sprintf("/v2/%s/manifests/v%d", name, p), nil)
		if !h.has(t, name, "blobs", digest.FromString("layer-2")) || !h.has(t, name, "blobs", digest.FromString(`{"of":"layer-2"}`)) {
			t.Errorf("the image v%d of %s is not whole", p, name)
		}
	}
}

// tryImage pushes an image and says whether its manifest was taken.
func (h *house) tryImage(t *testing.T, name, tag, content string) bool {
	config, layer := h.blob(t, name, []byte(`{"of":"`+content+`"}`)), h.blob(t, name, []byte(content))
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, config.Digest, config.Size, layer.MediaType, layer.Digest, layer.Size)
	res, answer := h.send(t, "admin-token", "PUT", "/v2/"+name+"/manifests/"+tag, []byte(body), "Content-Type", ocispec.MediaTypeImageManifest)
	switch res.StatusCode {
	case 201:
		return true
	case 400: // MANIFEST_BLOB_UNKNOWN: older than the minimum age, of a nanosecond
		return false
	}
	t.Errorf("pushing %s:%s is %d: %s", name, tag, res.StatusCode, answer)
	return true
}

func TestCollectRemovesFallbackTagsWithTheirSubject(t *testing.T) {
	h := newHouse(t)
	subject := h.image(t, repo, "", "subject")
	kept := h.image(t, repo, "v1", "kept")
	for _, d := range []digest.Digest{subject, kept} {
		h.image(t, repo, d.Algorithm().String()+"-"+d.Encoded()+".sig", "signature of "+d.String())
	}
	h.age(t, 48*time.Hour)
	for range 2 { // first the subject, then what it had
		if _, err := h.Collect(t.Context(), registry.CollectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h.must(t, 404, "admin-token", "GET", "/v2/"+repo+"/manifests/sha256-"+subject.Encoded()+".sig", nil)
	h.must(t, 200, "admin-token", "GET", "/v2/"+repo+"/manifests/sha256-"+kept.Encoded()+".sig", nil)
}

func TestCollectRemovesTemporaryFiles(t *testing.T) {
	h := newHouse(t)
	h.image(t, repo, "v1", "x")
	left := filepath.Join(h.dir, "docker/registry/v2/repositories", repo, "_manifests/tags/v1/current/link.0f8fad5b-d9cb-469f-a165-70867728950e.tmp")
	if err := os.WriteFile(left, []byte("sha"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.age(t, 48*time.Hour)
	if _, err := h.Collect(t.Context(), registry.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	h.must(t, 200, "admin-token", "GET", "/v2/"+repo+"/manifests/v1", nil)
}
