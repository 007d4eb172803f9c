package controller

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8stypes "k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/registry"
	"github.com/fairway-cd/fairway/internal/registry/chart"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// packages are charts and artifacts, as package app has them.
type packages struct{ repositories *chart.Repositories }

func newPackages() packages {
	return packages{repositories: chart.NewRepositories(chart.New(chart.Options{Cache: chart.NewCache(1 << 20)}))}
}

func testCharts(a Auth) *chart.Charts {
	options := chart.Options{Insecure: a.Insecure}
	if a.Username != "" {
		options.Keychain = basic{a.Username, a.Password}
	}
	return chart.New(options)
}

type basic struct{ user, password string }

func (b basic) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: b.user, Password: b.password}, nil
}

func (p packages) chart(ctx context.Context, r SourceRequest) (core.Snapshot, error) {
	if strings.HasPrefix(r.URL, "http") {
		return p.repositories.OpenChart(ctx, p.repository(r), r.Chart, r.Ref.Revision, r.Fetch)
	}
	ref := strings.TrimSuffix(r.URL, "/") + "/" + r.Chart
	if strings.HasPrefix(r.Ref.Revision, "sha256:") {
		return testCharts(r.Auth).OpenChart(ctx, ref+"@"+r.Ref.Revision, "")
	}
	return testCharts(r.Auth).OpenChart(ctx, ref, r.Ref.Revision)
}

func (packages) repository(r SourceRequest) chart.Repository {
	return chart.Repository{URL: r.URL, Username: r.Auth.Username, Password: r.Auth.Password, PassCredentials: r.Auth.PassCredentials, CA: r.Auth.CA, Cert: r.Auth.ClientCert, Key: r.Auth.ClientKey}
}

func (p packages) Index(ctx context.Context, r SourceRequest) (PackageIndex, error) {
	x, err := p.repositories.Index(ctx, p.repository(r), r.Fetch)
	if err != nil {
		return PackageIndex{}, err
	}
	return PackageIndex{x.Digest, x.Size, x.Charts()}, nil
}

func (packages) Own(string) (core.Name, bool) { return core.Name{}, false }

func (packages) Artifact(ctx context.Context, r ArtifactRequest) (core.Snapshot, error) {
	return testCharts(r.Auth).OpenArtifact(ctx, chart.Artifact{URL: r.URL, Digest: r.Digest, SemVer: r.SemVer, Filter: r.Filter, Tag: r.Tag, MediaType: r.MediaType, Copy: r.Copy})
}

