package render_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
)

// aConfigMap is a ConfigMap in jsonnet, with data.x as an expression.
func aConfigMap(name, x string) string {
	return `{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: '` + name + `' }, data: { x: ` + x + ` } }`
}

func TestJsonnetFollowsArgoCD(t *testing.T) {
	library := map[string]string{
		"app/a.jsonnet": "local k = import 'k.libsonnet'; k.map('a', std.extVar('x'))",
		"vendor/k.libsonnet": "{ map(name, x):: { apiVersion: 'v1', kind: 'ConfigMap', " +
			"metadata: { name: name }, data: { x: x } } }",
	}
	with := func(files map[string]string, more ...string) map[string]string {
		out := map[string]string{}
		for k, v := range files {
			out[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	x := render.JsonnetVar{Name: "x", Value: "1"}
	lib := render.PlainOptions{ExtVars: []render.JsonnetVar{x}, Libs: []string{"vendor"}}
	for name, c := range map[string]struct {
		files map[string]string
		opts  render.PlainOptions
		want  []string // NAME=DATA.X
	}{
		"object":           {map[string]string{"app/a.jsonnet": aConfigMap("a", "'1' + '2'")}, render.PlainOptions{}, []string{"a=12"}},
		"array with null":  {map[string]string{"app/a.jsonnet": "[" + aConfigMap("a", "'1'") + ", null, " + aConfigMap("b", "'2'") + "]"}, render.PlainOptions{}, []string{"a=1", "b=2"}},
		"empty array":      {map[string]string{"app/a.jsonnet": "[]"}, render.PlainOptions{}, nil},
		"list":             {map[string]string{"app/a.jsonnet": "{ apiVersion: 'v1', kind: 'List', items: [" + aConfigMap("a", "'1'") + "] }"}, render.PlainOptions{}, []string{"a=1"}},
		"beside manifests": {map[string]string{"app/a.jsonnet": aConfigMap("a", "'1'"), "app/b.yaml": configMap("b"), "app/c.libsonnet": "nothing that is evaluated", "app/sub/d.jsonnet": aConfigMap("d", "'1'")}, render.PlainOptions{}, []string{"a=1", "b="}},
		"recurse, exclude": {map[string]string{"app/a.jsonnet": aConfigMap("a", "'1'"), "app/sub/d.jsonnet": aConfigMap("d", "'1'")}, render.PlainOptions{Recurse: true, Exclude: "a.*"}, []string{"d=1"}},
		"variable":         {map[string]string{"app/a.jsonnet": aConfigMap("a", "std.extVar('x')")}, render.PlainOptions{ExtVars: []render.JsonnetVar{x}}, []string{"a=1"}},
		"code":             {map[string]string{"app/a.jsonnet": aConfigMap("a", "std.toString(std.extVar('x'))")}, render.PlainOptions{ExtVars: []render.JsonnetVar{{Name: "x", Value: "[1, 2 + 3]", Code: true}}}, []string{"a=[1, 5]"}},
		"argument":         {map[string]string{"app/a.jsonnet": "function(name, x='9') " + aConfigMap("a' + name + '", "x")}, render.PlainOptions{TLAs: []render.JsonnetVar{{Name: "name", Value: "q"}}}, []string{"aq=9"}},
		"argument in code": {map[string]string{"app/a.jsonnet": "function(x) " + aConfigMap("a", "'' + x.y")}, render.PlainOptions{TLAs: []render.JsonnetVar{{Name: "x", Value: "{ y: 7 }", Code: true}}}, []string{"a=7"}},
		"no function":      {map[string]string{"app/a.jsonnet": aConfigMap("a", "'1'")}, render.PlainOptions{TLAs: []render.JsonnetVar{x}}, []string{"a=1"}},
		"library":          {library, lib, []string{"a=1"}},
		"library, slash":   {library, render.PlainOptions{ExtVars: []render.JsonnetVar{x}, Libs: []string{"/vendor"}}, []string{"a=1"}},
		"last library":     {with(library, "more/k.libsonnet", "{ map(name, x):: "+aConfigMap("more", "x")+" }"), render.PlainOptions{ExtVars: []render.JsonnetVar{x}, Libs: []string{"vendor", "more"}}, []string{"more=1"}},
		"nearest":          {with(library, "app/k.libsonnet", "{ map(name, x):: "+aConfigMap("near", "x")+" }"), lib, []string{"near=1"}},
		"from a library":   {with(library, "vendor/k.libsonnet", "{ map(name, x):: "+aConfigMap("a", "importstr './deep/x.txt'")+" }", "vendor/deep/x.txt", "deep"), lib, []string{"a=deep"}},
		"back to the path": {with(library, "vendor/k.libsonnet", "{ map(name, x):: "+aConfigMap("a", "importstr 'x.txt'")+" }", "app/x.txt", "here"), lib, []string{"a=here"}},
		"within the tree":  {map[string]string{"app/a.jsonnet": aConfigMap("a", "importstr '../x.txt'"), "x.txt": "up"}, render.PlainOptions{}, []string{"a=up"}},
		"bytes":            {map[string]string{"app/a.jsonnet": aConfigMap("a", "std.toString(importbin 'x.bin')"), "app/x.bin": "\x00\xff"}, render.PlainOptions{}, []string{"a=[0, 255]"}},
		"parseYaml":        {map[string]string{"app/a.jsonnet": "std.parseYaml(importstr 'x.yaml.txt')", "app/x.yaml.txt": configMap("parsed")}, render.PlainOptions{}, []string{"parsed="}},
		"marker":           {map[string]string{"app/a.jsonnet": "// +argocd:skip-file-rendering\n" + aConfigMap("a", "'1'")}, render.PlainOptions{}, []string{"a=1"}},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := renderFiles(t, c.files, render.Request{Path: "app", Plain: c.opts})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range result.Objects {
				data, _ := o.Object["data"].(map[string]any)
				value, _ := data["x"].(string)
				got = append(got, o.GetName()+"="+value)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if result.Key == "" || result.Tool != render.Plain {
				t.Errorf("the key is %q, the tool %s", result.Key, result.Tool)
			}
		})
	}
}

func TestJsonnetErrorsNameTheLine(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		opts  render.PlainOptions
		want  render.Error
		text  string
	}{
		"syntax":               {map[string]string{"a.jsonnet": "{\n  a: 1,\n  b: ],\n}\n"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 3}, ""},
		"end of file":          {map[string]string{"a.jsonnet": "{\n  a: 1,\n"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 3}, ""},
		"syntax of an import":  {map[string]string{"a.jsonnet": "import 'lib/b.libsonnet'", "lib/b.libsonnet": "{\n  a: 1,\n  b: ],\n}\n"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "lib/b.libsonnet", Line: 3}, ""},
		"unknown variable":     {map[string]string{"a.jsonnet": "{\n  a: nope }"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 2}, "nope"},
		"thrown":               {map[string]string{"a.jsonnet": "{\n  a: 1,\n  b: error 'replicas must be odd' }"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 3}, "replicas must be odd"},
		"thrown in an import":  {map[string]string{"a.jsonnet": "import 'b.libsonnet'", "b.libsonnet": "{\n  a: 1,\n  b: error 'no' }"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "b.libsonnet", Line: 3}, "no"},
		"thrown by std":        {map[string]string{"a.jsonnet": "{\n  a: std.substr(1, 2, 3) }"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 2}, "substr"},
		"assertion":            {map[string]string{"a.jsonnet": "\nassert 1 == 2 : 'one is not two'; {}"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 2}, "one is not two"},
		"no such field":        {map[string]string{"a.jsonnet": "\n{}.nope"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 2}, "nope"},
		"no such variable":     {map[string]string{"a.jsonnet": "\nstd.extVar('nope')"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 2}, "nope"},
		"no argument":          {map[string]string{"a.jsonnet": "function(x) x"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 0}, "x"},
		"a function":           {map[string]string{"a.jsonnet": "{\n  f: function(x) x }"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet"}, ""},
		"broken code":          {map[string]string{"a.jsonnet": "\nstd.extVar('x')"}, render.PlainOptions{ExtVars: []render.JsonnetVar{{Name: "x", Value: "[", Code: true}}}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 0}, "extvar:x"},
		"native function":      {map[string]string{"a.jsonnet": "\nstd.native('sh')('-c', 'true')"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 2}, ""},
		"recursion":            {map[string]string{"a.jsonnet": "local f(x) =\n  1 + f(x); f(1)"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 2}, ""},
		"import of itself":     {map[string]string{"a.jsonnet": "\nlocal a = import 'a.jsonnet'; a"}, render.PlainOptions{}, render.Error{Reason: render.JsonnetFailed, Path: "a.jsonnet", Line: 2}, ""},
		"missing import":       {map[string]string{"a.jsonnet": "{\n  a: import 'nope.libsonnet' }"}, render.PlainOptions{}, render.Error{Reason: render.PathNotFound, Path: "a.jsonnet", Line: 2}, "nope.libsonnet"},
		"import of directory":  {map[string]string{"a.jsonnet": "{\n  a: importstr 'd' }", "d/x": ""}, render.PlainOptions{}, render.Error{Reason: render.PathNotFound, Path: "a.jsonnet", Line: 2}, "d"},
		"import from outside":  {map[string]string{"a.jsonnet": "{\n  a: importstr '../../etc/passwd' }"}, render.PlainOptions{}, render.Error{Reason: render.OutsideTree, Path: "a.jsonnet", Line: 2}, ""},
		"bytes from outside":   {map[string]string{"a.jsonnet": "{\n  a: importbin 'd/../../x' }"}, render.PlainOptions{}, render.Error{Reason: render.OutsideTree, Path: "a.jsonnet", Line: 2}, ""},
		"absolute import":      {map[string]string{"a.jsonnet": "{\n  a: importstr '/etc/passwd' }"}, render.PlainOptions{}, render.Error{Reason: render.OutsideTree, Path: "a.jsonnet", Line: 2}, ""},
		"remote import":        {map[string]string{"a.jsonnet": "{\n  a: import 'https://u:p@example.com/k.libsonnet' }"}, render.PlainOptions{}, render.Error{Reason: render.RemoteNotAllowed, Path: "a.jsonnet", Line: 2}, ""},
		"import in a variable": {map[string]string{"a.jsonnet": "\nstd.extVar('x')"}, render.PlainOptions{ExtVars: []render.JsonnetVar{{Name: "x", Value: "importstr '/etc/passwd'", Code: true}}}, render.Error{Reason: render.OutsideTree, Path: "a.jsonnet", Line: 2}, ""},
		"library outside":      {map[string]string{"a.jsonnet": "{}"}, render.PlainOptions{Libs: []string{"../lib"}}, render.Error{Reason: render.OutsideTree, Path: "../lib"}, ""},
		"no object":            {map[string]string{"a.jsonnet": "'text'"}, render.PlainOptions{}, render.Error{Reason: render.InvalidObject, Path: "a.jsonnet"}, "no object"},
		"null":                 {map[string]string{"a.jsonnet": "null"}, render.PlainOptions{}, render.Error{Reason: render.InvalidObject, Path: "a.jsonnet"}, "no object"},
		"array of arrays":      {map[string]string{"a.jsonnet": "[[]]"}, render.PlainOptions{}, render.Error{Reason: render.InvalidObject, Path: "a.jsonnet"}, "item 0"},
		"no kind":              {map[string]string{"a.jsonnet": "{}"}, render.PlainOptions{}, render.Error{Reason: render.InvalidObject, Path: "a.jsonnet"}, "no kind"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := renderFiles(t, c.files, render.Request{Tool: render.Plain, Plain: c.opts})
			var e *render.Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error, got %v", err)
			}
			t.Log(e.Reason, e, "|", e.Hint())
			if e.Reason != c.want.Reason || e.Path != c.want.Path || e.Line != c.want.Line {
				t.Errorf("got %s %s:%d, want %s %s:%d", e.Reason, e.Path, e.Line, c.want.Reason, c.want.Path, c.want.Line)
			}
			if !strings.Contains(e.Msg, c.text) || e.Msg == "" || strings.Contains(e.Error(), "u:p@") {
				t.Errorf("the message is %q, want %q in it", e.Msg, c.text)
			}
		})
	}
}

