package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/registry"
	"github.com/fairway-cd/fairway/internal/registry/image"
)

func TestMain(m *testing.M) {
	registry.RouteLogs(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// password lets in who knows it, to all but the namespace "closed".
type password string

func (p password) Authenticate(r *http.Request) (core.User, error) {
	if _, got, _ := r.BasicAuth(); got != string(p) {
		return core.User{}, core.ErrUnauthenticated
	}
	return core.User{Name: "tester"}, nil
}

func (p password) Authorize(_ context.Context, u core.User, a core.Action) error {
	if a.Namespace == "closed" {
		return &core.ForbiddenError{User: u.Name, Action: a}
	}
	return nil
}

// login is a keychain with one password for every registry.
type login string

func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: "tester", Password: string(l)}), nil
}

func serve(t *testing.T) string {
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
	return strings.TrimPrefix(server.URL, "http://")
}

func client(t *testing.T, opts image.Options) *image.Client {
	t.Helper()
	if opts.Keychain == nil {
		opts.Keychain = login("secret")
	}
	c, err := image.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o600)
		if strings.HasPrefix(content, "#!") {
			mode = 0o700
		}
		if err := os.WriteFile(p, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCreateIsTheSameEachTime(t *testing.T) {
	host := serve(t)
	c := client(t, image.Options{Registry: host})
	var digests []string
	for range 2 {
		dir := t.TempDir() // another path, another time
		write(t, dir, map[string]string{"bin/web": "#!web", "site/index.html": "<p>hello", "site/a/b.txt": "b"})
		if err := os.Symlink("index.html", filepath.Join(dir, "site/start.html")); err != nil {
			t.Fatal(err)
		}
		p, err := c.Create(t.Context(), image.Recipe{
			Add: []image.Addition{
				{Source: filepath.Join(dir, "bin/web"), Target: "/usr/bin/"},
				{Source: filepath.Join(dir, "site"), Target: "/srv/www"},
			},
			Platform: "linux/amd64", Entrypoint: []string{"/usr/bin/web", "--root", "/srv/www"},
			Env: []string{"A=1", "B=2", "A=3"}, Ports: []string{"8080", "53/udp"}, Labels: map[string]string{"x": "y"},
			User: "1000:1000", WorkingDir: "/srv",
		}, "web-app:v1", "")
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, p.Digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("the digests differ: %q", digests)
	}
	d, err := c.Inspect(t.Context(), "web-app:v1")
	if err != nil {
		t.Fatal(err)
	}
	if d.Digest != digests[0] || d.Platform != "linux/amd64" || !slices.Equal(d.Entrypoint, []string{"/usr/bin/web", "--root", "/srv/www"}) ||
		!slices.Equal(d.Env, []string{"B=2", "A=3"}) || !slices.Equal(d.Ports, []string{"53/udp", "8080/tcp"}) ||
		d.User != "1000:1000" || d.WorkingDir != "/srv" || d.Labels["x"] != "y" || len(d.Layers) != 2 {
		t.Errorf("the image is %+v", d)
	}
	want := []string{"srv/ 755", "srv/www/ 755", "srv/www/a/ 755", "srv/www/a/b.txt 644", "srv/www/index.html 644", "srv/www/start.html -> index.html"}
	if got := entries(t, c, "web-app:v1", 1); !slices.Equal(got, want) {
		t.Errorf("the second layer is %q, want %q", got, want)
	}
	if got := entries(t, c, "web-app:v1", 0); !slices.Equal(got, []string{"usr/ 755", "usr/bin/ 755", "usr/bin/web 755"}) {
		t.Errorf("the first layer is %q", got)
	}
}

// entries lists a layer of an image that is pulled for it.
func entries(t *testing.T, c *image.Client, ref string, layer int) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if _, err := c.Pull(t.Context(), ref, file, image.FormatDocker); err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[layer].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }() // opened for reading
	var out []string
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 1 {
			t.Errorf("%s belongs to %d:%d, from %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		if h.Typeflag == tar.TypeSymlink {
			out = append(out, h.Name+" -> "+h.Linkname)
		} else {
			out = append(out, h.Name+" "+strconv.FormatInt(h.Mode, 8))
		}
	}
}

