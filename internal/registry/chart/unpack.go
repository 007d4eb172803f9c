package chart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// maxPath bounds the length and, with it, the depth of a file's path.
const maxPath = 512

// unpack reads the archive of a chart: files below one directory, which is
// left out. It takes what helm package writes: no links, no devices, nothing
// outside of the directory, nothing twice.
func unpack(chart string, archive []byte, limits Limits) (map[string][]byte, error) {
	files, err := untar(chart, archive, limits, inside, false)
	if err != nil {
		return nil, err
	}
	if _, ok := files["Chart.yaml"]; !ok {
		return nil, &InvalidError{Chart: chart, Err: errors.New("its archive has no Chart.yaml")}
	}
	return files, nil
}

// unpackAll reads an archive as it is. As in Flux, links are left out.
func unpackAll(artifact string, archive []byte, limits Limits) (map[string][]byte, error) {
	return untar(artifact, archive, limits, below, true)
}

func untar(chart string, archive []byte, limits Limits, place func(string) (string, bool), skipLinks bool) (map[string][]byte, error) {
	bad := func(format string, args ...any) error {
		return &InvalidError{Chart: chart, Err: fmt.Errorf(format, args...)}
	}
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, bad("its archive is not gzip: %w", err)
	}
	// What is too much is not unpacked; headers count too.
	content := &io.LimitedReader{R: z, N: limits.Content + 1}
	tooLarge := &core.TooLargeError{What: "the content of " + named(chart), Size: limits.Content + 1, Limit: limits.Content}
	files := map[string][]byte{}
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		switch {
		case content.N <= 0:
			return nil, tooLarge
		case errors.Is(err, io.EOF):
			return files, check(chart, files)
		case err != nil:
			return nil, bad("its archive is broken: %w", err)
		}
		link := h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink
		switch {
		case h.Typeflag == tar.TypeReg:
		case h.Typeflag == tar.TypeDir, h.Typeflag == tar.TypeXGlobalHeader, link && skipLinks:
			continue
		default:
			return nil, bad("%q in its archive is neither a file nor a directory", h.Name)
		}
		name, ok := place(h.Name)
		if !ok {
			return nil, bad("%q in its archive is outside of it", h.Name)
		}
		if _, twice := files[name]; twice {
			return nil, bad("%q is in its archive twice", h.Name)
		}
		if len(files) >= limits.Files {
			return nil, &core.TooLargeError{What: named(chart), Size: int64(len(files) + 1), Limit: int64(limits.Files), Unit: "files"}
		}
		files[name], err = io.ReadAll(r)
		if content.N <= 0 {
			return nil, tooLarge
		} else if err != nil {
			return nil, bad("its archive is broken at %q: %w", h.Name, err)
		}
	}
}

// below is the path of an entry, if it is inside of the archive.
func below(name string) (string, bool) {
	if len(name) > maxPath || strings.ContainsAny(name, "\\\x00") || strings.HasPrefix(name, "/") {
		return "", false
	}
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", false
		}
	}
	name = path.Clean(name)
	return name, name != "."
}

// inside is the path of an entry in the chart's directory, without that.
func inside(name string) (string, bool) {
	name, ok := below(name)
	if !ok {
		return "", false
	}
	_, rest, ok := strings.Cut(name, "/")
	return rest, ok && rest != ""
}

// check holds that the files are a tree: nothing is a file and a directory.
func check(chart string, files map[string][]byte) error {
	for name := range files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := files[dir]; ok {
				return &InvalidError{Chart: chart, Err: fmt.Errorf("%q in its archive is a file and a directory", dir)}
			}
		}
	}
	return nil
}