func TestJsonnetErrorsHoldNoSecrets(t *testing.T) {
	const secret = "Tr0ub4dor&3"
	variable := []render.JsonnetVar{{Name: "password", Value: secret}}
	code := []render.JsonnetVar{{Name: "x", Value: "{ password: '" + secret + "' }", Code: true}}
	for name, c := range map[string]struct {
		files map[string]string
		opts  render.PlainOptions
	}{
		"variable":       {map[string]string{"a.jsonnet": "error 'bad ' + std.extVar('password')"}, render.PlainOptions{ExtVars: variable}},
		"code":           {map[string]string{"a.jsonnet": "error 'bad ' + std.extVar('x').password"}, render.PlainOptions{ExtVars: code}},
		"argument":       {map[string]string{"a.jsonnet": "function(password) std.parseInt(password)"}, render.PlainOptions{TLAs: variable}},
		"token":          {map[string]string{"a.jsonnet": "{ a: {} '" + secret + "' }"}, render.PlainOptions{}},
		"field":          {map[string]string{"a.jsonnet": "local password = '" + secret + "';\nerror password"}, render.PlainOptions{}},
		"imported":       {map[string]string{"a.jsonnet": "error importstr 'password.txt'", "password.txt": secret + "\n"}, render.PlainOptions{}},
		"imported json":  {map[string]string{"a.jsonnet": "error (import 'x.json').a", "x.json": `{"a": "` + secret + `"}`}, render.PlainOptions{}},
		"not a number":   {map[string]string{"a.jsonnet": "local token = '" + secret + "'; std.parseInt(token)"}, render.PlainOptions{}},
		"broken in code": {map[string]string{"a.jsonnet": "std.extVar('x')"}, render.PlainOptions{ExtVars: []render.JsonnetVar{{Name: "x", Value: "{} '" + secret + "'", Code: true}}}},
		"kind":           {map[string]string{"a.jsonnet": "{ kind: 'Secret', stringData: { a: '" + secret + "' } }"}, render.PlainOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := renderFiles(t, c.files, render.Request{Tool: render.Plain, Plain: c.opts})
			var e *render.Error
			if !errors.As(err, &e) {
				t.Fatalf("want an *Error, got %v", err)
			}
			if text := e.Error() + e.Hint(); strings.Contains(text, secret) || strings.Contains(text, secret[:8]) {
				t.Errorf("the error holds the secret: %s", text)
			}
			t.Log(e)
		})
	}
}

