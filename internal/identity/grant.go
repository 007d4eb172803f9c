package identity

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fairway-cd/fairway/internal/core"
)

// Grant is something that a robot may do, as people write it:
//
//	[KIND:]VERB:NAME
//
// KIND is "repo" or "image", or left out for both. VERB is "pull", "push",
// "create" or "delete"; each of the last three includes "pull", and "create"
// includes "push". NAME is NAME, NAMESPACE/NAME, or "*" in place of NAME for
// all of a namespace.
type Grant struct {
	Kind Kind
	Verb Verb
	// Name's Name is "*" for all of its namespace.
	Name core.Name
}

// Kind is what a grant is about.
type Kind string

// The kinds; KindBoth is written as nothing.
const (
	KindBoth  Kind = ""
	KindRepo  Kind = "repo"
	KindImage Kind = "image"
)

// Verb is what a grant allows.
type Verb string

// The verbs.
const (
	VerbPull   Verb = "pull"
	VerbPush   Verb = "push"
	VerbCreate Verb = "create"
	VerbDelete Verb = "delete"
)

// grantVerbs are RBAC's words for ours. An image repository is made by its
// first push, so there "create" is "push".
var grantVerbs = map[Kind]map[Verb][]string{
	KindRepo: {
		VerbPull:   {"get"},
		VerbPush:   {"get", "update"},
		VerbCreate: {"create", "get", "update"},
		VerbDelete: {"delete", "get"},
	},
	KindImage: {
		VerbPull:   {"get"},
		VerbPush:   {"get", "update"},
		VerbCreate: {"get", "update"},
		VerbDelete: {"delete", "get"},
	},
}

// meant are words that people try, and ours for them.
var meant = map[string]Verb{
	"fetch": VerbPull, "clone": VerbPull, "read": VerbPull, "get": VerbPull,
	"write": VerbPush, "update": VerbPush,
}

const allNames = "*"

// GrantError says why a text is not a Grant.
type GrantError struct {
	Text, Reason string
}

func (e *GrantError) Error() string { return fmt.Sprintf("grant %q: %s", e.Text, e.Reason) }

// Hint implements core.Hinted.
func (e *GrantError) Hint() string {
	return "a grant is [repo:|image:]VERB:NAME with VERB pull, push, create or delete, such as push:web-app or image:pull:team-a/*"
}

// ParseGrant reads a grant. A name without a namespace is in the given one.
// Errors are *GrantError.
func ParseGrant(text, namespace string) (Grant, error) {
	refuse := func(format string, args ...any) (Grant, error) {
		return Grant{}, &GrantError{Text: text, Reason: fmt.Sprintf(format, args...)}
	}
	parts := strings.Split(text, ":")
	var g Grant
	switch len(parts) {
	case 2:
	case 3:
		g.Kind = Kind(parts[0])
		if g.Kind != KindRepo && g.Kind != KindImage {
			return refuse("%q is no kind: want repo or image", parts[0])
		}
		parts = parts[1:]
	default:
		return refuse("want VERB:NAME")
	}
	g.Verb = Verb(parts[0])
	if grantVerbs[KindRepo][g.Verb] == nil {
		if ours, ok := meant[parts[0]]; ok {
			return refuse("the verb for that is %q", ours)
		}
		return refuse("%q is no verb: want pull, push, create or delete", parts[0])
	}
	name, err := parseGrantName(parts[1], namespace)
	if err != nil {
		return refuse("%v", err)
	}
	g.Name = name
	switch {
	case g.Kind == KindImage && g.Verb == VerbCreate:
		return refuse("an image repository is made by its first push: want image:push:%s", parts[1])
	case g.Kind != KindImage && strings.Contains(name.Name, "/"):
		return refuse("only an image's name has more than two parts: want image:%s:%s", g.Verb, parts[1])
	}
	return g, nil
}

func parseGrantName(text, namespace string) (core.Name, error) {
	if text == allNames {
		text = namespace + "/" + text
	}
	if ns, ok := strings.CutSuffix(text, "/"+allNames); ok {
		if len(validation.IsDNS1123Label(ns)) > 0 {
			return core.Name{}, fmt.Errorf("%q is no namespace", ns)
		}
		return core.Name{Namespace: ns, Name: allNames}, nil
	}
	if !strings.Contains(text, "/") {
		text = namespace + "/" + text
	}
	name, err := core.ParseName(text)
	if err != nil {
		return core.Name{}, err
	}
	if len(validation.IsDNS1123Label(name.Namespace)) > 0 {
		return core.Name{}, fmt.Errorf("%q is no namespace", name.Namespace)
	}
	return name, nil
}

// ParseGrants reads several, and sorts and folds them.
func ParseGrants(texts []string, namespace string) ([]Grant, error) {
	var grants []Grant
	for _, text := range texts {
		g, err := ParseGrant(text, namespace)
		if err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	slices.SortFunc(grants, func(a, b Grant) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(grants), nil
}

// String is the canonical form, always with the namespace.
func (g Grant) String() string {
	s := string(g.Verb) + ":" + g.Name.String()
	if g.Kind != KindBoth {
		s = string(g.Kind) + ":" + s
	}
	return s
}

// rules are the grant in RBAC's words, in its name's namespace.
func (g Grant) rules() []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, k := range []struct {
		kind     Kind
		resource string
	}{{KindRepo, core.ResourceRepositories}, {KindImage, core.ResourceImages}} {
		if g.Kind != KindBoth && g.Kind != k.kind {
			continue
		}
		rule := rbacv1.PolicyRule{
			APIGroups: []string{core.Group},
			Resources: []string{k.resource},
			Verbs:     grantVerbs[k.kind][g.Verb],
		}
		if g.Name.Name != allNames {
			rule.ResourceNames = []string{g.Name.Name}
		}
		rules = append(rules, rule)
	}
	return rules
}
