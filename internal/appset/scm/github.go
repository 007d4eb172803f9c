package scm

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// github is GitHub's REST API, version 2022-11-28, as far as Gitea's is the
// same too.
type github struct {
	*api
	owner string
	// without leaves out archived repositories.
	without bool
	pages   url.Values
	// labels has the repositories' labels asked for one by one.
	labels bool
}

func perPage(key, n string) url.Values { return url.Values{key: {n}} }

func (c *Client) openGitHub(ctx context.Context, address string, token *argo.SecretRef) (*api, error) {
	suffix := "/api/v3"
	if strings.HasPrefix(host(address), "https://api.") {
		suffix = ""
	}
	return c.open(ctx, reach{own: or(c.GitHub, "https://api.github.com"), named: address, suffix: suffix, token: token, header: "Authorization", scheme: "Bearer "})
}

func (c *Client) openGitea(ctx context.Context, address string, token *argo.SecretRef, insecure bool) (*api, error) {
	return c.open(ctx, reach{named: address, suffix: "/api/v1", token: token, header: "Authorization", scheme: "token ", insecure: insecure})
}

func (c *Client) github(ctx context.Context, gen *argo.SCMProviderGithub) (provider, error) {
	a, err := c.openGitHub(ctx, gen.API, gen.TokenRef)
	if err != nil {
		return nil, err
	}
	return &github{api: a, owner: gen.Organization, without: gen.ExcludeArchivedRepos, pages: perPage("per_page", "100")}, nil
}

func (c *Client) gitea(ctx context.Context, gen *argo.SCMProviderGitea) (provider, error) {
	a, err := c.openGitea(ctx, gen.API, gen.TokenRef, gen.Insecure)
	if err != nil {
		return nil, err
	}
	return &github{api: a, owner: gen.Owner, without: gen.ExcludeArchivedRepos, pages: perPage("limit", "50"), labels: true}, nil
}

type githubRepository struct {
	ID            int64    `json:"id"`
	Name          string   `json:"name"`
	SSH           string   `json:"ssh_url"`
	Clone         string   `json:"clone_url"`
	DefaultBranch string   `json:"default_branch"`
	Topics        []string `json:"topics"`
	Archived      bool     `json:"archived"`
	Empty         bool     `json:"empty"`
	Owner         struct {
		Login string `json:"login"`
	} `json:"owner"`
}

func (g *github) repositories(ctx context.Context) ([]repository, error) {
	list, err := linked[githubRepository](ctx, g.api, g.at(g.pages, "orgs", g.owner, "repos"))
	if err != nil {
		return nil, err
	}
	var out []repository
	for _, r := range list {
		if g.without && r.Archived {
			continue
		}
		repo := repository{ssh: r.SSH, https: r.Clone, main: r.DefaultBranch}
		repo.Organization, repo.Name, repo.ID, repo.Labels = r.Owner.Login, r.Name, strconv.FormatInt(r.ID, 10), r.Topics
		if r.Empty {
			repo.main = ""
		}
		if g.labels {
			if repo.Labels, err = g.labelsOf(ctx, repo); err != nil {
				return nil, err
			}
		}
		out = append(out, repo)
	}
	return out, nil
}

type githubLabel struct {
	Name string `json:"name"`
}

func (g *github) labelsOf(ctx context.Context, r repository) ([]string, error) {
	list, err := linked[githubLabel](ctx, g.api, g.at(g.pages, "repos", r.Organization, r.Name, "labels"))
	return labelNames(list), err
}

func labelNames(list []githubLabel) []string {
	var names []string
	for _, l := range list {
		names = append(names, l.Name)
	}
	return names
}

type githubBranch struct {
	Name   string `json:"name"`
	Commit struct {
		SHA string `json:"sha"` // GitHub
		ID  string `json:"id"`  // Gitea
	} `json:"commit"`
}

func (b githubBranch) branch() branch { return branch{b.Name, b.Commit.SHA + b.Commit.ID} }

func (g *github) branch(ctx context.Context, r repository, name string) (branch, error) {
	var b githubBranch
	_, err := g.get(ctx, g.at(nil, "repos", r.Organization, r.Name, "branches", name), &b)
	return b.branch(), err
}

func (g *github) branches(ctx context.Context, r repository) ([]branch, error) {
	list, err := linked[githubBranch](ctx, g.api, g.at(g.pages, "repos", r.Organization, r.Name, "branches"))
	out := make([]branch, len(list))
	for i, b := range list {
		out[i] = b.branch()
	}
	return out, err
}

func (g *github) exists(ctx context.Context, r repository, b branch, path string) (bool, error) {
	parts := append([]string{"repos", r.Organization, r.Name, "contents"}, strings.Split(path, "/")...)
	return g.api.exists(ctx, g.at(url.Values{"ref": {b.name}}, parts...))
}

type githubPull struct {
	Number int64  `json:"number"`
	Title  string `json:"title"`
	User   struct {
		Login string `json:"login"`
	} `json:"user"`
	Head, Base struct {
		Ref string `json:"ref"`
		SHA string `json:"sha"`
	}
	Labels []githubLabel `json:"labels"`
}

func (c *Client) githubPulls(ctx context.Context, gen *argo.PullRequestGithub) ([]appset.PullRequest, error) {
	a, err := c.openGitHub(ctx, gen.API, gen.TokenRef)
	if err != nil {
		return nil, err
	}
	return pullsOf(ctx, a, gen.Owner, gen.Repo, "per_page", "100")
}

func (c *Client) giteaPulls(ctx context.Context, gen *argo.PullRequestGitea) ([]appset.PullRequest, error) {
	a, err := c.openGitea(ctx, gen.API, gen.TokenRef, gen.Insecure)
	if err != nil {
		return nil, err
	}
	return pullsOf(ctx, a, gen.Owner, gen.Repo, "limit", "50")
}

func pullsOf(ctx context.Context, a *api, owner, repo, limit, n string) ([]appset.PullRequest, error) {
	defer a.close()
	list, err := linked[githubPull](ctx, a, a.at(url.Values{"state": {"open"}, limit: {n}}, "repos", owner, repo, "pulls"))
	out := make([]appset.PullRequest, len(list))
	for i, p := range list {
		out[i] = appset.PullRequest{
			Number: strconv.FormatInt(p.Number, 10), Title: p.Title, Author: p.User.Login,
			Branch: p.Head.Ref, HeadSHA: p.Head.SHA, TargetBranch: p.Base.Ref, Labels: labelNames(p.Labels),
		}
	}
	return out, err
}
