package render

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/google/go-jsonnet"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core/memtree"
)

func FuzzGlob(f *testing.F) {
	for _, p := range []string{"*.yaml", "{a,b}*.yml", "{*.json,sub/*}", "[a-", "{{", "\\", "**/x?", "{a,{b,c}}"} {
		f.Add(p, "sub/a.yaml")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := newGlob("include", pattern)
		if err != nil {
			if asError(err) == nil {
				t.Fatalf("the error is no *Error: %v", err)
			}
			return
		}
		if pattern == "" != (g == nil) {
			t.Fatal("a glob for the empty pattern, or none for another one")
		}
		if g != nil && !strings.ContainsAny(pattern, `*?[]{}\!,`) && g.Match(name) != (pattern == name) {
			t.Fatalf("%q without wildcards matches %q: %v", pattern, name, g.Match(name))
		}
	})
}

func FuzzSplitDocuments(f *testing.F) {
	for _, s := range []string{"a: 1\n---\nb: 2\n", "--- {a: 1}\n...\n# c\n--- \nx", "\xEF\xBB\xBFa: 1", "---\r\na: 1\r\n---\r\n", "a: |\n  ---\n  b\n", "----\n", "---a\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		last := 0
		for _, doc := range splitDocuments(data) {
			if doc.line < 1 || doc.line < last || doc.line > bytes.Count(data, []byte("\n"))+1 {
				t.Fatalf("document at line %d after line %d", doc.line, last)
			}
			last = doc.line
			if isBlank(doc.text) {
				t.Fatal("an empty document")
			}
			if !bytes.Contains(data, doc.text) {
				t.Fatal("a document that is not in the file")
			}
			if m, _, err := doc.decode(); err == nil && m != nil {
				if _, err := yaml.Marshal(m); err != nil {
					t.Fatalf("decoded what cannot be encoded: %v", err)
				}
			} else if err != nil {
				if e := doc.at("f", err); e.Line < 0 || e.Msg == "" {
					t.Fatalf("no line or message: %+v", e)
				}
			}
		}
	})
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"", ".", "/", "a/../..", "../x", "//a//b/./c", "a\x00b", "..a/b", "a/../../b", "/../.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		c, err := clean(p)
		if err != nil {
			if asError(err) == nil {
				t.Fatalf("the error is no *Error: %v", err)
			}
			return
		}
		if !isClean(c) {
			t.Fatalf("clean(%q) is %q, which leaves the tree", p, c)
		}
		if again, err := clean(c); err != nil || again != c {
			t.Fatalf("clean is not idempotent: %q, %q", c, again)
		}
		if inside := path.Join(mount, c); inside != mount && !strings.HasPrefix(inside, mount+"/") {
			t.Fatalf("%q is outside", inside)
		}
	})
}

func FuzzFrame(f *testing.F) {
	seed := func(v any) {
		var b bytes.Buffer
		if err := newConn(nil, &b, maxControl).send(v); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	seed(&toPool{Query: &queryMessage{Op: opRead, Path: "a"}})
	seed(&toPool{Done: &doneMessage{Objects: [][]byte{[]byte("{}")}, Inputs: []Input{{Path: "a"}}}})
	seed(&toWorker{Answer: &answerMessage{Bundles: []bundle{{Dir: ".", Files: map[string][]byte{"a": nil}}}}})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		c := newConn(bytes.NewReader(data), io.Discard, 1<<20)
		for {
			var m toPool
			err := c.receive(&m)
			if err == nil {
				continue
			}
			if errors.Is(err, io.EOF) && len(data) == 0 {
				return
			}
			break
		}
		c = newConn(bytes.NewReader(data), io.Discard, 1<<20)
		var w toWorker
		if err := c.receive(&w); err == nil {
			var b bytes.Buffer
			if err := newConn(nil, &b, 1<<24).send(&w); err != nil {
				t.Fatalf("received what cannot be sent: %v", err)
			}
		}
	})
}

func FuzzIsRemote(f *testing.F) {
	for _, s := range []string{"../base", "https://a/b", "git@github.com:o/r", "github.com/o/r", "a.yaml", "file:///x", "GIT::x", "x@y:z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !isRemote(p) && !strings.Contains(p, "\n") && strings.Contains(p, "://") {
			t.Fatalf("%q is taken for local", p)
		}
		if out := withoutUserinfo("https://user:s3cr3t@example.com/" + strings.ToValidUTF8(strings.Map(printable, p), "")); strings.Contains(out, "s3cr3t@") {
			t.Fatalf("a password is shown: %q", out)
		}
	})
}

