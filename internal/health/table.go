package health

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairway-cd/fairway/internal/core"
)

// Table is what is known of the health of kinds: the rules that are shipped,
// and those that somebody added, which go before them. It does not change and
// is safe for concurrent use.
type Table struct {
	added   map[core.Dialect]*index
	shipped map[core.Dialect]*index
}

//go:embed rules/*.yaml
var ruleFiles embed.FS

// shipped are the rules that Fairway comes with, and the language that they are
// written in. Both are the same for all tables and cost nothing before somebody
// asks for the health of a kind.
var shipped = sync.OnceValues(func() (map[core.Dialect]*index, error) {
	dir, err := fs.Sub(ruleFiles, "rules")
	if err != nil {
		return nil, err
	}
	files, err := ReadFiles(dir)
	if err != nil {
		return nil, err
	}
	l, err := newLanguage()
	if err != nil {
		return nil, err
	}
	_, rules, err := l.read(files)
	return rules, err
})

// New is a table of the rules that are shipped and those of files. All faults
// of files are in the error, each with its place.
func New(files ...File) (*Table, error) {
	base, err := shipped()
	if err != nil {
		return nil, fmt.Errorf("read the shipped health rules: %w", err)
	}
	t := &Table{shipped: base}
	if len(files) == 0 {
		return t, nil
	}
	l, err := newLanguage()
	if err != nil {
		return nil, err
	}
	rules, added, err := l.read(files)
	if err != nil {
		return nil, err
	}
	t.added = added
	var faults []error
	for _, r := range rules {
		faults = append(faults, r.compile())
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return t, nil
}

// Of is a Func: the health of a live object by the dialect's rules. Rules that
// were added go first, then those of the dialect, and for a kind that has none
// its status tells: observedGeneration and the usual conditions (Ready,
// Reconciling, Stalled); without them it is Healthy.
func (t *Table) Of(d core.Dialect, obj *unstructured.Unstructured) (core.Health, string) {
	gvk := obj.GroupVersionKind()
	r := t.added[d].find(gvk.GroupKind())
	if d == core.Flux {
		if r == nil || obj.GetDeletionTimestamp() != nil && !r.spec.Deletion {
			return byStatus(obj)
		}
		return byRule(r, obj)
	}
	var builtin builtin
	if r == nil {
		if builtin = argoBuiltin(gvk); builtin == nil {
			r = t.shipped[d].find(gvk.GroupKind())
		}
	}
	if obj.GetDeletionTimestamp() != nil && !(r != nil && r.spec.Deletion) && gvk.Kind != "CustomResourceDefinition" {
		return core.Progressing, pendingDeletion(obj)
	}
	switch {
	case r != nil:
		return byRule(r, obj)
	case builtin != nil:
		h, msg, err := builtin(obj)
		if err != nil {
			return core.Unknown, err.Error()
		}
		return h, msg
	}
	return byStatus(obj)
}

// pendingDeletion says what an object that is being deleted waits for.
func pendingDeletion(obj *unstructured.Unstructured) string {
	if finalizers := obj.GetFinalizers(); len(finalizers) > 0 {
		return shorten("Pending deletion; blocked by finalizers: "+strings.Join(finalizers, ", "), maxMessage)
	}
	return "Pending deletion"
}

// byRule is what the rule says, or the object's status where the rule says
// nothing. A rule that cannot be evaluated leaves the health Unknown.
func byRule(r *rule, obj *unstructured.Unstructured) (core.Health, string) {
	v, ok, err := r.judge(obj.Object)
	if err != nil {
		return core.Unknown, "health rule " + err.Error()
	}
	if !ok {
		return byStatus(obj)
	}
	return v.health, v.message
}

// index finds the rule of a kind.
type index struct {
	exact map[schema.GroupKind]*rule
	// globs are in the order in which they are tried.
	globs []glob
}

type glob struct {
	group, kind string
	rule        *rule
}

func (x *index) find(gk schema.GroupKind) *rule {
	if x == nil {
		return nil
	}
	if r, ok := x.exact[gk]; ok {
		return r
	}
	for _, g := range x.globs {
		// The patterns were checked when they were read.
		if ok, _ := path.Match(g.group, gk.Group); !ok {
			continue
		}
		if ok, _ := path.Match(g.kind, gk.Kind); ok {
			return g.rule
		}
	}
	return nil
}

func (x *index) add(kind string, r *rule) error {
	group, name := splitKind(kind)
	if strings.ContainsAny(kind, `*?[\`) {
		x.globs = append(x.globs, glob{group, name, r})
		return nil
	}
	gk := schema.GroupKind{Group: group, Kind: name}
	if other, ok := x.exact[gk]; ok {
		return fmt.Errorf("%s: %s has a rule already, %s", r.at, kind, other.at)
	}
	x.exact[gk] = r
	return nil
}

// read returns the rules of files, and an index of them for each dialect, in
// which a kind has one rule.
func (l *language) read(files []File) ([]*rule, map[core.Dialect]*index, error) {
	var rules []*rule
	all := map[core.Dialect]*index{}
	var faults []error
	for _, f := range files {
		doc, err := f.parse()
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for i := range doc.Rules {
			r := &rule{spec: &doc.Rules[i], language: l, at: fmt.Sprintf("%s: rule %d (%s)", f.Name, i+1, doc.Rules[i].Kinds[0])}
			dialects, err := r.spec.dialects()
			if err != nil {
				return nil, nil, err
			}
			rules = append(rules, r)
			for _, d := range dialects {
				if all[d] == nil {
					all[d] = &index{exact: map[schema.GroupKind]*rule{}}
				}
				for _, kind := range r.spec.Kinds {
					if err := all[d].add(kind, r); err != nil {
						faults = append(faults, err)
					}
				}
			}
		}
	}
	return rules, all, errors.Join(faults...)
}
