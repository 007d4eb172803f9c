package render

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// document is one YAML document of a file, and the line that it starts at.
type document struct {
	text []byte
	line int
}

// splitDocuments splits a YAML stream as YAML defines it: at lines that start
// with "---" or "..." and then a space or the line's end. What follows "---"
// on its line belongs to the next document. Empty documents are left out.
func splitDocuments(data []byte) []document {
	data = bytes.TrimPrefix(data, []byte("\xEF\xBB\xBF"))
	var docs []document
	start, startLine, line := 0, 1, 1
	add := func(end int) {
		if text := data[start:end]; !isBlank(text) {
			docs = append(docs, document{text: text, line: startLine})
		}
	}
	for pos := 0; pos < len(data); line++ {
		next := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			next = pos + i + 1
		}
		if isMarker(data[pos:next]) {
			add(pos)
			start, startLine = pos+3, line
		}
		pos = next
	}
	add(len(data))
	return docs
}

func isMarker(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("---")) && !bytes.HasPrefix(line, []byte("...")) {
		return false
	}
	return len(line) == 3 || bytes.IndexByte([]byte(" \t\r\n"), line[3]) >= 0
}

// isBlank says whether text holds only space and comments.
func isBlank(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// decode makes a map of a YAML document, with numbers as Kubernetes wants
// them (int64, float64). null is nil without an error. Duplicate keys are
// taken as Argo CD takes them, the last one wins, and reported.
func (d document) decode() (m map[string]any, duplicate error, err error) {
	data, strictErr := yaml.YAMLToJSONStrict(d.text)
	if strictErr != nil {
		if data, err = yaml.YAMLToJSON(d.text); err != nil {
			return nil, nil, err
		}
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, nil, err
	}
	if v == nil {
		return nil, nil, nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, nil, fmt.Errorf("the document is not an object")
	}
	return m, strictErr, nil
}

// yamlLine finds the line that YAML libraries name in their errors' text, for
// people; 0 where there is none.
var yamlLine = regexp.MustCompile(`\bline (\d+)(: |\b)`)

// at makes an Error of what is wrong with the document d in file.
func (d document) at(file string, err error) *Error {
	line, msg := d.line, err.Error()
	if m := yamlLine.FindStringSubmatchIndex(msg); m != nil {
		if n, convErr := strconv.Atoi(msg[m[2]:m[3]]); convErr == nil {
			line = d.line + n - 1
			msg = msg[:m[0]] + msg[m[1]:]
		}
	}
	e := NewError(InvalidYAML, file, line, "%s", withoutQuotes(msg))
	e.noObject = true
	return e
}

// quoted is what YAML libraries quote of a file's content.
var quoted = regexp.MustCompile("`[^`]*`")

// withoutQuotes removes what an error's text quotes from the source, which may
// be a secret.
func withoutQuotes(msg string) string { return quoted.ReplaceAllString(msg, "a value") }

// objects decodes the documents of a YAML file. With an error it returns what
// it found until then.
func (j *job) objects(file string, data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, doc := range splitDocuments(data) {
		m, duplicate, err := doc.decode()
		if err != nil {
			return objects, doc.at(file, err)
		}
		if m == nil {
			continue
		}
		if duplicate != nil {
			j.warn(doc.at(file, duplicate).Error())
		}
		o := &unstructured.Unstructured{Object: m}
		more, err := flatten(nil, o, file)
		if e := asError(err); e != nil {
			e.Line = doc.line
			return objects, e
		}
		objects = append(objects, more...)
		if err := j.limitObjects(len(objects), file); err != nil {
			return objects, err
		}
	}
	return objects, nil
}

func (j *job) limitObjects(n int, file string) error {
	if n > j.limits.MaxObjects {
		return NewError(LimitExceeded, file, 0, "more than %d objects come out", j.limits.MaxObjects)
	}
	return nil
}
