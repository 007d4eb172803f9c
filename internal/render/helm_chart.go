package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/ignore"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

// maxChartDepth bounds charts that are each other's local dependencies.
const maxChartDepth = 10

// loadChart loads the chart and what `helm dependency build` would put into
// its charts/ directory from the same repository.
func (j *job) loadChart() (*chart.Chart, error) {
	files, err := j.chartFiles(j.dir)
	if err != nil {
		return nil, err
	}
	if files, err = j.addLocalDependencies(files, j.dir, 0); err != nil {
		return nil, err
	}
	chrt, err := loader.LoadFiles(files)
	if err != nil {
		return nil, j.loadError(err)
	}
	switch chrt.Metadata.Type {
	case "", "application":
	default:
		return nil, NewError(ChartFailed, path.Join(j.dir, "Chart.yaml"), 0, "a chart of type %s cannot be installed", chrt.Metadata.Type)
	}
	if chrt.Metadata.Deprecated {
		j.warn(fmt.Sprintf("the chart %s is deprecated", chrt.Name()))
	}
	sortDependencies(chrt)
	return chrt, j.checkDependencies(chrt)
}

func (j *job) loadError(err error) error {
	e := NewError(ChartFailed, path.Join(j.dir, "Chart.yaml"), 0, "%s", withoutQuotes(err.Error()))
	if m := yamlLine.FindString(e.Msg); m == "" {
		return e
	}
	return document{line: 1}.atChart(j.dir, err)
}

// atChart names the file of a chart that its loader could not read.
func (d document) atChart(dir string, err error) *Error {
	file := "Chart.yaml"
	for _, name := range []string{"values.yaml", "Chart.lock", "requirements.yaml"} {
		if strings.Contains(err.Error(), "cannot load "+name) {
			file = name
		}
	}
	return d.at(path.Join(dir, file), err)
}

// chartFiles reads a chart's files as helm's directory loader does: links are
// followed, .helmignore is honoured.
func (j *job) chartFiles(dir string) ([]*archive.BufferedFile, error) {
	rules, err := j.helmIgnore(dir)
	if err != nil {
		return nil, err
	}
	var files []*archive.BufferedFile
	err = j.src.visit(dir, true, func(rel string, e core.TreeEntry) (bool, error) {
		if rules.Ignore(rel, fileInfo{e}) {
			return false, nil
		}
		if e.Mode.IsDir() {
			return true, nil
		}
		p := path.Join(dir, rel)
		if !e.Mode.IsRegular() {
			return false, NewError(ChartFailed, p, 0, "a chart may hold only files and directories")
		}
		data, err := j.src.read(p)
		if err != nil {
			return false, err
		}
		if int64(len(data)) > archive.MaxDecompressedFileSize {
			return false, NewError(LimitExceeded, p, 0, "a chart's file has %d bytes, helm's limit is %d", len(data), archive.MaxDecompressedFileSize)
		}
		files = append(files, &archive.BufferedFile{Name: rel, Data: bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))})
		return false, nil
	})
	return files, err
}

func (j *job) helmIgnore(dir string) (*ignore.Rules, error) {
	rules := ignore.Empty()
	p := path.Join(dir, ignore.HelmIgnore)
	if ok, err := j.isFile(p); err != nil {
		return nil, err
	} else if ok {
		data, err := j.src.read(p)
		if err != nil {
			return nil, err
		}
		if rules, err = ignore.Parse(bytes.NewReader(data)); err != nil {
			return nil, NewError(ChartFailed, p, 0, "%v", err)
		}
	}
	rules.AddDefaults()
	return rules, nil
}

// fileInfo is a TreeEntry as an fs.FileInfo.
type fileInfo struct{ entry core.TreeEntry }

func (i fileInfo) Name() string       { return i.entry.Name }
func (i fileInfo) Size() int64        { return i.entry.Size }
func (i fileInfo) Mode() fs.FileMode  { return i.entry.Mode }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return i.entry.Mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }

// chartHead are a chart's dependencies, which older charts have in
// requirements.yaml.
type chartHead struct {
	Name         string              `json:"name"`
	Dependencies []*chart.Dependency `json:"dependencies"`
}

