// Package detect finds out from a project's files how it is built and started,
// where there is no Dockerfile that says so. The rules are Paketo's, where it
// has them. It reads files, and runs nothing.
package detect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// Kind is what a project is.
type Kind string

// The kinds, in the order in which they are looked for.
const (
	Go     Kind = "go"
	Node   Kind = "node"
	Python Kind = "python"
	Java   Kind = "java"
)

// signs are the files at the project's root that tell of a kind.
func signs(k Kind) []string {
	return map[Kind][]string{
		Go:     {"go.mod"},
		Node:   {"package.json"},
		Python: {"requirements.txt", "Pipfile", "pyproject.toml"},
		Java:   {"pom.xml", "build.gradle", "build.gradle.kts", "META-INF/MANIFEST.MF"},
	}[k]
}

// Kinds are all that there are.
func Kinds() []Kind { return []Kind{Go, Node, Python, Java} }

// Project is what was found out.
type Project struct {
	Kind Kind `json:"kind"`
	// Signs are the files that tell of the kind.
	Signs []string `json:"signs"`
	// Restore fetches what the project depends on; Build makes it. Each is a
	// command with its arguments, and nil where nothing is to be done.
	Restore []string `json:"restore,omitempty"`
	Build   []string `json:"build,omitempty"`
	// Start is what the image runs: a command with its arguments, or Shell for
	// one line of a shell.
	Start []string `json:"start,omitempty"`
	Shell string   `json:"shell,omitempty"`
	// StartFrom is the file that says so.
	StartFrom string `json:"startFrom,omitempty"`
}

// Options decide what the files leave open.
type Options struct {
	// As is the kind, where the files tell of several.
	As Kind
	// Target is the main package of a Go module, as ./cmd/server.
	Target string
}

// mostBytes is how much of a file is read.
const mostBytes = 4 << 20

// Detect finds out what the project in fsys is. The error is a *NothingError,
// an *AmbiguousError, a *FileError or one of reading.
func Detect(fsys fs.FS, o Options) (*Project, error) {
	kind, found, err := kindOf(fsys, o.As)
	if err != nil {
		return nil, err
	}
	p := &Project{Kind: kind, Signs: found}
	procfile, err := web(fsys)
	if err != nil {
		return nil, err
	}
	p.Shell = procfile
	if procfile != "" {
		p.StartFrom = "Procfile"
	}
	switch kind {
	case Go:
		err = goProject(fsys, o, p)
	case Node:
		err = nodeProject(fsys, p)
	case Python:
		err = pythonProject(fsys, p)
	case Java:
		err = javaProject(fsys, p)
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// kindOf is the only kind that the files tell of, or the one that was named.
func kindOf(fsys fs.FS, as Kind) (Kind, []string, error) {
	if as != "" && !slices.Contains(Kinds(), as) {
		return "", nil, &AmbiguousError{What: fmt.Sprintf("there is no kind %q", as), Options: kindNames(Kinds())}
	}
	var kinds []Kind
	found := map[Kind][]string{}
	for _, k := range Kinds() {
		for _, name := range signs(k) {
			there, err := tells(fsys, name)
			if err != nil {
				return "", nil, err
			}
			if there {
				found[k] = append(found[k], name)
			}
		}
		if len(found[k]) > 0 {
			kinds = append(kinds, k)
		}
	}
	switch {
	case as != "" && len(found[as]) == 0:
		return "", nil, &NothingError{Looked: signs(as)}
	case as != "":
		return as, found[as], nil
	case len(kinds) == 0:
		return "", nil, &NothingError{Looked: allSigns()}
	case len(kinds) > 1:
		var files []string
		for _, k := range kinds {
			files = append(files, found[k]...)
		}
		return "", nil, &AmbiguousError{
			What: "the project may be several things: it has " + strings.Join(files, ", "), Options: kindNames(kinds), Flag: "--as",
		}
	}
	return kinds[0], found[kinds[0]], nil
}

// tells says whether a sign is there. A manifest of a jar is one only where it
// names what to start.
func tells(fsys fs.FS, name string) (bool, error) {
	if name == "META-INF/MANIFEST.MF" {
		main, err := manifestMain(fsys)
		return main != "", err
	}
	info, err := fs.Stat(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", name, err)
	}
	return info.Mode().IsRegular(), nil
}

func allSigns() []string {
	var all []string
	for _, k := range Kinds() {
		all = append(all, signs(k)...)
	}
	return all
}

func kindNames(kinds []Kind) []string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = string(k)
	}
	return names
}

// read returns a file, or nil where there is none.
func read(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", name, err)
	case len(data) > mostBytes:
		return nil, &FileError{Name: name, Message: fmt.Sprintf("it has more than %d MiB", mostBytes>>20)}
	}
	return data, nil
}

func exists(fsys fs.FS, name string) bool {
	info, err := fs.Stat(fsys, name)
	return err == nil && !info.IsDir()
}

// web is the command of a Procfile for web, or "".
func web(fsys fs.FS) (string, error) {
	data, err := read(fsys, "Procfile")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		name, command, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(name) == "web" && strings.TrimSpace(command) != "" {
			return strings.TrimSpace(command), nil
		}
	}
	return "", nil
}

// NothingError is a project of which nothing tells what it is.
type NothingError struct{ Looked []string }

func (e *NothingError) Error() string {
	return "nothing tells what the project is: there is no Dockerfile, and none of " + strings.Join(e.Looked, ", ")
}

// Hint is for the command line.
func (*NothingError) Hint() string { return "write a Dockerfile, or name the directory of the project" }

// AmbiguousError is something that the files leave open.
type AmbiguousError struct {
	What    string
	Options []string
	// Flag is the one that decides; "" where it is something else.
	Flag string
}

func (e *AmbiguousError) Error() string { return e.What }

// Hint is for the command line.
func (e *AmbiguousError) Hint() string {
	if e.Flag == "" {
		return "it is one of " + strings.Join(e.Options, ", ")
	}
	return fmt.Sprintf("%s says which: one of %s", e.Flag, strings.Join(e.Options, ", "))
}

// FileError is a file that is not as it should be.
type FileError struct{ Name, Message string }

func (e *FileError) Error() string { return e.Name + ": " + e.Message }