// What was looked for and not found is an input, too: it may come.
func TestJsonnetRecordsWhatItRead(t *testing.T) {
	files := map[string]string{
		"app/a.jsonnet":      "local k = import 'k.libsonnet'; k { data+: { x: importstr 'x.txt' } }",
		"vendor/k.libsonnet": aConfigMap("a", "'1'"),
		"more/x.txt":         "1",
		"vendor/unused.json": "{}",
		"README.md":          "nobody reads this",
	}
	req := render.Request{Path: "app", Plain: render.PlainOptions{Libs: []string{"more", "vendor"}}}
	result, err := renderFiles(t, files, req)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]render.InputKind{}
	for _, in := range result.Inputs {
		read[in.Path] = in.Kind
	}
	for path, kind := range map[string]render.InputKind{
		"app": render.InputDirectory, "app/a.jsonnet": render.InputFile, "app/k.libsonnet": render.InputMissing,
		"vendor/k.libsonnet": render.InputFile, "app/x.txt": render.InputMissing, "vendor/x.txt": render.InputMissing,
		"more/x.txt": render.InputFile, "vendor/unused.json": "", "README.md": "",
	} {
		if read[path] != kind {
			t.Errorf("%s was recorded as %q, want %q", path, read[path], kind)
		}
	}
	for change, want := range map[string]bool{
		"README.md": true, "vendor/unused.json": true,
		"app/x.txt": false, "vendor/x.txt": false, "vendor/k.libsonnet": false,
	} {
		changed := map[string]string{change: "changed"}
		for name, text := range files {
			if name != change {
				changed[name] = text
			}
		}
		same, err := render.Unchanged(context.Background(), result.Inputs, map[string]core.Tree{"": memtree.New(changed)})
		if err != nil || same != want {
			t.Errorf("%s changes: unchanged is %v, %v, want %v", change, same, err, want)
		}
	}
	for name, change := range map[string]func(*render.PlainOptions){
		"variable": func(o *render.PlainOptions) { o.ExtVars = []render.JsonnetVar{{Name: "x", Value: "1"}} },
		"argument": func(o *render.PlainOptions) { o.TLAs = []render.JsonnetVar{{Name: "x", Value: "1"}} },
		"library":  func(o *render.PlainOptions) { o.Libs = []string{"vendor", "more"} },
	} {
		other := req
		change(&other.Plain)
		again, err := renderFiles(t, files, other)
		if err != nil {
			t.Fatal(err)
		}
		if again.Key == result.Key {
			t.Errorf("another %s: the key did not change", name)
		}
	}
}

