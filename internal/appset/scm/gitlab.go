package scm

import (
	"context"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// gitlab is GitLab's REST API, version 4.
type gitlab struct {
	*api
	gen *argo.SCMProviderGitlab
}

func (c *Client) openGitLab(ctx context.Context, address string, token *argo.SecretRef, insecure bool, ca *argo.ConfigMapKeyRef) (*api, error) {
	return c.open(ctx, reach{
		own: or(c.GitLab, "https://gitlab.com/api/v4"), named: address, suffix: "/api/v4",
		token: token, header: "Private-Token", insecure: insecure, ca: ca,
	})
}

func (c *Client) gitlab(ctx context.Context, gen *argo.SCMProviderGitlab) (provider, error) {
	a, err := c.openGitLab(ctx, gen.API, gen.TokenRef, gen.Insecure, gen.CARef)
	if err != nil {
		return nil, err
	}
	return &gitlab{a, gen}, nil
}

type gitlabProject struct {
	ID            int64    `json:"id"`
	Path          string   `json:"path"`
	SSH           string   `json:"ssh_url_to_repo"`
	HTTP          string   `json:"http_url_to_repo"`
	DefaultBranch string   `json:"default_branch"`
	Topics        []string `json:"topics"`
	Namespace     struct {
		FullPath string `json:"full_path"`
	} `json:"namespace"`
}

func (g *gitlab) repositories(ctx context.Context) ([]repository, error) {
	query := url.Values{
		"per_page":          {"100"},
		"include_subgroups": {strconv.FormatBool(g.gen.IncludeSubgroups)},
		"with_shared":       {strconv.FormatBool(g.gen.IncludeSharedProjects == nil || *g.gen.IncludeSharedProjects)},
	}
	if !g.gen.IncludeArchivedRepos {
		query.Set("archived", "false")
	}
	if g.gen.Topic != "" {
		query.Set("topic", g.gen.Topic)
	}
	list, err := linked[gitlabProject](ctx, g.api, g.at(query, "groups", g.gen.Group, "projects"))
	out := make([]repository, len(list))
	for i, p := range list {
		out[i] = repository{key: strconv.FormatInt(p.ID, 10), ssh: p.SSH, https: p.HTTP, main: p.DefaultBranch}
		out[i].Organization, out[i].Name, out[i].ID, out[i].Labels = p.Namespace.FullPath, p.Path, out[i].key, p.Topics
	}
	return out, err
}

type gitlabBranch struct {
	Name   string `json:"name"`
	Commit struct {
		ID string `json:"id"`
	} `json:"commit"`
}

func (g *gitlab) branch(ctx context.Context, r repository, name string) (branch, error) {
	var b gitlabBranch
	_, err := g.get(ctx, g.at(nil, "projects", r.key, "repository", "branches", name), &b)
	return branch{b.Name, b.Commit.ID}, err
}

func (g *gitlab) branches(ctx context.Context, r repository) ([]branch, error) {
	list, err := linked[gitlabBranch](ctx, g.api, g.at(perPage("per_page", "100"), "projects", r.key, "repository", "branches"))
	out := make([]branch, len(list))
	for i, b := range list {
		out[i] = branch{b.Name, b.Commit.ID}
	}
	return out, err
}

type gitlabEntry struct {
	Name string `json:"name"`
}

// exists looks into the directory: that is where files and directories are
// alike.
func (g *gitlab) exists(ctx context.Context, r repository, b branch, name string) (bool, error) {
	query := url.Values{"per_page": {"100"}, "ref": {b.name}}
	if dir := path.Dir(name); dir != "." {
		query.Set("path", dir)
	}
	list, err := linked[gitlabEntry](ctx, g.api, g.at(query, "projects", r.key, "repository", "tree"))
	if notFound(err) {
		return false, nil
	}
	return slices.ContainsFunc(list, func(e gitlabEntry) bool { return e.Name == path.Base(name) }), err
}

type gitlabMerge struct {
	IID    int64    `json:"iid"`
	Title  string   `json:"title"`
	Source string   `json:"source_branch"`
	Target string   `json:"target_branch"`
	SHA    string   `json:"sha"`
	Labels []string `json:"labels"`
	Author struct {
		Username string `json:"username"`
	} `json:"author"`
}

// gitlabPulls are those of the state that is asked for; of any where none is,
// as in Argo CD.
func (c *Client) gitlabPulls(ctx context.Context, gen *argo.PullRequestGitLab) ([]appset.PullRequest, error) {
	a, err := c.openGitLab(ctx, gen.API, gen.TokenRef, gen.Insecure, gen.CARef)
	if err != nil {
		return nil, err
	}
	defer a.close()
	query := perPage("per_page", "100")
	if gen.PullRequestState != "" {
		query.Set("state", gen.PullRequestState)
	}
	if len(gen.Labels) > 0 {
		query.Set("labels", strings.Join(gen.Labels, ","))
	}
	list, err := linked[gitlabMerge](ctx, a, a.at(query, "projects", gen.Project, "merge_requests"))
	out := make([]appset.PullRequest, len(list))
	for i, m := range list {
		out[i] = appset.PullRequest{
			Number: strconv.FormatInt(m.IID, 10), Title: m.Title, Author: m.Author.Username,
			Branch: m.Source, TargetBranch: m.Target, HeadSHA: m.SHA, Labels: m.Labels,
		}
	}
	return out, err
}
