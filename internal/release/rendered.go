package release

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"sigs.k8s.io/kustomize/kyaml/kio"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
)

// Rendered is a chart after its templates ran.
type Rendered struct {
	// Chart is for the record.
	Chart *chart.Chart
	// Files are what the templates wrote, hooks included, by their path below
	// the chart's name.
	Files []File
	// CRDs are the files of crds/ directories.
	CRDs  []File
	Notes string
}

// File is one file's text.
type File struct{ Path, Text string }

// stub is a chart of the same name whose templates write what the real one's
// wrote.
func (r *Rendered) stub() *chart.Chart {
	m := *r.Chart.Metadata
	m.KubeVersion, m.Dependencies = "", nil // both were looked at when it was rendered
	c := &chart.Chart{Metadata: &m}
	add := func(name, text string) {
		c.Templates = append(c.Templates, &common.File{Name: name, Data: []byte(inert(text))})
	}
	for _, f := range r.Files {
		add(strings.TrimPrefix(f.Path, m.Name+"/"), f.Text)
	}
	if r.Notes != "" {
		add("templates/NOTES.txt", r.Notes)
	}
	return c
}

// inert is a template of text/template that writes text.
func inert(text string) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	return strings.ReplaceAll(text, "{{", `{{"{{"}}`)
}

// annotationFile keeps a document's file through a post-renderer. It is helm's
// own (pkg/action).
const annotationFile = "postrenderer.helm.sh/postrender-filename"

// Merge makes one stream of the files for a post-renderer. Each document says
// in an annotation which file it is of.
func Merge(files []File) (string, error) {
	var all []*kyaml.RNode
	err := eachDocument(files, func(f File, doc *kyaml.RNode) error {
		all = append(all, doc)
		return doc.PipeE(kyaml.SetAnnotation(annotationFile, f.Path))
	})
	if err != nil {
		return "", err
	}
	return kio.StringAll(all)
}

// Split undoes Merge.
func Split(stream string) ([]File, error) {
	docs, err := kio.ParseAll(stream)
	if err != nil {
		return nil, fmt.Errorf("read what the post-renderer wrote: %w", err)
	}
	var order []string
	by := map[string][]*kyaml.RNode{}
	for _, doc := range docs {
		name := doc.GetAnnotations()[annotationFile]
		if name == "" {
			name = "templates/post-rendered.yaml"
		}
		if err := errors.Join(doc.PipeE(kyaml.ClearAnnotation(annotationFile)), kyaml.ClearEmptyAnnotations(doc)); err != nil {
			return nil, fmt.Errorf("read what the post-renderer wrote: %w", err)
		}
		if by[name] == nil {
			order = append(order, name)
		}
		by[name] = append(by[name], doc)
	}
	files := make([]File, len(order))
	for i, name := range order {
		text, err := kio.StringAll(by[name])
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", name, err)
		}
		files[i] = File{name, text}
	}
	return files, nil
}

// Hooks splits the files in those with hooks of Helm and those without. A file
// that has both is in both, each with its own.
func Hooks(files []File) (hooks, rest []File, err error) {
	by := map[bool][]File{}
	err = eachDocument(files, func(f File, doc *kyaml.RNode) error {
		_, hook := doc.GetAnnotations()["helm.sh/hook"]
		text, err := doc.String()
		if err != nil {
			return err
		}
		list := by[hook]
		if n := len(list); n > 0 && list[n-1].Path == f.Path {
			list[n-1].Text += "---\n" + text
		} else {
			by[hook] = append(list, File{f.Path, text})
		}
		return nil
	})
	return by[true], by[false], err
}

// Label sets labels and annotations on every object.
func Label(files []File, labels, annotations map[string]string) ([]File, error) {
	if len(labels)+len(annotations) == 0 {
		return files, nil
	}
	var out []File
	err := eachDocument(files, func(f File, doc *kyaml.RNode) error {
		if err := doc.SetLabels(merged(doc.GetLabels(), labels)); err != nil {
			return err
		}
		if len(annotations) > 0 {
			if err := doc.SetAnnotations(merged(doc.GetAnnotations(), annotations)); err != nil {
				return err
			}
		}
		text, err := doc.String()
		if err != nil {
			return err
		}
		if n := len(out); n > 0 && out[n-1].Path == f.Path {
			out[n-1].Text += "---\n" + text
		} else {
			out = append(out, File{f.Path, text})
		}
		return nil
	})
	return out, err
}

func merged(have, more map[string]string) map[string]string {
	if have == nil {
		have = map[string]string{}
	}
	maps.Copy(have, more)
	return have
}

// eachDocument calls visit with each document that is an object. What is not
// YAML is left to Helm, which says so better: it stays as it is.
func eachDocument(files []File, visit func(File, *kyaml.RNode) error) error {
	for _, f := range files {
		for _, text := range documents(f.Text) {
			docs, err := kio.ParseAll(text)
			if err != nil {
				return fmt.Errorf("%s is not YAML: %w", f.Path, err)
			}
			for _, doc := range docs {
				if doc.IsNilOrEmpty() {
					continue
				}
				if err := visit(f, doc); err != nil {
					return fmt.Errorf("%s: %w", f.Path, err)
				}
			}
		}
	}
	return nil
}

// documents splits as Helm does.
func documents(text string) []string {
	split := releaseutil.SplitManifests(text)
	out := make([]string, 0, len(split))
	for i := range len(split) {
		if doc, ok := split[fmt.Sprintf("manifest-%d", i)]; ok && len(bytes.TrimSpace([]byte(doc))) > 0 {
			out = append(out, doc)
		}
	}
	return out
}

// Join puts files together: the texts of one path into one file.
func Join(lists ...[]File) []File {
	var out []File
	at := map[string]int{}
	for _, list := range lists {
		for _, f := range list {
			if i, ok := at[f.Path]; ok {
				out[i].Text += "---\n" + f.Text
				continue
			}
			at[f.Path] = len(out)
			out = append(out, f)
		}
	}
	return out
}
