package health

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

const (
	// maxFile is the size of the largest file of rules, in bytes: what a
	// ConfigMap may hold.
	maxFile = 1 << 20
	// maxFiles is how many files a directory of rules may have.
	maxFiles = 500
	// maxDepth is how deep cases may be nested.
	maxDepth = 8
)

// File is one file of rules, as docs/spec/health.md describes it.
type File struct {
	// Name is for messages.
	Name string
	Text []byte
}

// FilesOf are the files in a ConfigMap's data, in the order of their names.
func FilesOf(data map[string]string) []File {
	var files []File
	for _, name := range slices.Sorted(maps.Keys(data)) {
		files = append(files, File{Name: name, Text: []byte(data[name])})
	}
	return files
}

// ReadFiles reads the files of rules in a directory and those below it: all
// that end in .yaml, in the order of their paths, but for hidden directories.
// Links are followed: in a mounted ConfigMap, files are links into a hidden one.
func ReadFiles(dir fs.FS) ([]File, error) {
	var files []File
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".yaml":
			return nil
		}
		if info, err := fs.Stat(dir, name); err != nil || !info.Mode().IsRegular() {
			return err
		}
		if len(files) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		f, err := dir.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		if err != nil {
			return err
		}
		files = append(files, File{Name: name, Text: text})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read health rules: %w", err)
	}
	return files, nil
}

// document is what a file holds.
type document struct {
	// Source says where the file's rules come from, for people.
	Source string     `json:"source"`
	Rules  []ruleSpec `json:"rules"`
}

// ruleSpec is a rule as it is written.
type ruleSpec struct {
	// Source is of this rule alone.
	Source string `json:"source"`
	// Kinds are GROUP/KIND, or KIND of the core group; both may have * in it.
	Kinds []string `json:"kinds"`
	// Dialect is argocd or flux; a rule without is for both.
	Dialect string `json:"dialect"`
	// Deletion is for a rule that has something to say of objects that are
	// being deleted. Without, they are Progressing.
	Deletion bool              `json:"deletion"`
	Let      map[string]string `json:"let"`
	Cases    []caseSpec        `json:"cases"`
}

// caseSpec is a case as it is written: one that says the health, or one that
// has further cases.
type caseSpec struct {
	Let     map[string]string `json:"let"`
	Each    string            `json:"each"`
	As      string            `json:"as"`
	When    string            `json:"when"`
	Health  core.Health       `json:"health"`
	Message string            `json:"message"`
	Text    string            `json:"text"`
	Cases   []caseSpec        `json:"cases"`
}

// parse reads a file and checks its form, but not its expressions.
func (f File) parse() (*document, error) {
	if len(f.Text) > maxFile {
		return nil, fmt.Errorf("%s: is larger than %d bytes", f.Name, maxFile)
	}
	var d document
	if err := yaml.UnmarshalStrict(f.Text, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	for i := range d.Rules {
		if err := d.Rules[i].check(); err != nil {
			return nil, fmt.Errorf("%s: rule %d: %w", f.Name, i+1, err)
		}
	}
	return &d, nil
}

func (r *ruleSpec) check() error {
	if len(r.Kinds) == 0 {
		return errors.New("kinds: needs at least one GROUP/KIND")
	}
	for _, kind := range r.Kinds {
		group, name := splitKind(kind)
		for _, part := range []string{group, name} {
			if _, err := path.Match(part, ""); err != nil || strings.Contains(part, "/") {
				return fmt.Errorf("kinds: %q is not GROUP/KIND", kind)
			}
		}
		if name == "" {
			return fmt.Errorf("kinds: %q has no kind", kind)
		}
	}
	if _, ok := dialects[r.Dialect]; !ok && r.Dialect != "" {
		return fmt.Errorf("dialect: %q is neither argocd nor flux", r.Dialect)
	}
	if err := checkNames(r.Let); err != nil {
		return err
	}
	return checkCases(r.Cases, 1)
}

// splitKind takes GROUP/KIND apart.
func splitKind(s string) (group, kind string) {
	if i := strings.LastIndexByte(s, '/'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return "", s
}

// dialects are those that a rule can be of, as files name them.
var dialects = map[string]core.Dialect{"argocd": core.ArgoCD, "flux": core.Flux}

func checkCases(cases []caseSpec, depth int) error {
	if len(cases) == 0 {
		return errors.New("cases: needs at least one")
	}
	if depth > maxDepth {
		return fmt.Errorf("cases: nested more than %d deep", maxDepth)
	}
	for i := range cases {
		if err := cases[i].check(depth); err != nil {
			return fmt.Errorf("case %d: %w", i+1, err)
		}
	}
	return nil
}

func (c *caseSpec) check(depth int) error {
	if err := checkNames(c.Let); err != nil {
		return err
	}
	if c.As != "" {
		if c.Each == "" {
			return errors.New("as: has no each")
		}
		if err := checkName(c.As); err != nil {
			return fmt.Errorf("as: %w", err)
		}
	}
	if len(c.Cases) > 0 {
		if c.Health != "" || c.Message != "" || c.Text != "" {
			return errors.New("has both a health and further cases")
		}
		return checkCases(c.Cases, depth+1)
	}
	if !slices.Contains(healths, c.Health) {
		return fmt.Errorf("health: %q is none of %v", c.Health, healths)
	}
	if c.Message != "" && c.Text != "" {
		return errors.New("has both a message and a text")
	}
	return nil
}

func checkNames(let map[string]string) error {
	for name := range let {
		if err := checkName(name); err != nil {
			return fmt.Errorf("let: %w", err)
		}
	}
	return nil
}

func checkName(name string) error {
	if ok, _ := regexp.MatchString(`^[a-z][A-Za-z0-9]{0,39}$`, name); !ok {
		return fmt.Errorf("%q is not a name: letters and digits, a small letter first", name)
	}
	if slices.Contains(names, name) || slices.Contains(reserved, name) {
		return fmt.Errorf("the name %q is taken", name)
	}
	return nil
}

// reserved are CEL's own words and the names of its types.
var reserved = []string{
	"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
	"namespace", "null", "package", "return", "true", "var", "void", "while",
	"bool", "bytes", "double", "dyn", "duration", "int", "list", "map", "optional", "string", "timestamp", "type", "uint",
}