func TestCreateOnTopOfAnother(t *testing.T) {
	c := client(t, image.Options{Registry: serve(t)})
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "a", "b": "b"})
	if _, err := c.Create(t.Context(), image.Recipe{Add: []image.Addition{{filepath.Join(dir, "a"), "/a"}}, Env: []string{"X=1"}, Cmd: []string{"a"}}, "base:v1", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), image.Recipe{From: "base:v1", Add: []image.Addition{{filepath.Join(dir, "b"), "/b"}}, Entrypoint: []string{"/b"}}, "top:v1", ""); err != nil {
		t.Fatal(err)
	}
	d, err := c.Inspect(t.Context(), "top:v1")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Layers) != 2 || !slices.Equal(d.Env, []string{"X=1"}) || len(d.Cmd) != 0 || !slices.Equal(d.Entrypoint, []string{"/b"}) {
		t.Errorf("the image is %+v", d)
	}
	steps, err := c.History(t.Context(), "top:v1")
	if err != nil {
		t.Fatal(err)
	}
	if len(steps) != 2 || !strings.Contains(steps[0].CreatedBy, "b:/b") || steps[0].Layer != d.Layers[1].Digest {
		t.Errorf("the history is %+v", steps)
	}
}

func TestPushPullAndCopy(t *testing.T) {
	host := serve(t)
	var last, total int64
	c := client(t, image.Options{Registry: host, Progress: func(done, of int64) { last, total = done, of }})
	img, err := random.Image(10_000, 2)
	if err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(1000, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	save := filepath.Join(dir, "save.tar")
	if err := tarball.WriteToFile(save, mustParse(t, c, "a:v1"), img); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Write(filepath.Join(dir, "layout"), onlyIndex(t, index)); err != nil {
		t.Fatal(err)
	}
	writeTarOf(t, filepath.Join(dir, "layout.tar"), filepath.Join(dir, "layout"))
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}

	if _, err := c.Push(t.Context(), save, "from-save:v1"); err != nil {
		t.Fatal(err)
	}
	if last == 0 || last != total {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	for source, to := range map[string]string{"layout": "team/from-layout:v1", "layout.tar": "team/from-tar:v1"} {
		p, err := c.Push(t.Context(), filepath.Join(dir, source), to)
		if err != nil {
			t.Fatal(err)
		}
		if p.Digest != want.String() || p.Reference != host+"/"+strings.TrimSuffix(to, ":v1")+"@"+want.String() {
			t.Errorf("pushed %+v, want %s", p, want)
		}
	}
	if p, err := c.Copy(t.Context(), "team/from-layout:v1", "other/copy:v2"); err != nil || p.Digest != want.String() {
		t.Errorf("copied %+v, %v", p, err)
	}
	out := filepath.Join(dir, "out")
	if p, err := c.Pull(t.Context(), "other/copy:v2", out, image.FormatOCI); err != nil || p.Digest != want.String() {
		t.Errorf("pulled %+v, %v", p, err)
	}
	if p, err := c.Push(t.Context(), out, "again:v1"); err != nil || p.Digest != want.String() {
		t.Errorf("pushed again %+v, %v", p, err)
	}
	list, err := c.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range list {
		names = append(names, strings.TrimPrefix(l.Name, host+"/"))
	}
	if !slices.Equal(names, []string{"default/again", "default/from-save", "other/copy", "team/from-layout", "team/from-tar"}) {
		t.Errorf("the repositories are %q", names)
	}
	if err := c.Delete(t.Context(), "other/copy:v2"); err != nil {
		t.Fatal(err)
	}
	if list, err := c.List(t.Context(), "other/copy"); err != nil || len(list) != 0 {
		t.Errorf("after the deletion there are %+v, %v", list, err)
	}
}

// Names below localhost are nowhere else, and no name server is asked for them.
func TestImagesOfThisMachineByName(t *testing.T) {
	c := client(t, image.Options{Registry: strings.Replace(serve(t), "127.0.0.1", "registry.localhost", 1)})
	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	save := filepath.Join(t.TempDir(), "save.tar")
	if err := tarball.WriteToFile(save, mustParse(t, c, "a:v1"), img); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Push(t.Context(), save, "a:v1"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Inspect(t.Context(), "a:v1"); err != nil {
		t.Error(err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	host := serve(t)
	c := client(t, image.Options{Registry: host})
	stranger := client(t, image.Options{Registry: host, Keychain: login("wrong")})
	empty := t.TempDir()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of the handshakes that fail
	tls.StartTLS()
	defer tls.Close()

	inspect := func(c *image.Client, what string) error { _, err := c.Inspect(t.Context(), what); return err }
	push := func(path string) error { _, err := c.Push(t.Context(), path, "x:v1"); return err }
	for name, tt := range map[string]struct {
		err        error
		want, hint string
	}{
		"no such image":     {inspect(c, "none:v1"), "not found", "image list"},
		"wrong password":    {inspect(stranger, "none:v1"), "not logged in", "fairway login"},
		"no permission":     {inspect(c, "closed/x:v1"), "may not get", "permission"},
		"bad name":          {inspect(c, "Upper:v1"), "Upper:v1", "lower-case"},
		"nobody listens":    {inspect(c, strings.TrimPrefix(gone.URL, "http://")+"/x:v1"), "cannot be reached", "fairway status"},
		"unknown authority": {inspect(c, strings.TrimPrefix(tls.URL, "https://")+"/x:v1"), "certificate", "--ca"},
		"no such file":      {push(filepath.Join(empty, "none")), "no such file", ""},
		"not an image":      {push(empty), "reading the image", "OCI layout"},
		"not a tar":         {push("image_test.go"), "reading the image", "docker save"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(tt.err.Error(), tt.want) || strings.Contains(tt.err.Error(), "\n") {
				t.Errorf("the error is %q, want %q in one line", tt.err, tt.want)
			}
			var hinted core.Hinted
			if !errors.As(tt.err, &hinted) || !strings.Contains(hinted.Hint(), tt.hint) {
				t.Errorf("the hint of %v has no %q", tt.err, tt.hint)
			}
			if strings.Contains(tt.err.Error(), "secret") || strings.Contains(tt.err.Error(), "wrong") {
				t.Errorf("the error has a secret: %v", tt.err)
			}
		})
	}
}

func TestUntarStaysInside(t *testing.T) {
	c := client(t, image.Options{Registry: "localhost:1"})
	for _, name := range []string{"../evil", "/evil", "a/../../evil"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, n := range []string{"oci-layout", name} {
			if err := w.WriteHeader(&tar.Header{Name: n, Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "evil.tar")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Push(t.Context(), file, "x:v1"); err == nil || !strings.Contains(err.Error(), "escapes") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"web-app", "web-app:v1", "h:5000/a/b@sha256:abc", "a:/b", "./x:/y", "::", "80/udp"} {
		f.Add(s)
	}
	c, err := image.New(image.Options{Registry: "localhost:5000"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ref, err := c.Parse(s); err == nil {
			if again, err := c.Parse(ref.Name()); err != nil || again.Name() != ref.Name() {
				t.Errorf("%q is %q, which is %v, %v", s, ref.Name(), again, err)
			}
		}
		if a, err := image.ParseAddition(s); err == nil && (a.Source == "" || a.Target[0] != '/') {
			t.Errorf("%q is %+v", s, a)
		}
	})
}