// TestPoolOutlivesJsonnet evaluates what takes a process down.
func TestPoolOutlivesJsonnet(t *testing.T) {
	pool := newPool(t, render.PoolOptions{
		Workers: 1, Timeout: 3 * time.Second, MemoryBytes: 256 << 20,
		Limits: render.Limits{MaxOutputBytes: 8 << 20, MaxObjects: 1000},
	})
	for name, text := range map[string]string{
		"loop without end": "local f(x) = f(x + 1) tailstrict; f(0)",
		"endless object":   "local x = { kind: 'A', a: x }; x",
		"endless array":    "local x = [x]; x",
		"huge string":      "std.repeat('x', 2000000000)",
		"growing string":   "std.foldl(function(s, i) s + s, std.range(1, 40), 'xxxxxxxx')",
		"huge range":       "std.length([i * 2 for i in std.range(0, 200000000)])",
		"much output":      "{ a: std.repeat('x', 20000000) }",
		"many objects":     "[" + aConfigMap("a", "'1'") + " for i in std.range(0, 2000)]",
		"deep parentheses": strings.Repeat("(", 200000) + "1" + strings.Repeat(")", 200000),
		"deep array":       strings.Repeat("[", 200000) + strings.Repeat("]", 200000),
		"deep negation":    strings.Repeat("!", 400000) + "true",
		"long sum":         "1" + strings.Repeat("+1", 200000),
		"deep YAML":        "std.parseYaml('a: ' + std.repeat('[', 100000))",
		"recursion in std": "std.manifestJsonEx(local x = { a: x }; x, ' ')",
		"map of itself":    "local a = std.mapWithKey(function(k, v) a, { b: 1 }); a",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pool.Render(context.Background(), render.Request{Tree: memtree.New(map[string]any{"a.jsonnet": text}), Path: "."})
			switch got := reasonOf(err); got {
			case string(render.LimitExceeded), string(render.JsonnetFailed), string(render.InvalidObject):
				t.Log(got, err)
			default:
				t.Fatalf("%s: %v", got, err)
			}
		})
	}
	good := map[string]any{"a.jsonnet": aConfigMap("a", "'1'"), "huge.txt": strings.Repeat("x", 20<<20)}
	mustRender(t, pool, render.Request{Tree: memtree.New(good), Path: "."})
	good["a.jsonnet"] = aConfigMap("a", "importstr 'huge.txt'")
	_, err := pool.Render(context.Background(), render.Request{Tree: memtree.New(good), Path: "."})
	if reasonOf(err) != string(render.LimitExceeded) {
		t.Errorf("the import of a file that is too large: %v", err)
	}
}

