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
	added map[core.Dialect]*index
	// argo are those that are shipped, for Argo CD's dialect. Flux has kstatus.
	argo *index
}

//go:embed rules/*.yaml
var ruleFiles embed.FS

// shipped is the table of the rules that Fairway comes with alone. All others
// share its rules. It costs nothing before somebody asks for it.
var shipped = sync.OnceValues(func() (*Table, error) {
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
	_, indexes, err := l.read(files, core.ArgoCD)
	if err != nil {
		return nil, fmt.Errorf("the shipped health rules: %w", err)
	}
	return &Table{argo: indexes[core.ArgoCD]}, nil
})

// New is a table of the rules that are shipped and those of files. All faults
// of files are in the error, each with its place.
func New(files ...File) (*Table, error) {
	base, err := shipped()
	if err != nil || len(files) == 0 {
		return base, err
	}
	l, err := newLanguage()
	if err != nil {
		return nil, err
	}
	rules, indexes, err := l.read(files, core.ArgoCD, core.Flux)
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, r := range rules {
		faults = append(faults, r.compile())
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return &Table{added: indexes, argo: base.argo}, nil
}

// Of is a Func: the health of a live object by the dialect's rules. Rules that
// were added go first, then those of the dialect, and for a kind that has none
// its status tells: observedGeneration and the usual conditions (Ready,
// Reconciling, Stalled); without them it is Healthy.
func (t *Table) Of(d core.Dialect, obj *unstructured.Unstructured) (core.Health, string) {
	gvk := obj.GroupVersionKind()
	if r := t.added[d].find(gvk.GroupKind()); r.appliesTo(obj) {
		return byRule(r, obj)
	}
	if d == core.Flux {
		return byStatus(obj)
	}
	builtin := argoBuiltin(gvk)
	var r *rule
	if builtin == nil {
		r = t.argo.find(gvk.GroupKind())
	}
	switch {
	case r.appliesTo(obj):
		return byRule(r, obj)
	case obj.GetDeletionTimestamp() != nil && gvk.Kind != "CustomResourceDefinition":
		return core.Progressing, pendingDeletion(obj)
	case builtin == nil:
		return byStatus(obj)
	}
	h, msg, err := builtin(obj)
	if err != nil {
		return core.Unknown, err.Error()
	}
	return h, msg
}

// appliesTo is whether there is a rule, and it is for obj as it is.
func (r *rule) appliesTo(obj *unstructured.Unstructured) bool {
	return r != nil && (r.spec.Deletion || obj.GetDeletionTimestamp() == nil)
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

func (g *glob) matches(gk schema.GroupKind) bool {
	return matches(g.group, gk.Group) && matches(g.kind, gk.Kind)
}

func matches(pattern, name string) bool {
	if !strings.ContainsAny(pattern, meta) {
		return pattern == name
	}
	// The pattern was checked when it was read.
	ok, _ := path.Match(pattern, name)
	return ok
}

// meta are the characters that make a name a pattern.
const meta = `*?[\`

func (x *index) find(gk schema.GroupKind) *rule {
	if x == nil {
		return nil
	}
	if r, ok := x.exact[gk]; ok {
		return r
	}
	for i := range x.globs {
		if x.globs[i].matches(gk) {
			return x.globs[i].rule
		}
	}
	return nil
}

func (x *index) add(kind string, r *rule) error {
	group, name := splitKind(kind)
	if strings.ContainsAny(kind, meta) {
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
// which a kind has one rule. Those that name no dialect are of all given.
func (l *language) read(files []File, all ...core.Dialect) ([]*rule, map[core.Dialect]*index, error) {
	var rules []*rule
	indexes := map[core.Dialect]*index{}
	var faults []error
	for _, f := range files {
		doc, err := f.parse()
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for i := range doc.Rules {
			r := &rule{spec: &doc.Rules[i], language: l, at: fmt.Sprintf("%s: rule %d (%s)", f.Name, i+1, doc.Rules[i].Kinds[0])}
			rules = append(rules, r)
			of := all
			if d, ok := dialects[r.spec.Dialect]; ok {
				of = []core.Dialect{d}
			}
			for _, d := range of {
				if indexes[d] == nil {
					indexes[d] = &index{exact: map[schema.GroupKind]*rule{}}
				}
				for _, kind := range r.spec.Kinds {
					if err := indexes[d].add(kind, r); err != nil {
						faults = append(faults, err)
					}
				}
			}
		}
	}
	return rules, indexes, errors.Join(faults...)
}
