package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"runtime/debug"
	"sort"
	"time"
	_ "time/tzdata" // a worker cannot open the machine's files

	"k8s.io/apimachinery/pkg/util/json"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/footprint"
)

// WorkerCommand is the first argument with which a program runs ServeWorker,
// by convention.
const WorkerCommand = "render-worker"

// maxStack makes endless recursion end early; a runtime that overflows it ends
// the process.
const maxStack = 64 << 20

// ServeWorker renders what a Pool sends on in and answers on out, until in
// ends; it runs the programs that the pool calls. It restricts the whole
// process for good (no network, no program of the machine, no file), so it is
// all that a process does.
func ServeWorker(ctx context.Context, in io.Reader, out io.Writer, programs ...Program) error {
	os.Clearenv() // kustomize looks up in it what an env file gives no value
	debug.SetMaxStack(maxStack)
	time.Local = time.UTC
	http.DefaultTransport = refuseTransport{}
	hello := &helloMessage{Limits: limitProcess() == nil}
	warmUp(ctx)
	idle := footprint.Own()
	hello.Seccomp = restrictCalls() == nil
	go idle.Keep(ctx)
	c := newConn(in, out, maxWorkerFrame)
	if err := c.send(&toPool{Hello: hello}); err != nil {
		return fmt.Errorf("greet the pool: %w", err)
	}
	for {
		var m toWorker
		err := c.receive(&m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive a job: %w", err)
		}
		var answer toPool
		switch {
		case m.Call != nil:
			answer.Return = m.Call.run(ctx, programs)
		case m.Job != nil:
			answer.Done = work(ctx, c, m.Job)
		default:
			return errors.New("receive a job: there is none in the message")
		}
		if err := c.send(&answer); err != nil {
			return fmt.Errorf("send the result: %w", err)
		}
	}
}

// maxWorkerFrame bounds what a worker sends and receives. The pool has a limit
// of its own for what it receives.
const maxWorkerFrame = 1 << 30

// work renders one job.
func work(ctx context.Context, c *conn, m *jobMessage) *doneMessage {
	req := Request{
		Tree: newRemoteTree(c, ""), Refs: map[string]core.Tree{}, Path: m.Path,
		Tool: m.Tool, Plain: m.Plain, Kustomize: m.Kustomize, Helm: m.Helm,
	}
	if m.Release != nil {
		req.Release = &ReleaseOptions{Revision: m.Release.Revision, Upgrade: m.Release.Upgrade}
		if m.Release.Finds {
			req.Release.Lookup = lookupRemotely(c)
		}
	}
	if m.Decrypt {
		req.Decrypt = &remoteDecrypter{newRemoteTree(c, "")}
	}
	for _, name := range m.Refs {
		req.Refs[name] = newRemoteTree(c, name)
	}
	done := &doneMessage{}
	result, err := NewEngine(m.Limits).Render(ctx, req)
	if err == nil {
		done.Objects, err = encodeObjects(result, m.Limits.MaxOutputBytes)
	}
	if err != nil {
		done.setError(err)
		return done
	}
	done.Release = result.Release
	done.Tool, done.Uncacheable, done.Inputs = result.Tool, result.Uncacheable, result.Inputs
	done.Warnings, done.Took, done.ClearSecrets = result.Warnings, result.Took, result.ClearSecrets
	return done
}

func encodeObjects(result *Result, limit int64) ([][]byte, error) {
	objects := make([][]byte, len(result.Objects))
	var size int64
	for i, o := range result.Objects {
		data, err := json.Marshal(o.Object)
		if err != nil {
			return nil, NewError(InvalidObject, "", 0, "%s %s cannot be encoded", o.GetKind(), o.GetName())
		}
		if size += int64(len(data)); size > limit {
			return nil, NewError(LimitExceeded, "", 0, "the objects have more than %d bytes", limit)
		}
		objects[i] = data
	}
	return objects, nil
}