// A worker answers as this process does, with what it asked for over the pipe.
func TestPoolEvaluatesJsonnet(t *testing.T) {
	pool := newPool(t, render.PoolOptions{Workers: 1})
	req := render.Request{
		Tree: memtree.New(map[string]any{
			"app/a.jsonnet":      "function(n) [(import 'k.libsonnet') { metadata+: { name+: '-' + i }, data: { x: std.extVar('x') } } for i in std.range(1, n)]",
			"vendor/k.libsonnet": memtree.Link("../real/k.libsonnet"),
			"real/k.libsonnet":   aConfigMap("a", "'1'"),
		}),
		Path: "app",
		Plain: render.PlainOptions{
			Libs: []string{"vendor"}, ExtVars: []render.JsonnetVar{{Name: "x", Value: "y"}},
			TLAs: []render.JsonnetVar{{Name: "n", Value: "3", Code: true}},
		},
	}
	here, there := mustRender(t, render.NewEngine(render.Limits{}), req), mustRender(t, pool, req)
	a, _ := json.Marshal(here.Objects)
	b, _ := json.Marshal(there.Objects)
	if len(there.Objects) != 3 || string(a) != string(b) || here.Key != there.Key {
		t.Errorf("in this process %s, in a worker %s", a, b)
	}
}
