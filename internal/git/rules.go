package git

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

// Rule has one URL, or everything below one, served from somewhere else, as
// Git's url.<base>.insteadOf does.
type Rule struct {
	// From is a repository's URL or the beginning of some ("https://host/org").
	// It stands for all forms of that URL: https, ssh and scp, with or without
	// ".git".
	From string `json:"from"`
	// To is an embedded repository, NAME or NAMESPACE/NAME, or another URL.
	// What a matched URL has beyond From is appended: with To "team", org/web
	// is repository web of namespace team.
	To string `json:"to"`
}

// Rules are the mirror rules of a Store, kept in a file of their own.
type Rules struct {
	path string

	mu    sync.RWMutex
	rules []Rule // sorted by From
}

type rulesFile struct {
	Rules []Rule `json:"rules"`
}

// loadRules reads the rules at path; there may be none.
func loadRules(path string) (*Rules, error) {
	r := &Rules{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the mirror rules: %w", err)
	}
	var file rulesFile
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return nil, fmt.Errorf("reading the mirror rules: %w", err)
	}
	for _, rule := range file.Rules {
		if err := rule.check(); err != nil {
			return nil, fmt.Errorf("reading the mirror rules: %w", err)
		}
	}
	r.rules = file.Rules
	return r, nil
}

func (r Rule) check() error {
	if _, err := parsePrefix(r.From); err != nil {
		return err
	}
	if isURL(r.To) {
		_, err := parsePrefix(r.To)
		return err
	}
	name, err := core.ParseName(strings.TrimSuffix(r.To, ".git"))
	if err != nil {
		return err
	}
	return checkName(name)
}

// parsePrefix reads the beginning of URLs, which may be a host alone.
func parsePrefix(s string) (string, error) {
	u, err := parseRemote(strings.TrimSuffix(s, "/") + "/x")
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(u.key(), "/x"), ".git"), nil
}

func isURL(s string) bool { return strings.Contains(s, ":") }

// Add adds a rule, or replaces the one for the same URL. It is durable when
// Add returns. Errors: *InvalidURLError, *core.InvalidNameError.
func (r *Rules) Add(rule Rule) error {
	if err := rule.check(); err != nil {
		return err
	}
	return r.change(func(rules []Rule) []Rule { return append(without(rules, rule.From), rule) })
}

// Remove removes the rule for a URL and says whether there was one.
func (r *Rules) Remove(from string) (bool, error) {
	before := len(r.List())
	err := r.change(func(rules []Rule) []Rule { return without(rules, from) })
	return len(r.List()) < before, err
}

func without(rules []Rule, from string) []Rule {
	key, err := parsePrefix(from)
	if err != nil {
		return rules
	}
	return slices.DeleteFunc(rules, func(r Rule) bool {
		k, err := parsePrefix(r.From)
		return err == nil && k == key
	})
}

func (r *Rules) change(edit func([]Rule) []Rule) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	rules := edit(slices.Clone(r.rules))
	slices.SortFunc(rules, func(a, b Rule) int { return strings.Compare(a.From, b.From) })
	data, err := yaml.Marshal(rulesFile{Rules: rules})
	if err != nil {
		return fmt.Errorf("writing the mirror rules: %w", err)
	}
	if err := writeDurably(r.path, data, 0o600); err != nil {
		return err
	}
	r.rules = rules
	return nil
}

// List returns the rules, sorted by From.
func (r *Rules) List() []Rule {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.rules)
}

// Rewrite returns what the longest matching rule makes of a URL: an embedded
// repository's name or another URL. Without one it is false.
func (r *Rules) Rewrite(url string) (to string, ok bool) {
	u, err := parseRemote(url)
	if err != nil {
		return "", false
	}
	key := u.key()
	r.mu.RLock()
	defer r.mu.RUnlock()
	longest := -1
	for _, rule := range r.rules {
		from, err := parsePrefix(rule.From)
		if err != nil || len(from) <= longest {
			continue
		}
		rest, match := strings.CutPrefix(key, from)
		if !match || rest != "" && rest[0] != '/' {
			continue
		}
		longest = len(from)
		to = strings.TrimSuffix(rule.To, "/")
		if rest != "" {
			to = strings.TrimSuffix(to, ".git") + rest
		}
	}
	return to, longest >= 0
}
