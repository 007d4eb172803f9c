package render

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/fairway-cd/fairway/internal/core"
)

// mount is where kustomize sees the tree's root. It is not "/", so that a
// path with too many ".." is seen to leave the tree.
const mount = "/fairway-source"

// kustomizeFS is a job's source as kustomize's file system. It is read-only.
// The first thing that ends the build, whatever kustomize makes of it, is kept
// in err.
type kustomizeFS struct {
	job *job
	// virtual are files that the request lays over the tree, by path.
	virtual      map[string][]byte
	err          error
	customSchema bool
	read         map[string][]byte // what was read, to find secrets in
	// encrypted are the files that may be, and what says their format.
	encrypted map[string]string
}

var _ filesys.FileSystem = (*kustomizeFS)(nil)

func newKustomizeFS(j *job) *kustomizeFS {
	return &kustomizeFS{job: j, virtual: map[string][]byte{}, read: map[string][]byte{}, encrypted: map[string]string{}}
}

// kustomizePathError is a file error that knows its path in the tree.
type kustomizePathError struct {
	path string
	err  error
}

func (e *kustomizePathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *kustomizePathError) Unwrap() error { return e.err }

// fail notes what is more than a file that is not there.
func (f *kustomizeFS) fail(p string, err error) error {
	if err == nil {
		return nil
	}
	notThere := errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotFile) || errors.Is(err, errNotDirectory)
	if !notThere && f.err == nil {
		f.err = err
	}
	return &kustomizePathError{path: p, err: err}
}

// inTree is the path in the tree of a path of kustomize's.
func (f *kustomizeFS) inTree(name string) (string, error) {
	if f.err != nil {
		return "", f.err
	}
	name = path.Clean(name)
	if name == mount {
		return ".", nil
	}
	if rel, ok := strings.CutPrefix(name, mount+"/"); ok {
		return rel, nil
	}
	return "", NewError(OutsideTree, f.job.dir, 0, "the kustomization refers to a path outside of the repository: %s", path.Base(name))
}

func (f *kustomizeFS) stat(name string) (string, core.TreeEntry, error) {
	p, err := f.inTree(name)
	if err != nil {
		return "", core.TreeEntry{}, f.fail(name, err)
	}
	if _, ok := f.virtual[p]; ok {
		return p, core.TreeEntry{Name: path.Base(p), Mode: 0o644}, nil
	}
	real, entry, err := f.job.src.stat(p)
	return real, entry, f.fail(p, err)
}

// ReadFile implements filesys.FileSystem.
func (f *kustomizeFS) ReadFile(name string) ([]byte, error) {
	p, err := f.inTree(name)
	if err != nil {
		return nil, f.fail(name, err)
	}
	data, ok := f.virtual[p]
	if !ok {
		if data, err = f.job.src.read(p); err != nil {
			return nil, f.fail(p, err)
		}
	}
	if data, err = f.decrypt(p, data); err != nil {
		return nil, f.fail(p, err)
	}
	f.read[p] = data
	if err := f.check(p, data); err != nil {
		return nil, f.fail(p, err)
	}
	// kustomize edits what it is given in place.
	return append([]byte(nil), data...), nil
}

// Exists implements filesys.FileSystem.
func (f *kustomizeFS) Exists(name string) bool {
	_, _, err := f.stat(name)
	return err == nil
}

// IsDir implements filesys.FileSystem.
func (f *kustomizeFS) IsDir(name string) bool {
	_, entry, err := f.stat(name)
	return err == nil && entry.Mode.IsDir()
}

// CleanedAbs implements filesys.FileSystem: links are resolved.
func (f *kustomizeFS) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	real, entry, err := f.stat(name)
	if err != nil {
		return "", "", err
	}
	abs := path.Join(mount, real)
	if entry.Mode.IsDir() {
		return filesys.ConfirmedDir(abs), "", nil
	}
	return filesys.ConfirmedDir(path.Dir(abs)), path.Base(abs), nil
}

// ReadDir implements filesys.FileSystem.
func (f *kustomizeFS) ReadDir(name string) ([]string, error) {
	p, err := f.inTree(name)
	if err != nil {
		return nil, f.fail(name, err)
	}
	entries, err := f.job.src.list(p)
	if err != nil {
		return nil, f.fail(p, err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name
	}
	return names, nil
}

// Open implements filesys.FileSystem.
func (f *kustomizeFS) Open(name string) (filesys.File, error) {
	data, err := f.ReadFile(name)
	if err != nil {
		return nil, err
	}
	memory := filesys.MakeFsInMemory()
	if err := memory.WriteFile("file", data); err != nil {
		return nil, err
	}
	return memory.Open("file")
}

// Glob implements filesys.FileSystem. kustomize itself calls it nowhere.
func (f *kustomizeFS) Glob(string) ([]string, error) { return nil, errReadOnly }

// Walk implements filesys.FileSystem. kustomize itself calls it nowhere.
func (f *kustomizeFS) Walk(string, filepath.WalkFunc) error { return errReadOnly }

// Create implements filesys.FileSystem: it is refused, like all that writes.
func (f *kustomizeFS) Create(string) (filesys.File, error) { return nil, errReadOnly }
func (f *kustomizeFS) Mkdir(string) error                  { return errReadOnly }
func (f *kustomizeFS) MkdirAll(string) error               { return errReadOnly }
func (f *kustomizeFS) RemoveAll(string) error              { return errReadOnly }
func (f *kustomizeFS) WriteFile(string, []byte) error      { return errReadOnly }

var errReadOnly = fmt.Errorf("a source is read-only")

// isKustomizationName says whether a file of this name is a kustomization.
func isKustomizationName(name string) bool {
	for _, n := range konfig.RecognizedKustomizationFileNames() {
		if name == n {
			return true
		}
	}
	return false
}
