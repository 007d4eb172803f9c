package git

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// refStore reads the references of a bare repository in Git's "files" format
// (gitrepository-layout(5)): one file each below refs/, and the packed-refs
// file for those that have none. It is read here and not by a git process
// because it lies on the path of every event and every look-up.
type refStore struct{ dir string }

var hexHash = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// lookup returns the hash at which name stands, or "" where there is no such
// reference.
func (s refStore) lookup(name string) (string, error) {
	// A reference moves from its file into packed-refs while we look; the file
	// goes last, so two misses around a miss in the pack are a real one.
	for range 2 {
		hash, err := s.loose(name)
		if err != nil || hash != "" {
			return hash, err
		}
		packed, err := s.packed()
		if err != nil || packed[name] != "" {
			return packed[name], err
		}
	}
	return "", nil
}

func (s refStore) loose(name string) (string, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(name)))
	switch {
	case errors.Is(err, fs.ErrNotExist), isDirectoryError(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading reference %s: %w", name, err)
	}
	hash := strings.TrimSpace(string(data))
	if !hexHash.MatchString(hash) {
		return "", nil // symbolic, or torn by a power cut: not a state to act on
	}
	return hash, nil
}

// isDirectoryError holds where a path is a directory, or leads through a file.
func isDirectoryError(err error) bool {
	return errors.Is(err, errIsDirectory) || errors.Is(err, errNotDirectory)
}

func (s refStore) packed() (map[string]string, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, "packed-refs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading packed references: %w", err)
	}
	refs := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		hash, name, ok := strings.Cut(lines.Text(), " ")
		if ok && hexHash.MatchString(hash) {
			refs[name] = hash
		}
	}
	return refs, nil
}

// list returns every reference below prefix ("refs/" for all) and its hash.
func (s refStore) list(prefix string) (map[string]string, error) {
	refs := map[string]string{}
	// Loose first: what moves into the pack meanwhile is then found there.
	loose := map[string]string{}
	root := filepath.Join(s.dir, filepath.FromSlash(strings.TrimSuffix(prefix, "/")))
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".lock") {
			return err
		}
		rel, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if hash, err := s.loose(name); err != nil {
			return err
		} else if hash != "" {
			loose[name] = hash
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing references: %w", err)
	}
	packed, err := s.packed()
	if err != nil {
		return nil, err
	}
	for name, hash := range packed {
		if strings.HasPrefix(name, prefix) {
			refs[name] = hash
		}
	}
	for name, hash := range loose {
		refs[name] = hash
	}
	return refs, nil
}

// head returns the full name of the branch that HEAD names; empty where HEAD
// is detached.
func (s refStore) head() (string, error) {
	data, err := os.ReadFile(filepath.Join(s.dir, "HEAD"))
	if err != nil {
		return "", fmt.Errorf("reading HEAD: %w", err)
	}
	name, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "ref: ")
	if !ok || !validRefName(name) {
		return "", nil
	}
	return name, nil
}

// setHead lets HEAD name another branch, by Git's own protocol: HEAD.lock is
// made, written, and renamed.
func (s refStore) setHead(name string) error {
	path := filepath.Join(s.dir, "HEAD")
	f, err := os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("locking HEAD: %w", err)
	}
	_, err = f.WriteString("ref: " + name + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".lock", path)
	}
	if err != nil {
		os.Remove(path + ".lock")
		return fmt.Errorf("setting HEAD: %w", err)
	}
	return syncDir(s.dir)
}

// validRefName holds for names that git check-ref-format(1) accepts below
// refs/. It is the gate before a name becomes a path or a git argument.
func validRefName(name string) bool {
	if !strings.HasPrefix(name, "refs/") || len(name) > maxRefName ||
		strings.HasSuffix(name, ".") || strings.Contains(name, "..") || strings.Contains(name, "@{") {
		return false
	}
	for _, r := range []byte(name) {
		if r <= ' ' || r == 0x7f || strings.IndexByte(`~^:?*[\`, r) >= 0 {
			return false
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return strings.Count(name, "/") >= 2
}

// maxRefName bounds reference names: with ".lock" each must fit a path of the
// file system.
const maxRefName = 240
