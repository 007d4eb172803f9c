package chart_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	helm "helm.sh/helm/v4/pkg/registry"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/registry"
	"github.com/fairway-cd/fairway/internal/registry/chart"
)

func TestMain(m *testing.M) {
	registry.RouteLogs(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// password lets in who knows it.
type password string

func (p password) Authenticate(r *http.Request) (core.User, error) {
	if _, got, _ := r.BasicAuth(); got != string(p) {
		return core.User{}, core.ErrUnauthenticated
	}
	return core.User{Name: "tester"}, nil
}

func (password) Authorize(context.Context, core.User, core.Action) error { return nil }

// archive packs a chart: entries are "PATH" to content, a directory where
// the path ends in "/", a link where the content begins with "->".
func archive(t testing.TB, entries ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e[0], Typeflag: tar.TypeReg, Size: int64(len(e[1])), Mode: 0o644}
		if target, ok := strings.CutPrefix(e[1], "->"); ok {
			h.Typeflag, h.Linkname, h.Size, e[1] = tar.TypeSymlink, target, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packed(t testing.TB, name, version string) []byte {
	return archive(t,
		[2]string{name + "/Chart.yaml", fmt.Sprintf("apiVersion: v2\nname: %s\nversion: %s\n", name, version)},
		[2]string{name + "/templates/config.yaml", "kind: ConfigMap\n"},
	)
}

type house struct {
	registry *registry.Registry
	host     string
}

func serve(t *testing.T) house {
	t.Helper()
	g, err := registry.New(t.Context(), registry.Options{Dir: t.TempDir(), Access: password("secret"), Logger: slog.New(slog.DiscardHandler)})
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
	return house{g, strings.TrimPrefix(server.URL, "http://")}
}

// push pushes as helm does: with helm's own client.
func (h house) push(t *testing.T, name, version string) {
	t.Helper()
	client, err := helm.NewClient(helm.ClientOptPlainHTTP(), helm.ClientOptBasicAuth("tester", "secret"),
		helm.ClientOptWriter(io.Discard), helm.ClientOptCredentialsFile(t.TempDir()+"/none.json"))
	if err != nil {
		t.Fatal(err)
	}
	ref := h.host + "/charts/" + name + ":" + version
	if _, err := client.Push(packed(t, name, version), ref); err != nil {
		t.Fatal(err)
	}
}

func charts(h house, allow bool) map[string]*chart.Charts {
	keys := authn.NewMultiKeychain(login("secret"))
	return map[string]*chart.Charts{
		"from within": chart.New(chart.Options{Own: map[string]http.RoundTripper{h.host: h.registry.Reader(func(core.Name) bool { return allow })}}),
		"by network":  chart.New(chart.Options{Keychain: keys}),
	}
}

type login string

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: "tester", Password: string(l)}), nil
}

// Names below localhost are nowhere else, and no name server is asked for them.
func TestChartsOfThisMachineByName(t *testing.T) {
	h := serve(t)
	h.push(t, "web", "1.0.0")
	at := func(address string) string { return strings.Replace(address, "127.0.0.1", "registry.localhost", 1) }
	c := chart.New(chart.Options{Keychain: authn.NewMultiKeychain(login("secret"))})
	if _, err := c.OpenChart(t.Context(), "oci://"+at(h.host)+"/charts/web", ""); err != nil {
		t.Error(err)
	}
	_, server := helmRepository(t)
	repo := chart.Repository{URL: at(server.URL) + "/charts/"}
	if _, err := chart.NewRepositories(c).OpenChart(t.Context(), repo, "web", "", false); err != nil {
		t.Error(err)
	}
}

