package detect

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// goProject builds the main package with everything in it, so that the image
// needs nothing else.
func goProject(fsys fs.FS, o Options, p *Project) error {
	target := o.Target
	if target == "" {
		mains, err := mainPackages(fsys)
		if err != nil {
			return err
		}
		switch len(mains) {
		case 0:
			return &FileError{Name: "go.mod", Message: "no main package was found at its root or in cmd/*"}
		case 1:
			target = mains[0]
		default:
			return &AmbiguousError{What: "the module has several main packages: " + strings.Join(mains, ", "), Options: mains, Flag: "--go-target"}
		}
	}
	p.Restore = []string{"go", "mod", "download"}
	p.Build = []string{"go", "build", "-trimpath", "-o", "/app", target}
	if p.Shell == "" {
		p.Start, p.StartFrom = []string{"/app"}, target
	}
	return nil
}

// mainPackages are those at the root and in cmd/*.
func mainPackages(fsys fs.FS) ([]string, error) {
	dirs := []string{"."}
	entries, err := fs.ReadDir(fsys, "cmd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, "cmd/"+e.Name())
		}
	}
	var mains []string
	for _, dir := range dirs {
		isMain, err := hasMain(fsys, dir)
		if err != nil {
			return nil, err
		}
		if isMain {
			mains = append(mains, "./"+strings.TrimPrefix(dir, "."))
		}
	}
	return mains, nil
}

func hasMain(fsys fs.FS, dir string) (bool, error) {
	files, err := fs.Glob(fsys, path.Join(dir, "*.go"))
	if err != nil {
		return false, err
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		data, err := read(fsys, name)
		if err != nil {
			return false, err
		}
		// Of a file that is broken the compiler tells better.
		f, err := parser.ParseFile(token.NewFileSet(), name, data, parser.PackageClauseOnly)
		if err == nil && f.Name.Name == "main" {
			return true, nil
		}
	}
	return false, nil
}

// nodeProject installs what the lock file says, where there is one.
func nodeProject(fsys fs.FS, p *Project) error {
	data, err := read(fsys, "package.json")
	if err != nil {
		return err
	}
	var pkg struct {
		Main    string            `json:"main"`
		Scripts map[string]string `json:"scripts"`
	}
	if err := json.Unmarshal(data, &pkg); err != nil {
		return &FileError{Name: "package.json", Message: err.Error()}
	}
	p.Restore = []string{"npm", "install"}
	if exists(fsys, "package-lock.json") || exists(fsys, "npm-shrinkwrap.json") {
		if _, err := fs.Stat(fsys, "node_modules"); errors.Is(err, fs.ErrNotExist) {
			p.Restore = []string{"npm", "ci"}
		}
	}
	if pkg.Scripts["build"] != "" {
		p.Build = []string{"npm", "run", "build"}
	}
	switch {
	case p.Shell != "":
	case pkg.Scripts["start"] != "":
		p.Start, p.StartFrom = []string{"npm", "start"}, "package.json, scripts.start"
	case pkg.Main != "":
		p.Start, p.StartFrom = []string{"node", pkg.Main}, "package.json, main"
	default:
		names := []string{"server.js", "app.js", "main.js", "index.js"}
		i := slices.IndexFunc(names, func(name string) bool { return exists(fsys, name) })
		if i < 0 {
			return &FileError{Name: "package.json", Message: "nothing says what to start: it has neither scripts.start nor main, and there is none of " + strings.Join(names, ", ")}
		}
		p.Start, p.StartFrom = []string{"node", names[i]}, names[i]
	}
	return nil
}

// pythonProject installs into a virtual environment, which is a layer.
func pythonProject(fsys fs.FS, p *Project) error {
	const pip = "/venv/bin/pip"
	switch {
	case slices.Contains(p.Signs, "requirements.txt"):
		p.Restore = []string{pip, "install", "-r", "requirements.txt"}
	case slices.Contains(p.Signs, "Pipfile"):
		p.Restore = []string{"pipenv", "install", "--deploy"}
	default:
		p.Restore = []string{pip, "install", "."}
	}
	if p.Shell != "" {
		return nil
	}
	var found []string
	for _, name := range []string{"app.py", "main.py"} {
		if exists(fsys, name) {
			found = append(found, name)
		}
	}
	switch len(found) {
	case 1:
		p.Start, p.StartFrom = []string{"/venv/bin/python", found[0]}, found[0]
		return nil
	case 0:
		return &FileError{Name: p.Signs[0], Message: "nothing says what to start: there is no Procfile with a line web:, no app.py and no main.py"}
	default:
		return &AmbiguousError{What: "there is an app.py and a main.py, and no Procfile says which to start", Options: []string{"web: python app.py", "web: python main.py"}}
	}
}

// javaProject is layered as Jib does it; the build tool makes the classes.
func javaProject(fsys fs.FS, p *Project) error {
	switch {
	case slices.Contains(p.Signs, "pom.xml"):
		p.Build = []string{"mvn", "-B", "package", "-DskipTests"}
	case !slices.Contains(p.Signs, "META-INF/MANIFEST.MF"):
		p.Build = []string{"gradle", "--no-daemon", "classes"}
	default:
		main, err := manifestMain(fsys)
		if err != nil {
			return err
		}
		if p.Shell == "" {
			p.Start, p.StartFrom = []string{"java", "-cp", ".", main}, "META-INF/MANIFEST.MF"
		}
	}
	return nil
}

// manifestMain is the Main-Class of a jar's manifest, or "". A line that is too
// long goes on in the next one, after a space (JAR File Specification, "Manifest
// Specification").
func manifestMain(fsys fs.FS) (string, error) {
	data, err := read(fsys, "META-INF/MANIFEST.MF")
	if err != nil {
		return "", err
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n ", "")
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "Main-Class") {
			return strings.TrimSpace(value), nil
		}
	}
	return "", nil
}