// warmUp renders once with each tool, so that the first job finds their tables
// built.
func warmUp(ctx context.Context) {
	tree := memtree.New(map[string]string{
		"k/kustomization.yaml": "resources: [a.yaml]\nnamePrefix: x-\nimages: [{name: a, newTag: b}]\n",
		"k/a.yaml":             "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: {containers: [{name: a, image: a}]}}}\n",
		"h/Chart.yaml":         "apiVersion: v2\nname: h\nversion: 0.1.0\n",
		"h/templates/a.yaml":   "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n",
	})
	engine := NewEngine(Limits{})
	for _, dir := range []string{"k", "h"} {
		if _, err := engine.Render(ctx, Request{Tree: tree, Path: dir}); err != nil {
			panic(err) // our own constants
		}
	}
}

// refuseTransport is the network of a worker.
type refuseTransport struct{}

func (refuseTransport) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("rendering has no network")
}

// remoteTree is a tree that the pool holds. It asks for what the pool has not
// sent ahead.
type remoteTree struct {
	conn    *conn
	source  string
	bundles map[string]*remoteDir
}

type remoteDir struct {
	entries []core.TreeEntry // sorted by name
	files   map[string][]byte
}

var _ core.Tree = (*remoteTree)(nil)

func newRemoteTree(c *conn, source string) *remoteTree {
	return &remoteTree{conn: c, source: source, bundles: map[string]*remoteDir{}}
}

func (d *remoteDir) find(name string) *core.TreeEntry {
	i := sort.Search(len(d.entries), func(i int) bool { return d.entries[i].Name >= name })
	if i < len(d.entries) && d.entries[i].Name == name {
		return &d.entries[i]
	}
	return nil
}

// Entry implements core.Tree.
func (t *remoteTree) Entry(_ context.Context, p string) (core.TreeEntry, error) {
	if dir := t.bundles[path.Dir(p)]; dir != nil && p != "." {
		if e := dir.find(path.Base(p)); e != nil {
			return *e, nil
		}
		return core.TreeEntry{}, notExist(p)
	}
	a, err := t.ask(opEntry, p)
	if err != nil {
		return core.TreeEntry{}, err
	}
	if a.Entry == nil {
		return core.TreeEntry{}, errNoAnswer
	}
	return *a.Entry, nil
}

// List implements core.Tree.
func (t *remoteTree) List(_ context.Context, p string) ([]core.TreeEntry, error) {
	if dir := t.bundles[p]; dir != nil {
		return dir.entries, nil
	}
	a, err := t.ask(opList, p)
	if err != nil {
		return nil, err
	}
	return a.List, nil
}

// Read implements core.Tree.
func (t *remoteTree) Read(_ context.Context, p string) ([]byte, error) {
	if dir := t.bundles[path.Dir(p)]; dir != nil {
		if content, ok := dir.files[path.Base(p)]; ok {
			return content, nil
		}
	}
	a, err := t.ask(opRead, p)
	if err != nil {
		return nil, err
	}
	return a.Content, nil
}

var errNoAnswer = errors.New("the pool did not answer the question")

func (t *remoteTree) ask(op queryOp, p string) (*answerMessage, error) {
	return t.query(&queryMessage{Op: op, Source: t.source, Path: p})
}

func (t *remoteTree) query(q *queryMessage) (*answerMessage, error) {
	if err := t.conn.send(&toPool{Query: q}); err != nil {
		return nil, fmt.Errorf("ask the pool: %w", err)
	}
	var m toWorker
	if err := t.conn.receive(&m); err != nil {
		return nil, fmt.Errorf("ask the pool: %w", err)
	}
	a := m.Answer
	switch {
	case a == nil || a.Failed:
		return nil, errNoAnswer
	case a.TooLarge != nil:
		return nil, a.TooLarge
	}
	for _, b := range a.Bundles {
		t.bundles[b.Dir] = &remoteDir{entries: b.Entries, files: b.Files}
	}
	if a.NotExist {
		return nil, notExist(q.Path)
	}
	return a, nil
}
