package render

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"regexp"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// manifestFile are the files that Argo CD takes for manifests.
var manifestFile = regexp.MustCompile(`\.(yaml|yml|json|jsonnet)$`)

// skipMarker in a file makes Argo CD skip it.
var skipMarker = []byte("+argocd:skip-file-rendering")

// plain renders a directory of manifests by the rules of Argo CD's repository
// server (reposerver/repository, findManifests): files in lexical order; a
// file that is broken or holds no object is passed over, unless it looks like
// a manifest or an object was found in it before.
func (j *job) plain() ([]*unstructured.Unstructured, error) {
	files, err := j.manifestFiles()
	if err != nil {
		return nil, err
	}
	var objects []*unstructured.Unstructured
	for _, file := range files {
		data, err := j.src.read(file)
		if err != nil {
			return nil, err
		}
		found, err := j.manifest(file, data)
		if err != nil {
			return nil, err
		}
		objects = append(objects, found...)
		if err := j.limitObjects(len(objects), file); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

func (j *job) manifestFiles() ([]string, error) {
	opts := j.req.Plain
	include, err := newGlob("include", opts.Include)
	if err != nil {
		return nil, err
	}
	exclude, err := newGlob("exclude", opts.Exclude)
	if err != nil {
		return nil, err
	}
	var files []string
	err = j.src.visit(j.dir, false, func(rel string, e core.TreeEntry) (bool, error) {
		if e.Mode.IsDir() {
			return opts.Recurse, nil
		}
		if !manifestFile.MatchString(e.Name) {
			return false, nil
		}
		if exclude != nil && exclude.Match(rel) || include != nil && !include.Match(rel) {
			return false, nil
		}
		p := path.Join(j.dir, rel)
		if e.Mode&fs.ModeSymlink != 0 {
			var err error
			if _, e, err = j.src.stat(p); errors.Is(err, fs.ErrNotExist) {
				j.warn(p + ": the symbolic link leads to nothing, it is passed over")
				return false, nil
			} else if err != nil {
				return false, err
			}
		}
		if e.Mode.IsRegular() {
			files = append(files, p)
		}
		return false, nil
	})
	return files, err
}

// manifest returns the objects of one file.
func (j *job) manifest(file string, data []byte) ([]*unstructured.Unstructured, error) {
	if path.Ext(file) == jsonnetExtension {
		return j.jsonnetObjects(file)
	}
	if bytes.Contains(data, skipMarker) {
		return nil, nil
	}
	objects, err := j.objects(file, data)
	e := asError(err)
	if e == nil || !e.noObject || len(objects) > 0 || path.Ext(file) == ".json" || looksLikeManifest(data) {
		return objects, err
	}
	j.warn(file + ": no Kubernetes object, it is passed over")
	return nil, nil
}

func looksLikeManifest(data []byte) bool {
	for _, word := range []string{"apiVersion:", "kind:", "metadata:"} {
		if !bytes.Contains(data, []byte(word)) {
			return false
		}
	}
	return true
}
