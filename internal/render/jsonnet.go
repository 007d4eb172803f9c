package render

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/go-jsonnet"
	"github.com/google/go-jsonnet/ast"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
)

// jsonnetExtension is that of the files that are evaluated; libraries have
// another one and are only imported.
const jsonnetExtension = ".jsonnet"

// jsonnetObjects evaluates a file as Argo CD does (reposerver/repository,
// findManifests): an object, or an array of objects and nulls, which are left
// out.
func (j *job) jsonnetObjects(file string) ([]*unstructured.Unstructured, error) {
	text, err := j.evaluate(file)
	if err != nil {
		return nil, err
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return nil, NewError(InvalidObject, file, 0, "what jsonnet makes of it cannot be decoded")
	}
	items, ok := value.([]any)
	if !ok {
		items = []any{value}
	}
	var objects []*unstructured.Unstructured
	for i, item := range items {
		if item == nil && ok {
			continue
		}
		m, isObject := item.(map[string]any)
		if !isObject {
			return nil, NewError(InvalidObject, file, 0, "%s is no object", itemName(i, ok)).
				WithHint("a jsonnet file evaluates to a Kubernetes object, or to an array of them")
		}
		if objects, err = flatten(objects, &unstructured.Unstructured{Object: m}, file); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

func itemName(i int, inArray bool) string {
	if !inArray {
		return "what it evaluates to"
	}
	return fmt.Sprintf("item %d of what it evaluates to", i)
}

// evaluate returns what the file evaluates to, in JSON.
func (j *job) evaluate(file string) (string, error) {
	importer, err := j.newImporter()
	if err != nil {
		return "", err
	}
	vm := jsonnet.MakeVM()
	vm.Importer(importer)
	vm.SetTraceOut(io.Discard)
	for _, v := range j.req.Plain.ExtVars {
		bind(v, vm.ExtVar, vm.ExtCode)
	}
	for _, v := range j.req.Plain.TLAs {
		bind(v, vm.TLAVar, vm.TLACode)
	}
	text, err := run(vm, file)
	switch {
	case err == nil && int64(len(text)) > j.limits.MaxOutputBytes:
		return "", NewError(LimitExceeded, file, 0, "what it evaluates to has more than %d bytes", j.limits.MaxOutputBytes)
	case err != nil:
		return "", j.jsonnetError(file, err, importer)
	}
	return text, nil
}

func bind(v JsonnetVar, text, code func(name, value string)) {
	if v.Code {
		code(v.Name, v.Value)
		return
	}
	text(v.Name, v.Value)
}

// errCrash is what is left of a panic of the interpreter's.
var errCrash = errors.New("the interpreter crashed")

// run evaluates a file. Not by EvaluateFile, which makes texts of all errors.
func run(vm *jsonnet.VM, file string) (text string, err error) {
	defer func() {
		if recover() != nil {
			text, err = "", errCrash
		}
	}()
	node, _, err := vm.ImportAST("", file)
	if err != nil {
		return "", err
	}
	return vm.Evaluate(node)
}

// importer finds imports in the job's tree: beside the file that imports, in
// the libraries, the last one first, and in the directory that is rendered.
type importer struct {
	job   *job
	paths []string
	// found are the contents by path: the interpreter wants the same ones each
	// time.
	found map[string]jsonnet.Contents
	// failure is what is wrong with an import; the interpreter keeps no more
	// of it than the text.
	failure error
}

var _ jsonnet.Importer = (*importer)(nil)

func (j *job) newImporter() (*importer, error) {
	i := &importer{job: j, found: map[string]jsonnet.Contents{}}
	libs := j.req.Plain.Libs
	for n := len(libs) - 1; n >= 0; n-- {
		lib, err := clean(libs[n])
		if err != nil {
			return nil, err
		}
		i.paths = append(i.paths, lib)
	}
	i.paths = append(i.paths, j.dir)
	return i, nil
}

// Import implements jsonnet.Importer. from is "" for the file that is
// evaluated, and a path that was found for all others.
func (i *importer) Import(from, name string) (jsonnet.Contents, string, error) {
	contents, found, err := i.find(from, name)
	if err != nil && i.failure == nil {
		i.failure = err
	}
	return contents, found, err
}

func (i *importer) find(from, name string) (none jsonnet.Contents, _ string, _ error) {
	switch {
	case strings.Contains(name, "://"):
		return none, "", NewError(RemoteNotAllowed, "", 0, "the import is remote")
	case path.IsAbs(name):
		return none, "", NewError(OutsideTree, "", 0, "the import %q is absolute", name)
	}
	missing := NewError(PathNotFound, "", 0, "the import %q is in no directory that is looked in", name).
		WithHint("imports are relative to the file, to the libs of the source, which are relative to the repository's root, and to the source's path")
	for _, dir := range append([]string{path.Dir(from)}, i.paths...) {
		p := path.Join(dir, name)
		contents, err := i.read(p)
		switch e := asError(err); {
		case err == nil:
			return contents, p, nil
		case errors.Is(err, fs.ErrNotExist):
		case e != nil && e.Reason == OutsideTree:
			missing = e
		default:
			return none, "", err
		}
	}
	return none, "", missing
}

func (i *importer) read(p string) (jsonnet.Contents, error) {
	if contents, ok := i.found[p]; ok {
		return contents, nil
	}
	data, err := i.job.src.read(p)
	if err != nil {
		return jsonnet.Contents{}, err
	}
	contents := jsonnet.MakeContentsRaw(data)
	i.found[p] = contents
	return contents, nil
}

// located is what the interpreter's static errors have.
type located interface{ Loc() ast.LocationRange }

// jsonnetPlace is how the interpreter names a place in front of a message:
// "FILE:LINE:COLUMN-COLUMN" or "FILE:(LINE:COLUMN)-(LINE:COLUMN)".
var jsonnetPlace = regexp.MustCompile(`^(\S.*?):\(?(\d+):\d+(?:-\d+|\)-\(\d+:\d+\))? `)

// jsonnetToken is a token as the parser quotes it from the source.
var jsonnetToken = regexp.MustCompile(`\((\w+), "(?:[^"\\]|\\.)*"\)`)

// jsonnetError makes an *Error of what the interpreter said.
func (j *job) jsonnetError(file string, err error, i *importer) error {
	out := NewError(JsonnetFailed, file, 0, "")
	var thrown jsonnet.RuntimeError
	var static located
	msg := ""
	switch {
	case errors.As(err, &thrown):
		msg = thrown.Msg
		for _, frame := range thrown.StackTrace { // the innermost is the last
			if _, ours := i.found[frame.Loc.FileName]; ours && frame.Loc.IsSet() {
				out.Path, out.Line = frame.Loc.FileName, frame.Loc.Begin.Line
			}
		}
	case errors.As(err, &static):
		msg = strings.TrimSpace(err.Error())
	default:
		msg = errCrash.Error()
	}
	if i.failure != nil {
		return importError(out, i.failure)
	}
	if m := jsonnetPlace.FindStringSubmatch(msg); m != nil {
		if _, ours := i.found[m[1]]; ours {
			out.Path, out.Line, msg = m[1], atoi(m[2]), msg[len(m[0]):]
		}
		msg = jsonnetToken.ReplaceAllString(msg, "$1")
	}
	out.Msg = j.jsonnetSecrets(i).redact(strings.Join(strings.Fields(withoutQuotes(msg)), " "))
	return out
}

// importError is why an import failed, at the place that imports.
func importError(at *Error, failure error) error {
	e := asError(failure)
	var pathErr *fs.PathError
	switch {
	case e == nil && errors.As(failure, &pathErr) && (errors.Is(failure, errNotFile) || errors.Is(failure, errNotDirectory)):
		e = NewError(PathNotFound, pathErr.Path, 0, "it is %v", pathErr.Err)
	case e == nil:
		return failure // the tree cannot be read
	}
	if e.Path == "" || at.Line != 0 {
		msg := e.Msg
		if e.Path != "" {
			msg = e.Error()
		}
		e = &Error{Reason: e.Reason, Path: at.Path, Line: at.Line, Msg: msg, hint: e.Hint()}
	}
	return e
}

// quotedString is a string in a line of jsonnet.
var quotedString = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'`)

// jsonnetSecrets are the values of the request's variables, the strings that
// stand on a line with a name that sounds like a secret's, and imported files
// that are no code.
func (j *job) jsonnetSecrets(i *importer) redactor {
	r := newRedactor()
	for _, v := range slices.Concat(j.req.Plain.ExtVars, j.req.Plain.TLAs) {
		r.add(v.Value)
		addQuoted(r, v.Value)
	}
	for name, contents := range i.found {
		code := path.Ext(name) == jsonnetExtension || path.Ext(name) == ".libsonnet"
		for line := range strings.Lines(contents.String()) {
			switch {
			case !code:
				r.add(line)
				addQuoted(r, line)
			case secretKey.MatchString(line):
				addQuoted(r, line)
			}
		}
	}
	return r
}

func addQuoted(r redactor, line string) {
	for _, m := range quotedString.FindAllStringSubmatch(line, -1) {
		r.add(m[1])
		r.add(m[2])
	}
}
