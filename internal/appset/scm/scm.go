package scm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// parallel is how many repositories of a generator are asked about at a time.
const parallel = 8

// Credentials are what a generator refers to. Errors say what is missing,
// without secrets.
type Credentials interface {
	// Secret is a value of a Secret. elsewhere says that it is to go to a host
	// that the generator names, and not to one that the provider is known by.
	Secret(ctx context.Context, ref argo.SecretRef, elsewhere bool) (string, error)
	// ConfigMap is a value of a ConfigMap.
	ConfigMap(ctx context.Context, ref argo.ConfigMapKeyRef) (string, error)
}

// Client asks providers. The zero value of an address is the provider's own.
type Client struct {
	Credentials Credentials
	// GitHub, GitLab and Bitbucket are the APIs of those in the cloud.
	GitHub, GitLab, Bitbucket string
}

// provider is what the repositories of an organisation are asked of.
type provider interface {
	// repositories are all of the organisation.
	repositories(ctx context.Context) ([]repository, error)
	// branch is one branch, branches are all. One that is not there is an error
	// for which notFound holds.
	branch(ctx context.Context, r repository, name string) (branch, error)
	branches(ctx context.Context, r repository) ([]branch, error)
	// exists says whether a file or directory is there.
	exists(ctx context.Context, r repository, b branch, path string) (bool, error)
	close()
}

type repository struct {
	appset.Repository // without branch and commit
	key               string
	ssh, https        string
	main              string // the default branch; "" is for an empty repository
}

type branch struct{ name, sha string }

