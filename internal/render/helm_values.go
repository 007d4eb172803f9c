package render

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"strings"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"
)

// helmValues merges the request's values in helm's order: files, inline
// values, --set, --set-string, --set-file.
func (j *job) helmValues() (map[string]any, error) {
	opts := j.req.Helm
	values := map[string]any{}
	for _, file := range opts.ValueFiles {
		data, err := j.valueFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			if opts.IgnoreMissingValueFiles {
				continue
			}
			return nil, NewError(PathNotFound, file, 0, "there is no such values file").
				WithHint("value files are looked up relative to the chart; /PATH is relative to the repository's root")
		}
		if err != nil {
			return nil, err
		}
		if values, err = mergeValues(values, file, data); err != nil {
			return nil, err
		}
	}
	values, err := mergeValues(values, "the inline values", []byte(opts.Values))
	if err != nil {
		return nil, err
	}
	for _, forceString := range []bool{false, true} {
		for _, p := range opts.Parameters {
			if p.ForceString == forceString {
				if err := setValue(values, p); err != nil {
					return nil, err
				}
			}
		}
	}
	return values, j.setFiles(values)
}

func mergeValues(values map[string]any, name string, data []byte) (map[string]any, error) {
	more, err := loader.LoadValues(bytes.NewReader(data))
	if err != nil {
		return nil, document{line: 1}.at(name, err)
	}
	return loader.MergeMaps(values, more), nil
}

// valueFile reads "PATH" relative to the chart, "/PATH" relative to the root,
// or "$NAME/PATH" in another source.
func (j *job) valueFile(file string) ([]byte, error) {
	if strings.Contains(file, "://") {
		return nil, NewError(RemoteNotAllowed, "", 0, "the values file %s is remote", withoutUserinfo(file))
	}
	if name, ok := strings.CutPrefix(file, "$"); ok {
		name, rest, _ := strings.Cut(name, "/")
		ref, ok := j.refs[name]
		if !ok {
			return nil, NewError(PathNotFound, file, 0, "there is no source with the reference %q", name)
		}
		return ref.read(rest)
	}
	if path.IsAbs(file) {
		return j.src.read(file)
	}
	return j.src.read(path.Join(j.dir, file))
}

// setValue is --set or --set-string. The value is one value: as in Argo CD its
// commas are escaped, unless it is a list in braces.
func setValue(values map[string]any, p HelmParameter) error {
	value := p.Value
	if !strings.HasPrefix(value, "{") || !strings.HasSuffix(value, "}") {
		value = escapeCommas(value)
	}
	parse := strvals.ParseInto
	if p.ForceString {
		parse = strvals.ParseIntoString
	}
	if err := parse(p.Name+"="+value, values); err != nil {
		return NewError(ChartFailed, "", 0, "the parameter %s cannot be set", p.Name)
	}
	return nil
}

func escapeCommas(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r == ',' && (i == 0 || s[i-1] != '\\') {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// setFiles are --set-file, whose paths are those of value files.
func (j *job) setFiles(values map[string]any) error {
	for _, p := range j.req.Helm.FileParameters {
		data, err := j.valueFile(p.Value)
		if errors.Is(err, fs.ErrNotExist) {
			return NewError(PathNotFound, p.Value, 0, "there is no such file for the parameter %s", p.Name)
		}
		if err != nil {
			return err
		}
		read := func([]rune) (any, error) { return string(data), nil }
		if err := strvals.ParseIntoFile(p.Name+"=file", values, read); err != nil {
			return NewError(ChartFailed, "", 0, "the file parameter %s cannot be set", p.Name)
		}
	}
	return nil
}
