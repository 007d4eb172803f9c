package chart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
)

var small = Limits{Archive: 1 << 20, Content: 1 << 20, Files: 10}

func pack(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func regular(name string, size int64) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Size: size, Mode: 0o644}
}

func TestUnpackRefuses(t *testing.T) {
	chart := regular("c/Chart.yaml", 1)
	many := []tar.Header{chart}
	for i := range 20 {
		many = append(many, regular("c/"+strings.Repeat("x", i+1), 0))
	}
	for name, headers := range map[string][]tar.Header{
		"a way up":           {chart, regular("c/../../etc/passwd", 1)},
		"an absolute path":   {chart, regular("/etc/passwd", 1)},
		"a backslash":        {chart, regular(`c\..\x`, 1)},
		"a link":             {chart, {Name: "c/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		"a hard link":        {chart, {Name: "c/x", Typeflag: tar.TypeLink, Linkname: "c/Chart.yaml"}},
		"a device":           {chart, {Name: "c/x", Typeflag: tar.TypeChar}},
		"a file twice":       {chart, chart},
		"a file that is one": {chart, regular("c/a", 1), regular("c/a/b", 1)},
		"no Chart.yaml":      {regular("c/x", 1)},
		"no directory":       {chart, regular("x", 1)},
	} {
		files, err := unpack("c", pack(t, headers...), small)
		var bad *InvalidError
		if !errors.As(err, &bad) {
			t.Errorf("%s: %d files, %v", name, len(files), err)
		}
	}
	for name, headers := range map[string][]tar.Header{
		"a bomb":     {chart, regular("c/zeros", 100<<20)},
		"many files": many,
	} {
		var large *core.TooLargeError
		if _, err := unpack("c", pack(t, headers...), small); !errors.As(err, &large) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, regular("c/Chart.yaml", 3), regular("c/templates/a.yaml", 5)))
	f.Add(pack(f, regular("c/../x", 1)))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, archive []byte) {
		files, err := unpack("c", archive, small)
		if err != nil {
			return
		}
		total := 0
		for name, content := range files {
			total += len(content)
			if path.Clean(name) != name || path.IsAbs(name) || strings.HasPrefix(name, "..") {
				t.Errorf("a path is %q", name)
			}
		}
		if int64(total) > small.Content || len(files) > small.Files {
			t.Errorf("%d bytes in %d files", total, len(files))
		}
		memtree.New(files) // panics where it is no tree
	})
}