// Repositories are the repositories, or their branches, that the generator's
// filters let through, in the provider's order.
func (c *Client) Repositories(ctx context.Context, gen *argo.SCMProviderGenerator) ([]appset.Repository, error) {
	filters, err := compileFilters(gen.Filters)
	if err != nil {
		return nil, err
	}
	p, all, err := c.provider(ctx, gen)
	if err != nil {
		return nil, err
	}
	defer p.close()
	repos, err := p.repositories(ctx)
	if err != nil {
		return nil, err
	}
	found := make([][]appset.Repository, len(repos))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, r := range repos {
		if !filters.mayMatch(r) {
			continue
		}
		group.Go(func() (err error) {
			found[i], err = look(ctx, p, r, all, filters, gen.CloneProtocol)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(found...), nil
}

// look finds the branches of one repository.
func look(ctx context.Context, p provider, r repository, all bool, filters filters, protocol string) ([]appset.Repository, error) {
	var branches []branch
	var err error
	switch {
	case all:
		branches, err = p.branches(ctx, r)
	case r.main != "":
		var b branch
		b, err = p.branch(ctx, r, r.main)
		branches = []branch{b}
	}
	if notFound(err) {
		return nil, nil // it is empty, or has gone
	}
	if err != nil {
		return nil, err
	}
	var out []appset.Repository
	for _, b := range branches {
		ok, err := filters.match(ctx, p, r, b)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		found := r.Repository
		found.Branch, found.SHA, found.URL = b.name, b.sha, r.ssh
		if protocol == "https" {
			found.URL = r.https
		}
		out = append(out, found)
	}
	return out, nil
}

func (c *Client) provider(ctx context.Context, gen *argo.SCMProviderGenerator) (p provider, all bool, err error) {
	switch {
	case gen.Github != nil:
		p, err = c.github(ctx, gen.Github)
		return p, gen.Github.AllBranches, err
	case gen.Gitlab != nil:
		p, err = c.gitlab(ctx, gen.Gitlab)
		return p, gen.Gitlab.AllBranches, err
	case gen.Gitea != nil:
		p, err = c.gitea(ctx, gen.Gitea)
		return p, gen.Gitea.AllBranches, err
	case gen.BitbucketServer != nil:
		p, err = c.bitbucketServer(ctx, gen.BitbucketServer)
		return p, gen.BitbucketServer.AllBranches, err
	case gen.Bitbucket != nil:
		p, err = c.bitbucket(ctx, gen.Bitbucket)
		return p, gen.Bitbucket.AllBranches, err
	}
	return nil, false, errors.New("the provider is not supported")
}

// PullRequests are the open ones that the generator's filters let through, in
// the provider's order.
func (c *Client) PullRequests(ctx context.Context, gen *argo.PullRequestGenerator) ([]appset.PullRequest, error) {
	filters, err := compilePullFilters(gen.Filters)
	if err != nil {
		return nil, err
	}
	found, labels, err := c.pulls(ctx, gen)
	if notFound(err) && gen.ContinueOnRepoNotFoundError {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(p appset.PullRequest) bool {
		missing := slices.ContainsFunc(labels, func(label string) bool { return !slices.Contains(p.Labels, label) })
		return missing || !filters.match(p)
	}), nil
}

// pulls are all open pull requests, and the labels that they have to have.
func (c *Client) pulls(ctx context.Context, gen *argo.PullRequestGenerator) (found []appset.PullRequest, labels []string, err error) {
	switch {
	case gen.Github != nil:
		found, err = c.githubPulls(ctx, gen.Github)
		return found, gen.Github.Labels, err
	case gen.GitLab != nil:
		found, err = c.gitlabPulls(ctx, gen.GitLab)
		return found, gen.GitLab.Labels, err
	case gen.Gitea != nil:
		found, err = c.giteaPulls(ctx, gen.Gitea)
		return found, gen.Gitea.Labels, err
	case gen.BitbucketServer != nil:
		found, err = c.bitbucketServerPulls(ctx, gen.BitbucketServer)
		return found, nil, err
	case gen.Bitbucket != nil:
		found, err = c.bitbucketPulls(ctx, gen.Bitbucket)
		return found, nil, err
	}
	return nil, nil, errors.New("the provider is not supported")
}

// filters are those of an SCM provider generator.
type filters []filter

type filter struct {
	repository, label, branch *regexp.Regexp
	exist, lack               []string
}

func compileFilters(list []argo.SCMProviderFilter) (filters, error) {
	out := make(filters, len(list))
	for i, f := range list {
		var errs [3]error
		out[i].repository, errs[0] = compile(f.RepositoryMatch)
		out[i].label, errs[1] = compile(f.LabelMatch)
		out[i].branch, errs[2] = compile(f.BranchMatch)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("filters[%d]: %w", i, err)
		}
		for _, p := range slices.Concat(f.PathsExist, f.PathsDoNotExist) {
			if clean := path.Clean("/" + p); clean == "/" || strings.Contains(p, "..") {
				return nil, fmt.Errorf("filters[%d]: %q is not a path in a repository", i, p)
			}
		}
		out[i].exist, out[i].lack = f.PathsExist, f.PathsDoNotExist
	}
	return out, nil
}

// compile is the regular expression, or nil where there is none.
func compile(expression *string) (*regexp.Regexp, error) {
	if expression == nil {
		return nil, nil
	}
	return regexp.Compile(*expression)
}

// matches: no expression matches everything.
func matches(r *regexp.Regexp, s string) bool { return r == nil || r.MatchString(s) }

// ofRepository says whether the repository itself is let through.
func (f *filter) ofRepository(r repository) bool {
	return matches(f.repository, r.Name) && (f.label == nil || slices.ContainsFunc(r.Labels, f.label.MatchString))
}

// mayMatch says whether a branch of the repository can be let through.
func (fs filters) mayMatch(r repository) bool {
	return len(fs) == 0 || slices.ContainsFunc(fs, func(f filter) bool { return f.ofRepository(r) })
}

// match says whether a filter lets the branch through. Paths are asked about
// last.
func (fs filters) match(ctx context.Context, p provider, r repository, b branch) (bool, error) {
	for _, f := range fs {
		if !f.ofRepository(r) || !matches(f.branch, b.name) {
			continue
		}
		ok, err := f.paths(ctx, p, r, b)
		if ok || err != nil {
			return ok, err
		}
	}
	return len(fs) == 0, nil
}

func (f *filter) paths(ctx context.Context, p provider, r repository, b branch) (bool, error) {
	for want, list := range map[bool][]string{true: f.exist, false: f.lack} {
		for _, name := range list {
			there, err := p.exists(ctx, r, b, strings.Trim(name, "/"))
			if err != nil || there != want {
				return false, err
			}
		}
	}
	return true, nil
}

type pullFilters [][3]*regexp.Regexp

func compilePullFilters(list []argo.PullRequestFilter) (pullFilters, error) {
	out := make(pullFilters, len(list))
	for i, f := range list {
		for j, expression := range []*string{f.BranchMatch, f.TargetBranchMatch, f.TitleMatch} {
			var err error
			if out[i][j], err = compile(expression); err != nil {
				return nil, fmt.Errorf("filters[%d]: %w", i, err)
			}
		}
	}
	return out, nil
}

func (fs pullFilters) match(p appset.PullRequest) bool {
	return len(fs) == 0 || slices.ContainsFunc(fs, func(f [3]*regexp.Regexp) bool {
		return matches(f[0], p.Branch) && matches(f[1], p.TargetBranch) && matches(f[2], p.Title)
	})
}

// reach is how to reach an API: at its own address in the cloud, or at one
// that the generator names, below which suffix is.
type reach struct {
	own, named, suffix string
	token              *argo.SecretRef
	header, scheme     string // of the token
	insecure           bool
	ca                 *argo.ConfigMapKeyRef
}

func (c *Client) open(ctx context.Context, r reach) (*api, error) {
	a := access{address: r.own, header: http.Header{}, insecure: r.insecure}
	if r.named != "" {
		a.address = strings.TrimSuffix(strings.TrimSuffix(r.named, "/"), r.suffix) + r.suffix
	}
	elsewhere := r.named != "" && host(a.address) != host(r.own)
	if r.token != nil {
		token, err := c.Credentials.Secret(ctx, *r.token, elsewhere)
		if err != nil {
			return nil, err
		}
		a.header.Set(r.header, r.scheme+token)
	}
	return c.dial(ctx, a, r.ca)
}

func (c *Client) dial(ctx context.Context, a access, ca *argo.ConfigMapKeyRef) (*api, error) {
	if ca != nil {
		pem, err := c.Credentials.ConfigMap(ctx, *ca)
		if err != nil {
			return nil, err
		}
		a.ca = []byte(pem)
	}
	return newAPI(a)
}

func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

func or(address, standard string) string {
	if address == "" {
		return standard
	}
	return strings.TrimSuffix(address, "/")
}
