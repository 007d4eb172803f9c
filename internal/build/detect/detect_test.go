package detect_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/fairway-cd/fairway/internal/build/detect"
	"github.com/fairway-cd/fairway/internal/testkit"
)

func files(list map[string]string) fs.FS {
	fsys := fstest.MapFS{}
	for name, text := range list {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func line(p *detect.Project) string {
	start := strings.Join(p.Start, " ")
	if p.Shell != "" {
		start = "sh: " + p.Shell
	}
	return strings.Join([]string{string(p.Kind), strings.Join(p.Restore, " "), strings.Join(p.Build, " "), start}, " | ")
}

func TestDetect(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		with  detect.Options
		want  string
	}{
		"go": {files: map[string]string{"go.mod": "module x", "main.go": "package main"},
			want: "go | go mod download | go build -trimpath -o /app ./ | /app"},
		"go, in cmd": {files: map[string]string{"go.mod": "module x", "lib.go": "package x", "cmd/server/main.go": "package main", "cmd/lib/a.go": "package lib"},
			want: "go | go mod download | go build -trimpath -o /app ./cmd/server | /app"},
		"go, a target": {files: map[string]string{"go.mod": "module x", "cmd/a/a.go": "package main", "cmd/b/b.go": "package main"}, with: detect.Options{Target: "./cmd/b"},
			want: "go | go mod download | go build -trimpath -o /app ./cmd/b | /app"},
		"node, locked": {files: map[string]string{"package.json": `{"scripts": {"start": "node x"}}`, "package-lock.json": "{}"},
			want: "node | npm ci |  | npm start"},
		"node, locked and installed": {files: map[string]string{"package.json": `{"main": "x.js"}`, "package-lock.json": "{}", "node_modules/a/index.js": ""},
			want: "node | npm install |  | node x.js"},
		"node, by names": {files: map[string]string{"package.json": "{}", "index.js": "", "app.js": ""},
			want: "node | npm install |  | node app.js"},
		"python": {files: map[string]string{"requirements.txt": "flask", "app.py": ""},
			want: "python | /venv/bin/pip install -r requirements.txt |  | /venv/bin/python app.py"},
		"a Procfile wins": {files: map[string]string{"requirements.txt": "flask", "app.py": "", "main.py": "", "Procfile": "worker: x\nweb:  gunicorn app:app\n"},
			want: "python | /venv/bin/pip install -r requirements.txt |  | sh: gunicorn app:app"},
		"pyproject": {files: map[string]string{"pyproject.toml": "", "main.py": ""},
			want: "python | /venv/bin/pip install . |  | /venv/bin/python main.py"},
		"maven":  {files: map[string]string{"pom.xml": "<project/>"}, want: "java |  | mvn -B package -DskipTests | "},
		"gradle": {files: map[string]string{"build.gradle": ""}, want: "java |  | gradle --no-daemon classes | "},
		"a jar's files": {files: map[string]string{"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\r\nMain-Class: a.very.long.name.of.Ma\r\n in\r\n"},
			want: "java |  |  | java -cp . a.very.long.name.of.Main"},
		"one of two": {files: map[string]string{"go.mod": "module x", "main.go": "package main", "package.json": "{}"}, with: detect.Options{As: detect.Go},
			want: "go | go mod download | go build -trimpath -o /app ./ | /app"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := detect.Detect(files(c.files), c.with)
			if err != nil {
				t.Fatal(err)
			}
			if got := line(p); got != c.want {
				t.Errorf("\ngot  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestDetectRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		with  detect.Options
		as    any
		says  string
	}{
		"nothing":          {map[string]string{"README": ""}, detect.Options{}, new(*detect.NothingError), "none of go.mod, package.json"},
		"two things":       {map[string]string{"go.mod": "", "package.json": "{}"}, detect.Options{}, new(*detect.AmbiguousError), "go.mod, package.json"},
		"not as named":     {map[string]string{"go.mod": ""}, detect.Options{As: detect.Node}, new(*detect.NothingError), "package.json"},
		"no such kind":     {map[string]string{"go.mod": ""}, detect.Options{As: "rust"}, new(*detect.AmbiguousError), `"rust"`},
		"two mains":        {map[string]string{"go.mod": "", "cmd/a/a.go": "package main", "cmd/b/b.go": "package main"}, detect.Options{}, new(*detect.AmbiguousError), "./cmd/a, ./cmd/b"},
		"no main":          {map[string]string{"go.mod": "", "a.go": "package a", "a_test.go": "package main"}, detect.Options{}, new(*detect.FileError), "no main package"},
		"no JSON":          {map[string]string{"package.json": "{"}, detect.Options{}, new(*detect.FileError), "package.json"},
		"nothing to start": {map[string]string{"package.json": "{}"}, detect.Options{}, new(*detect.FileError), "server.js"},
		"two to start":     {map[string]string{"requirements.txt": "", "app.py": "", "main.py": ""}, detect.Options{}, new(*detect.AmbiguousError), "Procfile"},
		"a large file":     {map[string]string{"package.json": strings.Repeat(" ", 5<<20)}, detect.Options{}, new(*detect.FileError), "4 MiB"},
		"a directory":      {map[string]string{"go.mod/x": ""}, detect.Options{}, new(*detect.NothingError), "none of"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := detect.Detect(files(c.files), c.with)
			if err == nil || !errors.As(err, c.as) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%+v, %v (%T)", p, err, err)
			}
		})
	}
}

// What people's projects are: the corpus of images.
func TestDetectCorpus(t *testing.T) {
	dir := testkit.Corpus(t, "images")
	for name, want := range map[string]string{
		"here/python-wheel": "python", "here/node": "node", "java-maven": "java", "java-gradle": "java",
		"node-buildpack": "node", "python-buildpack": "python",
	} {
		t.Run(name, func(t *testing.T) {
			p, err := detect.Detect(os.DirFS(filepath.Join(dir, name)), detect.Options{})
			if err != nil || string(p.Kind) != want {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
}

func FuzzDetect(f *testing.F) {
	f.Add("package.json", `{"scripts": {"start": "x"}}`, "web: x")
	f.Add("META-INF/MANIFEST.MF", "Main-Class: a\n b\n", "")
	f.Add("go.mod", "module x", "web")
	f.Fuzz(func(t *testing.T, name, content, procfile string) {
		fsys := fstest.MapFS{"Procfile": {Data: []byte(procfile)}, "main.go": {Data: []byte(content)}}
		if fs.ValidPath(name) && name != "." {
			fsys[name] = &fstest.MapFile{Data: []byte(content)}
		}
		p, err := detect.Detect(fsys, detect.Options{})
		if (p == nil) == (err == nil) {
			t.Errorf("%+v, %v", p, err)
		}
	})
}