// tgz packs files.
func tgz(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range sortedKeys(files) {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(files[name])), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// webChart is a chart with a ConfigMap, and what is in extra.
func webChart(version string, extra map[string]string) map[string]string {
	files := map[string]string{
		"web/Chart.yaml":  "apiVersion: v2\nname: web\nversion: " + version + "\nappVersion: \"7\"\n",
		"web/values.yaml": "color: red\nsize: {big: 1, small: 2}\n",
		"web/blue.yaml":   "color: blue\n",
		"web/templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-config}\n" +
			"data: {color: {{ .Values.color | quote }}, version: {{ .Chart.Version | quote }}, big: {{ .Values.size.big | quote }}, token: {{ .Values.token | default \"\" | quote }}}\n",
	}
	for name, text := range extra {
		files["web/"+name] = text
	}
	return files
}

// helmHost is a Helm repository over HTTP, with a password.
type helmHost struct {
	*httptest.Server
	t  testing.TB
	mu sync.Mutex
	at map[string][]byte
}

func newHelmHost(t testing.TB) *helmHost {
	h := &helmHost{t: t, at: map[string][]byte{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *helmHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, password, _ := r.BasicAuth(); password != "s3cret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	content, ok := h.at[r.URL.Path]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = w.Write(content)
}

// publish adds a version of web, and makes the index anew.
func (h *helmHost) publish(version string, extra map[string]string) {
	h.t.Helper()
	archive := tgz(h.t, webChart(version, extra))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at["/web-"+version+".tgz"] = archive
	index := "apiVersion: v1\nentries:\n  web:\n"
	for _, name := range sortedKeys(h.at) {
		if v, ok := strings.CutPrefix(strings.TrimSuffix(name, ".tgz"), "/web-"); ok {
			index += fmt.Sprintf("  - {name: web, version: %q, urls: [%q], digest: %x}\n", v, name[1:], sha256.Sum256(h.at[name]))
		}
	}
	h.at["/index.yaml"] = []byte(index)
}

// helmRegistry is our own registry on a port.
func helmRegistry(t testing.TB) string {
	t.Helper()
	registry.RouteLogs(slog.New(slog.DiscardHandler))
	g, err := registry.New(context.Background(), registry.Options{Dir: t.TempDir(), Access: everyone{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g)
	t.Cleanup(func() {
		server.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return strings.TrimPrefix(server.URL, "http://")
}

// pushArtifact pushes one layer, as helm and flux do.
func pushArtifact(t testing.TB, ref string, config, layer types.MediaType, content []byte) v1.Hash {
	t.Helper()
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), config)
	if image, err = mutate.Append(image, mutate.Addendum{Layer: static.NewLayer(content, layer)}); err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func pushChart(t testing.TB, host, version string, extra map[string]string) v1.Hash {
	t.Helper()
	return pushArtifact(t, host+"/charts/web:"+version, "application/vnd.cncf.helm.config.v1+json",
		"application/vnd.cncf.helm.chart.content.v1.tar+gzip", tgz(t, webChart(version, extra)))
}

func (h *house) helmRelease(namespace, name, what string, check func(*helmv2.HelmRelease) bool) *helmv2.HelmRelease {
	h.t.Helper()
	var last *helmv2.HelmRelease
	testkit.Eventually(h.t, "HelmRelease "+name+" "+what, func() error {
		hr := &helmv2.HelmRelease{}
		if err := h.kube.Get(h.t.Context(), k8stypes.NamespacedName{Namespace: namespace, Name: name}, hr); err != nil {
			return err
		}
		last = hr
		if !check(hr) {
			return fmt.Errorf("generation %d, status:\n%s\n%s", hr.Generation, digestible(hr.Status), h.chartSays(hr.Status.HelmChart))
		}
		return nil
	})
	return last
}

// chartSays are the conditions of a HelmRelease's HelmChart.
func (h *house) chartSays(key string) string {
	namespace, name, _ := strings.Cut(key, "/")
	u, err := h.live("source.toolkit.fluxcd.io/v1", "HelmChart", namespace, name)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(u.Object["status"])
}

func digestible(st helmv2.HelmReleaseStatus) string {
	var b strings.Builder
	for _, c := range st.Conditions {
		fmt.Fprintf(&b, "%s=%s %s: %s (generation %d)\n", c.Type, c.Status, c.Reason, c.Message, c.ObservedGeneration)
	}
	for _, s := range st.History {
		fmt.Fprintf(&b, "%s %s %s\n", s.FullReleaseName(), s.VersionedChartName(), s.Status)
	}
	fmt.Fprintf(&b, "failures %d %d %d, attempted %s, observed %d", st.Failures, st.InstallFailures, st.UpgradeFailures, st.LastAttemptedRevision, st.ObservedGeneration)
	return b.String()
}

// releasedAs is ready, with a revision and a version of the chart.
func releasedAs(revision int, version string) func(*helmv2.HelmRelease) bool {
	return func(hr *helmv2.HelmRelease) bool {
		latest := hr.Status.History.Latest()
		return apimeta.IsStatusConditionTrue(hr.Status.Conditions, "Ready") && hr.Status.ObservedGeneration == hr.Generation &&
			latest != nil && latest.Version == revision && latest.ChartVersion == version && latest.Status == "deployed"
	}
}

// helmSays is not ready, for a reason and with words.
func helmSays(reason string, words ...string) func(*helmv2.HelmRelease) bool {
	return func(hr *helmv2.HelmRelease) bool {
		c := apimeta.FindStatusCondition(hr.Status.Conditions, "Ready")
		return c != nil && c.Status == metav1.ConditionFalse && c.Reason == reason &&
			!slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(c.Message, w) })
	}
}

func (h *house) dropHelm(namespace, name string) {
	h.delete(&helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
}

// helmRepositoryOf is a HelmRepository and its Secret.
func helmRepositoryOf(namespace, url string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: charts, namespace: %[1]s}
stringData: {username: me, password: s3cret}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {name: charts, namespace: %[1]s}
spec: {interval: 1h, url: "%[2]s", secretRef: {name: charts}}
`, namespace, url)
}

// helmReleaseOf is a HelmRelease of the chart web; extra is more of its spec.
func helmReleaseOf(namespace, version, extra string) string {
	return fmt.Sprintf(`apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: web, namespace: %s}
spec:
  interval: 1h
  timeout: 30s
  chart: {spec: {chart: web, version: %q, sourceRef: {kind: HelmRepository, name: charts}}}
%s`, namespace, version, extra)
}
