package registry_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fairway-cd/fairway/internal/registry"
)

// serveEnv makes this test binary a registry in that directory instead.
const serveEnv = "REGISTRY_TEST_SERVE"

// serveForever is the process that is killed.
func serveForever(dir string) {
	g, err := registry.New(context.Background(), registry.Options{Dir: dir, Access: newTable(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := httptest.NewServer(g)
	fmt.Println(server.URL)
	select {}
}

// victim is a registry in a process of its own.
type victim struct {
	*house
	process *os.Process
}

func startVictim(t *testing.T, dir string) *victim {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // has been, mostly
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return &victim{&house{dir: dir, server: &httptest.Server{URL: strings.TrimSpace(line)}}, cmd.Process}
}

// TestKilledWhilePushing kills the registry with -9 in the middle of pushes,
// 12 times. What was answered 201 is there afterwards, whole, and everything
// that is served has the digest that it is served as.
func TestKilledWhilePushing(t *testing.T) {
	dir := t.TempDir()
	var subject v1.Image
	acknowledged := map[string]v1.Hash{}
	for round := range 12 {
		v := startVictim(t, dir)
		checkStored(t, v.house, acknowledged)
		if subject == nil {
			subject = randomImage(t, 10)
			if err := crane.Push(subject, v.host()+"/web-app:subject", as("admin-token")); err != nil {
				t.Fatal(err)
			}
		}
		done, one := make(chan map[string]v1.Hash), make(chan struct{}, 1000)
		go func() { done <- pushUntilRefused(t, v, round, subject, one) }()
		for range round % 3 {
			<-one
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond) // where it is hit is chance
		if err := v.process.Kill(); err != nil {
			t.Fatal(err)
		}
		for ref, d := range <-done {
			acknowledged[ref] = d
		}
	}
	if len(acknowledged) == 0 {
		t.Fatal("no push came through")
	}
	h := openHouse(t, dir)
	checkStored(t, h, acknowledged)
	checkReferrers(t, h, subject, acknowledged)
	// A collection leaves all of it, and nothing of what was cut off.
	h.age(t, 48*time.Hour)
	if _, err := h.Collect(t.Context(), registry.CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	checkStored(t, h, acknowledged)
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(p, ".tmp") || strings.Contains(p, "/_uploads/") {
			t.Errorf("%s is left", strings.TrimPrefix(p, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func randomImage(t *testing.T, size int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, 2)
	if err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// pushUntilRefused pushes images about the subject until there is nobody any
// more, and returns those that were taken.
func pushUntilRefused(t *testing.T, v *victim, round int, subject v1.Image, one chan<- struct{}) map[string]v1.Hash {
	taken := map[string]v1.Hash{}
	descriptor, err := subjectOf(subject)
	if err != nil {
		t.Error(err)
		return taken
	}
	for i := 0; ; i++ {
		img, err := random.Image(200_000, 2)
		if err != nil {
			t.Error(err)
			return taken
		}
		img = mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
		about, ok := mutate.Subject(img, descriptor).(v1.Image)
		if !ok {
			t.Error("no image")
			return taken
		}
		ref := fmt.Sprintf("web-app:r%d-%d", round, i)
		if crane.Push(about, v.host()+"/"+ref, as("admin-token")) != nil {
			return taken
		}
		if taken[ref], err = about.Digest(); err != nil {
			t.Error(err)
			return taken
		}
		one <- struct{}{}
	}
}

func subjectOf(image v1.Image) (v1.Descriptor, error) {
	d, err := image.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	size, err := image.Size()
	return v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: d, Size: size}, err
}

// checkStored reads everything that was acknowledged, and what else there is.
func checkStored(t *testing.T, h *house, acknowledged map[string]v1.Hash) {
	t.Helper()
	for ref, want := range acknowledged {
		_, tag, _ := strings.Cut(ref, ":")
		_, body := h.must(t, http.StatusOK, "admin-token", "GET", "/v2/web-app/manifests/"+tag, nil)
		if got := digest.FromBytes(body); got.String() != want.String() {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(body, &m); err != nil {
			t.Fatal(err)
		}
		for _, d := range append(m.Layers, m.Config) {
			if !h.has(t, "web-app", "blobs", d.Digest) {
				t.Errorf("%s of %s is gone", d.Digest, ref)
			}
		}
	}
	err := filepath.WalkDir(filepath.Join(h.dir, "docker/registry/v2/blobs"), func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && e.Name() != "data" {
			return nil
		} else if err != nil {
			return err
		}
		content, err := os.ReadFile(p)
		if err == nil && digest.FromBytes(content).Encoded() != filepath.Base(filepath.Dir(p)) {
			t.Errorf("the content of %s has another digest", filepath.Base(filepath.Dir(p)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkReferrers(t *testing.T, h *house, subject v1.Image, acknowledged map[string]v1.Hash) {
	t.Helper()
	d, err := subject.Digest()
	if err != nil {
		t.Fatal(err)
	}
	_, body := h.must(t, http.StatusOK, "admin-token", "GET", "/v2/web-app/referrers/"+d.String(), nil)
	for ref, d := range acknowledged {
		if !bytes.Contains(body, []byte(d.String())) {
			t.Errorf("%s is not among the referrers", ref)
		}
	}
	var index ocispec.Index
	if err := json.Unmarshal(body, &index); err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		if !h.has(t, "web-app", "manifests", d.Digest) {
			t.Errorf("the referrer %s is not there", d.Digest)
		}
	}
}
