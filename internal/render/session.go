package render

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/fairway-cd/fairway/internal/core"
)

// What is sent ahead with the first question about a directory.
const (
	bundleEntries = 256       // no bundle for a directory with more
	bundleFiles   = 32        // no contents in one with more files worth it
	bundleFile    = 32 << 10  // no content that is longer
	bundleBytes   = 256 << 10 // all contents together
)

// session answers a worker's questions about the trees of one request, and
// remembers the answers, to check by them what the worker says it has read.
type session struct {
	ctx    context.Context
	trees  map[string]core.Tree
	limits Limits

	// find answers lookups; nil where there are none to be.
	find    func(context.Context, Lookup) (map[string]any, error)
	lookups int
	queries int
	bytes   int64
	entries map[[2]string]*core.TreeEntry // nil: not there
	dirs    map[[2]string]string          // the listing's hash
	large   map[[2]string]bool            // directories too large to be sent ahead
	// decrypter is the request's, and decrypted whether it had something to do.
	decrypter Decrypter
	decrypted bool
	// failure is why a tree could not be read, which is no fault of the
	// source's.
	failure error
}

func newSession(ctx context.Context, req Request, limits Limits) *session {
	s := &session{
		ctx: ctx, trees: req.trees(), limits: limits, decrypter: req.Decrypt,
		entries: map[[2]string]*core.TreeEntry{}, dirs: map[[2]string]string{},
		large: map[[2]string]bool{},
	}
	if req.looksUp() {
		s.find = req.Release.Lookup
	}
	return s
}

// answer answers one question. An error means that the worker is not to be
// trusted any more.
func (s *session) answer(q *queryMessage) (*answerMessage, error) {
	if q.Lookup != nil {
		return s.lookup(q.Lookup)
	}
	tree := s.trees[q.Source]
	if tree == nil || !isClean(q.Path) {
		return nil, fmt.Errorf("the worker asks for %q in the source %q", q.Path, q.Source)
	}
	// An honest worker stops at its own limits before these.
	if s.queries++; s.queries > 8*s.limits.MaxFiles {
		return nil, fmt.Errorf("the worker asks more than %d questions", 8*s.limits.MaxFiles)
	}
	a := &answerMessage{}
	var err error
	if q.Op == opDecrypt && s.decrypter != nil {
		err = s.decrypt(tree, q, a)
	} else {
		err = s.ask(tree, q, a)
	}
	var tooLarge *core.TooLargeError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.entries[[2]string{q.Source, q.Path}] = nil
		a.NotExist = true
	case errors.As(err, &tooLarge):
		a.TooLarge = tooLarge
	case err != nil:
		s.failure, a.Failed = err, true
		return a, nil
	}
	if q.Op == opEntry {
		a.Bundles = s.sendAhead(tree, q, a.Entry)
	}
	if s.bytes > 4*s.limits.MaxInputBytes {
		return nil, fmt.Errorf("the worker reads more than %d bytes", 4*s.limits.MaxInputBytes)
	}
	return a, nil
}

func (s *session) ask(tree core.Tree, q *queryMessage, a *answerMessage) error {
	id := [2]string{q.Source, q.Path}
	switch q.Op {
	case opEntry:
		entry, err := tree.Entry(s.ctx, q.Path)
		if err == nil {
			a.Entry, s.entries[id] = &entry, &entry
		}
		return err
	case opList:
		list, err := tree.List(s.ctx, q.Path)
		if err == nil {
			s.listed(q.Source, q.Path, list)
			a.List = list
		}
		return err
	default:
		entry, err := tree.Entry(s.ctx, q.Path)
		if err != nil {
			return err
		}
		s.entries[id] = &entry
		if entry.Size > s.limits.MaxFileBytes {
			return &core.TooLargeError{What: q.Path, Size: entry.Size, Limit: s.limits.MaxFileBytes}
		}
		a.Content, err = tree.Read(s.ctx, q.Path)
		if n := int64(len(a.Content)); n > s.limits.MaxFileBytes {
			a.Content = nil
			return &core.TooLargeError{What: q.Path, Size: n, Limit: s.limits.MaxFileBytes}
		}
		s.bytes += int64(len(a.Content))
		return err
	}
}

func (s *session) listed(source, dir string, list []core.TreeEntry) {
	s.dirs[[2]string{source, dir}] = listingHash(list)
	for i := range list {
		s.entries[[2]string{source, path.Join(dir, list[i].Name)}] = &list[i]
	}
}

// sendAhead bundles the directory that is asked about: the entry itself where
// it is one, or else the one that it is in.
func (s *session) sendAhead(tree core.Tree, q *queryMessage, entry *core.TreeEntry) []bundle {
	dir := path.Dir(q.Path)
	if entry != nil && entry.Mode.IsDir() {
		dir = q.Path
	}
	id := [2]string{q.Source, dir}
	if _, sent := s.dirs[id]; sent || s.large[id] {
		return nil
	}
	list, err := tree.List(s.ctx, dir)
	if err != nil {
		return nil // what is wrong will be seen when it is asked for
	}
	if len(list) > bundleEntries {
		s.large[id] = true
		return nil
	}
	list = slices.Clone(list) // the worker searches in it
	slices.SortFunc(list, func(a, b core.TreeEntry) int { return strings.Compare(a.Name, b.Name) })
	s.listed(q.Source, dir, list)
	b := bundle{Dir: dir, Entries: list, Files: map[string][]byte{}}
	var wanted []string
	for _, e := range list {
		if e.Mode.IsRegular() && e.Size <= bundleFile && worthSending(e.Name) {
			wanted = append(wanted, e.Name)
		}
	}
	if len(wanted) > bundleFiles {
		wanted = nil
	}
	total := 0
	for _, name := range wanted {
		content, err := tree.Read(s.ctx, path.Join(dir, name))
		if err != nil || len(content) > bundleFile || total+len(content) > bundleBytes {
			continue
		}
		total += len(content)
		b.Files[name] = content
	}
	s.bytes += int64(total)
	return []bundle{b}
}

// worthSending says whether tools are likely to read a file of this name.
func worthSending(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".tpl", ".json", ".env", ".properties", ".jsonnet", ".libsonnet":
		return true
	}
	return isKustomizationName(name) || name == ".helmignore" || name == "NOTES.txt"
}

// verify says whether what a worker claims to have read is what it was sent.
func (s *session) verify(inputs []Input) error {
	for _, in := range inputs {
		if !s.served(in) {
			return fmt.Errorf("the worker claims to have read %s %s, which it was not sent", in.Kind, in.Path)
		}
	}
	return nil
}

func (s *session) served(in Input) bool {
	if in.Kind == InputDirectory {
		hash, ok := s.dirs[[2]string{in.Source, in.Path}]
		return ok && hash == in.Hash
	}
	entry, known := s.entries[[2]string{in.Source, in.Path}]
	if !known {
		// Not there, by the listing of a directory that was sent.
		_, listed := s.dirs[[2]string{in.Source, path.Dir(in.Path)}]
		known = listed
	}
	switch {
	case !known:
		return false
	case in.Kind == InputMissing:
		return entry == nil
	case entry == nil:
		return false
	case in.Kind == InputType:
		return typeOf(entry.Mode) == in.Hash
	default:
		return in.Kind == InputFile && entry.Hash == in.Hash
	}
}

// isClean says whether p is a path as core.Tree defines it.
func isClean(p string) bool {
	return p != "" && path.Clean(p) == p && !path.IsAbs(p) && p != ".." &&
		!strings.HasPrefix(p, "../") && !strings.ContainsRune(p, 0)
}
