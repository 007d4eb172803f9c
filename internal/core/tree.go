package core

import (
	"context"
	"fmt"
	"io/fs"
)

// Tree is a source as it stood at one revision, read straight from the store
// that holds it, with no work tree. Paths are slash-separated, relative to
// the root, cleaned, and never leave it; "." is the root. Symbolic links are
// not followed: they are entries whose content is the link's target.
//
// A missing path is reported as an error for which errors.Is(err,
// fs.ErrNotExist) holds; every other error means the answer is not known.
// Implementations are safe for concurrent use.
type Tree interface {
	// Entry returns what stands at path.
	Entry(ctx context.Context, path string) (TreeEntry, error)
	// List returns the entries of the directory at path, sorted by name. They
	// are not the caller's to change.
	List(ctx context.Context, path string) ([]TreeEntry, error)
	// Read returns the content of the file at path, or a link's target.
	// A file over the implementation's limit is a *TooLargeError.
	Read(ctx context.Context, path string) ([]byte, error)
}

// TreeEntry is one entry of a Tree.
type TreeEntry struct {
	// Name is the last element of the path.
	Name string
	// Mode holds the type bits (fs.ModeDir, fs.ModeSymlink, fs.ModeIrregular
	// for a submodule) and for files 0644 or 0755.
	Mode fs.FileMode
	// Hash identifies the content: the Git object name of the blob or tree,
	// or the sha256 digest. Equal hashes are equal contents, all the way down.
	Hash string
	// Size in bytes for files; -1 where the store does not know it cheaply.
	Size int64
}

// Snapshot is a Tree and the revision at which it was read.
type Snapshot struct {
	Revision Revision
	Tree     Tree
	// Message, Author are of the commit; empty for artifacts.
	Message, Author string
	// Signed returns the commit as Git has it, and the annotated tag by which
	// it was found; tag is nil where there is none. It is nil for what is not of
	// Git.
	Signed func(ctx context.Context) (commit, tag []byte, err error)
}

// TooLargeError says that something is over a limit, in bytes unless Unit
// says otherwise.
type TooLargeError struct {
	What        string
	Size, Limit int64
	Unit        string
}

func (e *TooLargeError) Error() string {
	unit := e.Unit
	if unit == "" {
		unit = "bytes"
	}
	return fmt.Sprintf("%s is too large: %d %s, the limit is %d", e.What, e.Size, unit, e.Limit)
}