func printable(r rune) rune {
	if r <= ' ' || r == 0x7f {
		return -1
	}
	return r
}

// TestRemoteAsKustomizeSeesIt holds isRemote to the forms that kustomize's
// RepoSpec and loader fetch.
func TestRemoteAsKustomizeSeesIt(t *testing.T) {
	for _, p := range []string{
		"https://github.com/o/r//p?ref=v1", "http://h/x.yaml", "HTTPS://h/x", "git@github.com:o/r.git", "user@host:r/p",
		"org-12345@github.com:o/r", "github.com/o/r", "github.com:o/r", "GitHub.com/o/r", "www.github.com/o/r", "gh:o/r",
		"git::https://h/r", "git::git@h:o/r", "ssh://git@h/r", "file:///repo", "git::file:///repo", "https://dev.azure.com/o/p/_git/r",
	} {
		if !isRemote(p) {
			t.Errorf("%s is fetched by kustomize, and taken for local", p)
		}
	}
	for _, p := range []string{"../base", "a.yaml", "./x/github.com/y", "deploy@prod.yaml", "apiVersion: v1\nurl: https://x"} {
		if isRemote(p) {
			t.Errorf("%s is local, and taken for remote", p)
		}
	}
}

// FuzzImport looks for imports in a tree that cannot be left.
func FuzzImport(f *testing.F) {
	for _, s := range [][2]string{
		{"app/a.jsonnet", "k.libsonnet"}, {"", "app/a.jsonnet"}, {"vendor/k.libsonnet", "../../x"}, {"a", "/etc/passwd"},
		{"a", "https://h/x"}, {"a", ""}, {"a", ".."}, {"a", "x\x00y"}, {"../..", "vendor/../app/./a.jsonnet"},
	} {
		f.Add(s[0], s[1])
	}
	files := map[string]string{"app/a.jsonnet": "{}", "vendor/k.libsonnet": "[]"}
	f.Fuzz(func(t *testing.T, from, name string) {
		limits := Limits{}.withDefaults()
		j := &job{ctx: t.Context(), limits: limits, dir: "app", req: Request{Plain: PlainOptions{Libs: []string{"vendor"}}}}
		j.src = newSource(t.Context(), memtree.New(files), limits)
		i, err := j.newImporter()
		if err != nil {
			t.Fatal(err)
		}
		contents, found, err := i.Import(from, name)
		if err != nil {
			if e := asError(importError(NewError(JsonnetFailed, "app/a.jsonnet", 1, ""), err)); e == nil || e.Msg == "" {
				t.Fatalf("the error is no *Error: %v", err)
			}
			return
		}
		if want, ok := files[found]; !ok || contents.String() != want {
			t.Fatalf("%q from %q is %q at %q", name, from, contents, found)
		}
	})
}

// FuzzJsonnetSyntax parses, and evaluates nothing.
func FuzzJsonnetSyntax(f *testing.F) {
	for _, s := range []string{
		"{ a: 1 }", "{\n a: ],\n}", "local f(x) = x; f", "|||\n  text\n|||", "'\\u12'", "[x for x in", "a.b:1:2-3 c", "/* ", "@'a''b'",
		"{ 'a' 'secret' }", "import 'x' + 'y'", "\xff\xfe", "assert", "1e", "$", "super.x", "function(a, a) a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		limits := Limits{}.withDefaults()
		j := &job{ctx: t.Context(), limits: limits, dir: "."}
		j.src = newSource(t.Context(), memtree.New(map[string]string{"a b.jsonnet": text}), limits)
		i, err := j.newImporter()
		if err != nil {
			t.Fatal(err)
		}
		vm := jsonnet.MakeVM()
		vm.Importer(i)
		_, _, err = vm.ImportAST("", "a b.jsonnet")
		if err == nil {
			return
		}
		e := asError(j.jsonnetError("a b.jsonnet", err, i))
		if e == nil || e.Msg == "" || e.Path != "a b.jsonnet" {
			t.Fatalf("%v became %+v", err, e)
		}
		if e.Line < 1 || e.Line > strings.Count(text, "\n")+1 {
			t.Fatalf("line %d of %d: %v", e.Line, strings.Count(text, "\n")+1, err)
		}
	})
}