func TestOpenChart(t *testing.T) {
	h := serve(t)
	for _, version := range []string{"1.0.0", "1.2.0", "1.10.0", "2.0.0-rc.1", "1.2.3+build"} {
		h.push(t, "web", version)
	}
	for how, c := range charts(h, true) {
		for asked, want := range map[string]string{"1.2.0": "1.2.0", "": "1.10.0", "^1.0": "1.10.0", "~1.2.0": "1.2.3+build", ">=2.0.0-0": "2.0.0-rc.1", "1.2.3+build": "1.2.3+build"} {
			snapshot, err := c.OpenChart(t.Context(), "oci://"+h.host+"/charts/web", asked)
			if err != nil {
				t.Fatalf("%s, %q: %v", how, asked, err)
			}
			content, err := snapshot.Tree.Read(t.Context(), "Chart.yaml")
			if err != nil || !strings.Contains(string(content), "version: "+want+"\n") {
				t.Errorf("%s, %q is %q, %v, want %s", how, asked, content, err, want)
			}
			list, err := snapshot.Tree.List(t.Context(), "templates")
			if err != nil || len(list) != 1 || list[0].Name != "config.yaml" {
				t.Errorf("%s: the templates are %+v, %v", how, list, err)
			}
			if r := snapshot.Revision; r.Ref != "refs/tags/"+strings.ReplaceAll(want, "+", "_") || !strings.HasPrefix(r.Commit, "sha256:") {
				t.Errorf("%s: the revision is %+v", how, r)
			}
			again, err := c.OpenChart(t.Context(), "oci://"+h.host+"/charts/web@"+snapshot.Revision.Commit, "")
			if err != nil || again.Revision.Commit != snapshot.Revision.Commit || again.Revision.Ref != "" {
				t.Errorf("%s: by digest it is %+v, %v", how, again.Revision, err)
			}
		}
	}
}

func TestErrorsHaveTypes(t *testing.T) {
	h := serve(t)
	h.push(t, "web", "1.0.0")
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	all := charts(h, true)
	all["forbidden"] = charts(h, false)["from within"]
	all["wrong password"] = chart.New(chart.Options{Keychain: login("wrong")})
	all["small"] = chart.New(chart.Options{Keychain: login("secret"), Limits: chart.Limits{Archive: 10}})
	for _, tt := range []struct {
		how, ref, version string
		want              any
	}{
		{"from within", h.host + "/charts/web", "9.9.9", new(*chart.NotFoundError)},
		{"by network", h.host + "/charts/web", "9.9.9", new(*chart.NotFoundError)},
		{"from within", h.host + "/charts/web", "^9", new(*chart.NotFoundError)},
		{"by network", h.host + "/charts/none", "", new(*chart.NotFoundError)},
		{"from within", h.host + "/charts/none", "", new(*chart.NotFoundError)},
		{"forbidden", h.host + "/charts/web", "1.0.0", new(*chart.AuthError)},
		{"wrong password", h.host + "/charts/web", "1.0.0", new(*chart.AuthError)},
		{"by network", strings.TrimPrefix(gone.URL, "http://") + "/charts/web", "1.0.0", new(*chart.UnreachableError)},
		{"small", h.host + "/charts/web", "1.0.0", new(*core.TooLargeError)},
		{"by network", h.host + "/charts/web", "what?", new(*chart.InvalidError)},
		{"by network", h.host + "/UPPER", "1.0.0", new(*chart.InvalidError)},
	} {
		_, err := all[tt.how].OpenChart(t.Context(), "oci://"+tt.ref, tt.version)
		if err == nil || !errors.As(err, tt.want) {
			t.Errorf("%s %s %q: %T %v, want %T", tt.how, tt.ref, tt.version, err, err, tt.want)
		}
	}
}

func TestReaderOnlyReads(t *testing.T) {
	h := serve(t)
	reader := h.registry.Reader(func(core.Name) bool { return true })
	for _, method := range []string{"PUT", "POST", "PATCH", "DELETE"} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://x/v2/a/b/manifests/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := reader.RoundTrip(req); err == nil {
			_ = res.Body.Close()
			t.Errorf("%s is %d", method, res.StatusCode)
		}
	}
}