// addLocalDependencies adds the charts of "file://" dependencies that charts/
// does not hold, as `helm dependency build` would.
func (j *job) addLocalDependencies(files []*archive.BufferedFile, dir string, depth int) ([]*archive.BufferedFile, error) {
	have := map[string]bool{}
	var head chartHead
	for _, f := range files {
		if rest, ok := strings.CutPrefix(f.Name, "charts/"); ok {
			name, _, isDir := strings.Cut(rest, "/")
			have[name] = have[name] || isDir
		}
		if f.Name == "Chart.yaml" || f.Name == "requirements.yaml" {
			if err := yaml.Unmarshal(f.Data, &head); err != nil {
				return nil, document{line: 1}.at(path.Join(dir, f.Name), err)
			}
		}
	}
	for _, dep := range head.Dependencies {
		if dep == nil {
			continue
		}
		rel, local := strings.CutPrefix(dep.Repository, "file://")
		if !local || have[dep.Name] || hasArchive(files, dep.Name) {
			continue
		}
		if depth >= maxChartDepth {
			return nil, NewError(LimitExceeded, path.Join(dir, "Chart.yaml"), 0, "local dependencies are more than %d deep", maxChartDepth)
		}
		if path.IsAbs(rel) {
			return nil, NewError(OutsideTree, path.Join(dir, "Chart.yaml"), 0, "the repository of the dependency %s is an absolute path", dep.Name)
		}
		sub, err := j.localChart(path.Join(dir, rel), depth)
		if err != nil {
			return nil, err
		}
		for _, f := range sub {
			files = append(files, &archive.BufferedFile{Name: path.Join("charts", dep.Name, f.Name), Data: f.Data})
		}
		have[dep.Name] = true
	}
	return files, nil
}

func (j *job) localChart(dir string, depth int) ([]*archive.BufferedFile, error) {
	files, err := j.chartFiles(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, NewError(PathNotFound, dir, 0, "there is no such chart, on which another one depends")
	}
	if err != nil {
		return nil, err
	}
	return j.addLocalDependencies(files, dir, depth+1)
}

// hasArchive says whether charts/ holds an archive of the chart.
func hasArchive(files []*archive.BufferedFile, name string) bool {
	for _, f := range files {
		if strings.HasPrefix(f.Name, "charts/"+name+"-") && path.Ext(f.Name) == ".tgz" {
			return true
		}
	}
	return false
}

// sortDependencies gives the dependencies an order, which helm's loader takes
// from a map's.
func sortDependencies(c *chart.Chart) {
	deps := c.Dependencies()
	sort.SliceStable(deps, func(a, b int) bool { return deps[a].Name() < deps[b].Name() })
	c.SetDependencies(deps...)
	for _, d := range deps {
		sortDependencies(d)
	}
}

// checkDependencies is helm's: each dependency of Chart.yaml must be there.
func (j *job) checkDependencies(c *chart.Chart) error {
	for _, want := range c.Metadata.Dependencies {
		found := false
		for _, d := range c.Dependencies() {
			found = found || d.Name() == want.Name
		}
		if found {
			continue
		}
		file := path.Join(j.dir, "Chart.yaml")
		if want.Repository == "" {
			return NewError(ChartFailed, file, 0, "the dependency %s is not in charts/", want.Name)
		}
		return NewError(RemoteNotAllowed, file, 0, "the dependency %s is not in charts/, and is not fetched from %s", want.Name, withoutUserinfo(want.Repository)).
			WithHint("run helm dependency build and commit the charts/ directory")
	}
	return nil
}

// checkSchemas refuses schemas whose "$ref" helm would load from the network
// or from the machine's disk.
func checkSchemas(c *chart.Chart, dir string) error {
	if c.Schema != nil {
		var schema any
		if err := json.NewDecoder(bytes.NewReader(c.Schema)).Decode(&schema); err != nil {
			return NewError(ChartFailed, path.Join(dir, "values.schema.json"), 0, "the schema is not valid JSON")
		}
		ids := map[string]bool{}
		refs := map[string]bool{}
		schemaRefs(schema, ids, refs)
		for ref := range refs {
			base, _, _ := strings.Cut(ref, "#")
			if base == "" || ids[base] || strings.HasPrefix(base, "urn:") || isMetaSchema(base) {
				continue
			}
			return NewError(RemoteNotAllowed, path.Join(dir, "values.schema.json"), 0, "the schema refers to another document: %s", withoutUserinfo(base)).
				WithHint("put it below $defs in the schema, or skip the schema's validation")
		}
	}
	for _, d := range c.Dependencies() {
		if err := checkSchemas(d, path.Join(dir, "charts", d.Name())); err != nil {
			return err
		}
	}
	return nil
}

// isMetaSchema says whether a document comes with the validator.
func isMetaSchema(base string) bool {
	_, rest, ok := strings.Cut(base, "://json-schema.org/")
	return ok && (strings.HasPrefix(rest, "draft-0") || strings.HasPrefix(rest, "draft/20"))
}

// schemaRefs collects "$id" and "$ref" at any depth, which json bounds.
func schemaRefs(v any, ids, refs map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, child := range v {
			s, isString := child.(string)
			switch {
			case isString && (k == "$id" || k == "id"):
				ids[strings.TrimSuffix(s, "#")] = true
			case isString && (k == "$ref" || k == "$dynamicRef" || k == "$recursiveRef" || k == "$schema"):
				refs[s] = true
			default:
				schemaRefs(child, ids, refs)
			}
		}
	case []any:
		for _, child := range v {
			schemaRefs(child, ids, refs)
		}
	}
}
