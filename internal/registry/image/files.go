package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Addition is a file or directory, and where it goes in an image.
type Addition struct{ Source, Target string }

// ParseAddition reads "SOURCE:TARGET". TARGET is absolute; one that ends in
// "/" is a directory that a file goes into.
func ParseAddition(s string) (Addition, error) {
	at := strings.LastIndex(s, ":")
	if at <= 0 || !strings.HasPrefix(s[at+1:], "/") || strings.ContainsRune(s, 0) {
		return Addition{}, &Error{Op: "reading the addition", What: s, Err: errors.New("want SOURCE:TARGET"), Advice: "TARGET is an absolute path in the image, such as ./site:/srv/www"}
	}
	return Addition{s[:at], s[at+1:]}, nil
}

func (a Addition) String() string { return filepath.Base(a.Source) + ":" + a.Target }

func parsePort(s string) (string, error) {
	number, protocol, ok := strings.Cut(s, "/")
	if !ok {
		protocol = "tcp"
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return "", &Error{Op: "reading the port", What: s, Err: errors.New("want PORT or PORT/udp")}
	}
	return strconv.FormatUint(n, 10) + "/" + protocol, nil
}

// file is one entry of a layer: its path in the image, and where its content
// is.
type file struct {
	name   string
	source string
	link   string
	mode   fs.FileMode
}

// files lists what an addition puts into an image, with the directories above
// it, sorted by name.
func (a Addition) files() ([]file, error) {
	info, err := os.Stat(a.Source)
	if err != nil {
		return nil, &Error{Op: "adding", What: a.Source, Err: errors.Unwrap(err)}
	}
	target := strings.TrimPrefix(path.Clean(a.Target), "/")
	if !info.IsDir() && (strings.HasSuffix(a.Target, "/") || target == "") {
		target = path.Join(target, filepath.Base(a.Source))
	}
	out := map[string]file{}
	for dir := path.Dir(target); dir != "." && dir != "/"; dir = path.Dir(dir) {
		out[dir] = file{name: dir, mode: fs.ModeDir}
	}
	// The root itself may be a link to what is meant.
	root, err := filepath.EvalSymlinks(a.Source)
	if err != nil {
		return nil, &Error{Op: "adding", What: a.Source, Err: err}
	}
	err = filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		f := file{name: path.Join(target, filepath.ToSlash(below)), source: p}
		if f.name == "" || f.name == "." {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		f.mode = info.Mode()
		switch {
		case f.mode.IsDir(), f.mode.IsRegular():
		case f.mode&fs.ModeSymlink != 0:
			if f.link, err = os.Readlink(p); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s is neither a file, a directory nor a link", p)
		}
		out[f.name] = f
		return nil
	})
	if err != nil {
		return nil, &Error{Op: "adding", What: a.Source, Err: err}
	}
	sorted := make([]file, 0, len(out))
	for _, f := range out {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return sorted, nil
}

// writeFiles writes a layer: owned by root, from the first second of 1970
// (which some programs take for "no time"; as Jib does), 0755 or 0644.
func writeFiles(w io.Writer, files []file) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		if err := writeFile(t, f); err != nil {
			return err
		}
	}
	return t.Close()
}

func writeFile(t *tar.Writer, f file) error {
	h := &tar.Header{Name: f.name, Mode: 0o644, ModTime: time.Unix(1, 0), Format: tar.FormatPAX}
	if f.mode.IsDir() || f.mode&0o111 != 0 {
		h.Mode = 0o755
	}
	switch {
	case f.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, f.name+"/"
		return t.WriteHeader(h)
	case f.mode&fs.ModeSymlink != 0:
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		return t.WriteHeader(h)
	}
	content, err := os.Open(f.source)
	if err != nil {
		return err
	}
	defer func() { _ = content.Close() }() // opened for reading
	info, err := content.Stat()
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, content)
	return err
}
