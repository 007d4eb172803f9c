package appset

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

// Params is one set of parameters, of JSON's types alone: string, float64,
// bool, nil, []any and map[string]any. Without Go templates the values are
// strings, and the keys are paths ("path.basename").
type Params = map[string]any

// Inputs is what generators ask of the outside. Implementations say in their
// errors what is wrong, without secrets.
type Inputs interface {
	// Snapshot is a repository as it is at a revision.
	Snapshot(ctx context.Context, repoURL, revision string) (core.Snapshot, error)
	// Clusters are those that there are Secrets of, and this one.
	Clusters(ctx context.Context) ([]Cluster, error)
	// Repositories are those, with their branches, that the generator's
	// provider has and its filters let through.
	Repositories(ctx context.Context, gen *argo.SCMProviderGenerator) ([]Repository, error)
	// PullRequests are the open ones that the generator's filters let through.
	PullRequests(ctx context.Context, gen *argo.PullRequestGenerator) ([]PullRequest, error)
}

// Cluster is a cluster that Applications can be delivered to.
type Cluster struct {
	Name, Server, Project string
	Labels, Annotations   map[string]string
	// Secret says that a Secret describes it; the cluster that we run in needs
	// none, and then no selector finds it.
	Secret bool
}

// Repository is a branch of a repository at a provider.
type Repository struct {
	Organization, Name, ID string
	URL, Branch, SHA       string
	Labels                 []string
}

// PullRequest is an open pull request.
type PullRequest struct {
	Number, Title        string
	Branch, TargetBranch string
	HeadSHA, Author      string
	Labels               []string
}

// Limits bound one generation. The zero value of a field is its default.
type Limits struct {
	// Applications is how many may come out, and sets of parameters on the way;
	// 10000.
	Applications int
	// FileBytes is for one file that is read; 1 MiB. AllBytes is for all; 32 MiB.
	FileBytes, AllBytes int64
	// Entries is how many files and directories are looked at; 100000.
	Entries int
}

func (l Limits) withDefaults() Limits {
	if l.Applications == 0 {
		l.Applications = 10000
	}
	if l.FileBytes == 0 {
		l.FileBytes = 1 << 20
	}
	if l.AllBytes == 0 {
		l.AllBytes = 32 << 20
	}
	if l.Entries == 0 {
		l.Entries = 100000
	}
	return l
}

// maxPatterns bounds how many patterns of paths a generator has, and how long
// one is: each is tried on each path.
const (
	maxPatterns    = 200
	maxPatternSize = 4096
)

// generation is one run of Generate.
type generation struct {
	set       *argo.ApplicationSet
	in        Inputs
	templates Templates
	limits    Limits
	// bytes and entries are what was read so far.
	bytes   int64
	entries int
}

// Generate makes the Applications, in the order of the generators. The set is
// one that Check has passed. Errors: *ParamsError (a generator failed, what it
// wraps may be of Inputs), *TemplateError, *ApplicationError, and ctx's.
func Generate(ctx context.Context, set *argo.ApplicationSet, in Inputs, templates Templates, limits Limits) ([]*unstructured.Unstructured, error) {
	g := &generation{set: set, in: in, templates: templates, limits: limits.withDefaults()}
	var all []*unstructured.Unstructured
	for i := range set.Spec.Generators {
		gen := &set.Spec.Generators[i]
		at := fmt.Sprintf("spec.generators[%d]", i)
		params, err := g.generate(ctx, gen, at, 0)
		if err != nil {
			return nil, err
		}
		if n := len(all) + len(params); n > g.limits.Applications {
			return nil, &ParamsError{at, tooMany("Applications", int64(n), int64(g.limits.Applications))}
		}
		apps, err := g.applications(ctx, gen, params)
		if err != nil {
			return nil, err
		}
		all = append(all, apps...)
	}
	return all, g.checkAll(all)
}

func tooMany(what string, n, limit int64) error {
	return &core.TooLargeError{What: "the number of " + what, Size: n, Limit: limit, Unit: what}
}

// ParamsError says that a generator has found no parameters.
type ParamsError struct {
	// Generator is its path in the spec.
	Generator string
	Err       error
}

func (e *ParamsError) Error() string { return e.Generator + ": " + e.Err.Error() }
func (e *ParamsError) Unwrap() error { return e.Err }

// FileError says that a file of a repository is not one of parameters.
type FileError struct {
	Path string
	Err  error
}

func (e *FileError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// TemplateError says that a template does not render. Its text names the field.
type TemplateError struct{ Err error }

func (e *TemplateError) Error() string { return e.Err.Error() }
func (e *TemplateError) Unwrap() error { return e.Err }

// ApplicationError says that what was generated is no Application, or not one
// that the set may make.
type ApplicationError struct{ Name, Problem string }

func (e *ApplicationError) Error() string {
	return fmt.Sprintf("Application %q: %s", e.Name, e.Problem)
}

// Permanent says that the error stays until the set or what it read is
// changed, so that trying again is of no use.
func Permanent(err error) bool {
	return as[*FileError](err) || as[*TemplateError](err) || as[*ApplicationError](err) || as[*FieldError](err) || as[*core.TooLargeError](err)
}
