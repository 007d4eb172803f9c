package render

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// ReleaseOptions make a Helm render that of a release which Helm is to record
// and act on. What comes out is Result.Release and no objects. It is never
// cached: the revision is another one each time.
type ReleaseOptions struct {
	// Revision is the release's, from 1; Upgrade says that there is one already.
	Revision int
	Upgrade  bool
	// Lookup answers the template function lookup; without it, it finds nothing.
	// It is called in the process that asked for the render.
	Lookup func(context.Context, Lookup) (map[string]any, error)
}

// Lookup is what the template function lookup asks for: an object, or without
// a name all of them in the namespace, or without that everywhere.
type Lookup struct{ APIVersion, Kind, Namespace, Name string }

// Release is a rendered chart as Helm's record has it.
type Release struct {
	// Files are what the templates wrote, by their path below the chart's name
	// ("web/templates/deployment.yaml"), hooks included.
	Files []File
	// CRDs are the files of crds/ directories, in their order.
	CRDs []File
	// Notes is what templates/NOTES.txt wrote.
	Notes string
	// Chart is helm's chart (v2), in JSON, after the values have chosen its
	// dependencies.
	Chart []byte
}

// File is one file's text.
type File struct{ Path, Text string }

// notesFile is what helm shows after an installation.
const notesFile = "templates/NOTES.txt"

// release is what the templates wrote, as text.
func (j *job) release(chrt *chart.Chart, files map[string]string) (*Release, error) {
	out := &Release{Notes: files[path.Join(chrt.ChartFullPath(), notesFile)]}
	size := int64(len(out.Notes))
	for _, name := range sortedKeys(files) {
		if strings.HasSuffix(name, "NOTES.txt") || strings.HasPrefix(path.Base(name), "_") || strings.TrimSpace(files[name]) == "" {
			continue
		}
		size += int64(len(files[name]))
		out.Files = append(out.Files, File{name, files[name]})
	}
	for _, crd := range chrt.CRDObjects() {
		size += int64(len(crd.File.Data))
		out.CRDs = append(out.CRDs, File{crd.Filename, string(crd.File.Data)})
	}
	record, err := json.Marshal(chrt)
	if err != nil {
		return nil, NewError(ChartFailed, j.dir, 0, "the chart cannot be recorded: %v", err)
	}
	out.Chart = record
	if size += int64(len(record)); size > j.limits.MaxOutputBytes {
		return nil, NewError(LimitExceeded, j.dir, 0, "the release has %d bytes, the limit is %d", size, j.limits.MaxOutputBytes)
	}
	return out, nil
}

// lookup is the template function. The error names what was asked for, not
// what was found.
func (j *job) lookup(apiVersion, kind, namespace, name string) (map[string]any, error) {
	asked := Lookup{apiVersion, kind, namespace, name}
	found, err := j.req.Release.Lookup(j.ctx, asked)
	if err != nil {
		return nil, fmt.Errorf("lookup %s %s %s/%s: %w", apiVersion, kind, namespace, name, err)
	}
	if found == nil {
		found = map[string]any{}
	}
	return found, nil
}

// looksUp says whether templates can ask for objects.
func (r Request) looksUp() bool { return r.Release != nil && r.Release.Lookup != nil }

// maxLookups bounds how often one render asks for objects.
const maxLookups = 1000

// lookup answers a worker's question about the cluster.
func (s *session) lookup(asked *Lookup) (*answerMessage, error) {
	if s.find == nil {
		return nil, errors.New("the worker looks for an object, and may not")
	}
	if s.lookups++; s.lookups > maxLookups {
		return &answerMessage{Refused: fmt.Sprintf("a render may look for objects %d times", maxLookups)}, nil
	}
	found, err := s.find(s.ctx, *asked)
	if err != nil {
		return &answerMessage{Refused: err.Error()}, nil
	}
	content, err := json.Marshal(found)
	if err != nil {
		return &answerMessage{Refused: err.Error()}, nil
	}
	if int64(len(content)) > s.limits.MaxFileBytes {
		return &answerMessage{Refused: fmt.Sprintf("what was found has %d bytes, the limit is %d", len(content), s.limits.MaxFileBytes)}, nil
	}
	return &answerMessage{Content: content}, nil
}

// lookupRemotely is a worker's Lookup: it asks the pool.
func lookupRemotely(c *conn) func(context.Context, Lookup) (map[string]any, error) {
	return func(_ context.Context, asked Lookup) (map[string]any, error) {
		if err := c.send(&toPool{Query: &queryMessage{Lookup: &asked}}); err != nil {
			return nil, fmt.Errorf("ask the pool: %w", err)
		}
		var m toWorker
		if err := c.receive(&m); err != nil {
			return nil, fmt.Errorf("ask the pool: %w", err)
		}
		switch {
		case m.Answer == nil:
			return nil, errNoAnswer
		case m.Answer.Refused != "":
			return nil, errors.New(m.Answer.Refused)
		}
		var found map[string]any
		err := json.Unmarshal(m.Answer.Content, &found)
		return found, err
	}
}
