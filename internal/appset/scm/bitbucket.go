package scm

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

// links are the addresses of a repository, as both Bitbuckets have them.
type links struct {
	Clone []struct {
		Href string `json:"href"`
		Name string `json:"name"`
	} `json:"clone"`
}

// named is the address by one of the names.
func (l links) named(names ...string) string {
	for _, c := range l.Clone {
		for _, name := range names {
			if c.Name == name {
				return c.Href
			}
		}
	}
	return ""
}

// login is how to say who asks: a name with a password, or a token.
func (c *Client) login(ctx context.Context, a *access, user string, password, token *argo.SecretRef, elsewhere bool) error {
	switch {
	case token != nil:
		value, err := c.Credentials.Secret(ctx, *token, elsewhere)
		if err != nil {
			return err
		}
		a.header = http.Header{"Authorization": {"Bearer " + value}}
	case password != nil:
		value, err := c.Credentials.Secret(ctx, *password, elsewhere)
		if err != nil {
			return err
		}
		a.user = url.UserPassword(user, value)
	}
	return nil
}

func tokenOf(b *argo.BearerTokenBitbucket) *argo.SecretRef {
	if b == nil {
		return nil
	}
	return b.TokenRef
}

func basicOf(b *argo.BasicAuthBitbucketServer) (user string, password *argo.SecretRef) {
	if b == nil {
		return "", nil
	}
	return b.Username, b.PasswordRef
}

// bitbucket is Bitbucket Cloud's REST API, version 2.0.
type bitbucket struct {
	*api
	owner string
}

func (c *Client) openBitbucket(ctx context.Context, address, user string, password, token *argo.SecretRef) (*api, error) {
	own := or(c.Bitbucket, "https://api.bitbucket.org/2.0")
	a := access{address: or(address, own)}
	if err := c.login(ctx, &a, user, password, token, host(a.address) != host(own)); err != nil {
		return nil, err
	}
	return newAPI(a)
}

func (c *Client) bitbucket(ctx context.Context, gen *argo.SCMProviderBitbucket) (provider, error) {
	a, err := c.openBitbucket(ctx, "", gen.User, gen.AppPasswordRef, tokenOf(gen.BearerToken))
	if err != nil {
		return nil, err
	}
	return &bitbucket{a, gen.Owner}, nil
}

// followed collects the values of all pages that the answers name.
func followed[T any](ctx context.Context, a *api, at *url.URL) ([]T, error) {
	var all []T
	for at != nil {
		var page struct {
			Values []T    `json:"values"`
			Next   string `json:"next"`
		}
		if _, err := a.get(ctx, at, &page); err != nil {
			return nil, err
		}
		var err error
		if all, err = more(all, page.Values); err != nil {
			return nil, err
		}
		if at, err = a.next(at, page.Next); err != nil {
			return nil, err
		}
	}
	return all, nil
}

type bitbucketRepository struct {
	Slug       string `json:"slug"`
	UUID       string `json:"uuid"`
	Links      links  `json:"links"`
	MainBranch *struct {
		Name string `json:"name"`
	} `json:"mainbranch"`
}

func (b *bitbucket) repositories(ctx context.Context) ([]repository, error) {
	list, err := followed[bitbucketRepository](ctx, b.api, b.at(perPage("pagelen", "100"), "repositories", b.owner))
	out := make([]repository, len(list))
	for i, r := range list {
		out[i] = repository{key: r.Slug, ssh: r.Links.named("ssh"), https: r.Links.named("https")}
		out[i].Organization, out[i].Name, out[i].ID = b.owner, r.Slug, r.UUID
		if r.MainBranch != nil {
			out[i].main = r.MainBranch.Name
		}
	}
	return out, err
}

type bitbucketBranch struct {
	Name   string `json:"name"`
	Target struct {
		Hash string `json:"hash"`
	} `json:"target"`
}

func (b *bitbucket) branch(ctx context.Context, r repository, name string) (branch, error) {
	var found bitbucketBranch
	_, err := b.get(ctx, b.at(nil, "repositories", b.owner, r.key, "refs", "branches", name), &found)
	return branch{found.Name, found.Target.Hash}, err
}

func (b *bitbucket) branches(ctx context.Context, r repository) ([]branch, error) {
	list, err := followed[bitbucketBranch](ctx, b.api, b.at(perPage("pagelen", "100"), "repositories", b.owner, r.key, "refs", "branches"))
	out := make([]branch, len(list))
	for i, found := range list {
		out[i] = branch{found.Name, found.Target.Hash}
	}
	return out, err
}

func (b *bitbucket) exists(ctx context.Context, r repository, at branch, path string) (bool, error) {
	parts := append([]string{"repositories", b.owner, r.key, "src", at.sha}, strings.Split(path, "/")...)
	return b.api.exists(ctx, b.at(url.Values{"format": {"meta"}}, parts...))
}

type bitbucketPull struct {
	ID          int64  `json:"id"`
	Title       string `json:"title"`
	Source      bitbucketEnd
	Destination bitbucketEnd
	Author      struct {
		Nickname string `json:"nickname"`
	} `json:"author"`
}

type bitbucketEnd struct {
	Branch struct {
		Name string `json:"name"`
	} `json:"branch"`
	Commit struct {
		Hash string `json:"hash"`
	} `json:"commit"`
}

func (c *Client) bitbucketPulls(ctx context.Context, gen *argo.PullRequestBitbucket) ([]appset.PullRequest, error) {
	user, password := basicOf(gen.BasicAuth)
	a, err := c.openBitbucket(ctx, gen.API, user, password, tokenOf(gen.BearerToken))
	if err != nil {
		return nil, err
	}
	defer a.close()
	list, err := followed[bitbucketPull](ctx, a, a.at(url.Values{"state": {"OPEN"}, "pagelen": {"50"}}, "repositories", gen.Owner, gen.Repo, "pullrequests"))
	out := make([]appset.PullRequest, len(list))
	for i, p := range list {
		out[i] = appset.PullRequest{
			Number: strconv.FormatInt(p.ID, 10), Title: p.Title, Author: p.Author.Nickname,
			Branch: p.Source.Branch.Name, HeadSHA: p.Source.Commit.Hash, TargetBranch: p.Destination.Branch.Name,
		}
	}
	return out, err
}

// bitbucketServer is the REST API, version 1.0, of Bitbucket Server and Data
// Center.
type bitbucketServer struct {
	*api
	project string
}

func (c *Client) openBitbucketServer(ctx context.Context, address string, basic *argo.BasicAuthBitbucketServer, bearer *argo.BearerTokenBitbucket, insecure bool, ca *argo.ConfigMapKeyRef) (*api, error) {
	if address == "" {
		return nil, errors.New("api is required")
	}
	const suffix = "/rest/api/1.0"
	base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(address, "/"), suffix), "/rest")
	a := access{address: base + suffix, insecure: insecure}
	user, password := basicOf(basic)
	if err := c.login(ctx, &a, user, password, tokenOf(bearer), true); err != nil {
		return nil, err
	}
	return c.dial(ctx, a, ca)
}

func (c *Client) bitbucketServer(ctx context.Context, gen *argo.SCMProviderBitbucketServer) (provider, error) {
	a, err := c.openBitbucketServer(ctx, gen.API, gen.BasicAuth, gen.BearerToken, gen.Insecure, gen.CARef)
	if err != nil {
		return nil, err
	}
	return &bitbucketServer{a, gen.Project}, nil
}

// started collects the values of all pages, each of which says where the next
// one starts.
func started[T any](ctx context.Context, a *api, query url.Values, parts ...string) ([]T, error) {
	var all []T
	query.Set("limit", "100")
	for {
		var page struct {
			Values []T    `json:"values"`
			Last   bool   `json:"isLastPage"`
			Next   *int64 `json:"nextPageStart"`
		}
		if _, err := a.get(ctx, a.at(query, parts...), &page); err != nil {
			return nil, err
		}
		var err error
		if all, err = more(all, page.Values); err != nil {
			return nil, err
		}
		if page.Last || page.Next == nil {
			return all, nil
		}
		query.Set("start", strconv.FormatInt(*page.Next, 10))
	}
}

type serverRepository struct {
	ID      int64  `json:"id"`
	Slug    string `json:"slug"`
	Links   links  `json:"links"`
	Project struct {
		Key string `json:"key"`
	} `json:"project"`
}

// main stands for the default branch, of which the list of repositories does
// not say the name.
const serverMain = "default"

func (b *bitbucketServer) repositories(ctx context.Context) ([]repository, error) {
	list, err := started[serverRepository](ctx, b.api, url.Values{}, "projects", b.project, "repos")
	out := make([]repository, len(list))
	for i, r := range list {
		out[i] = repository{key: r.Slug, ssh: r.Links.named("ssh"), https: r.Links.named("http", "https"), main: serverMain}
		out[i].Organization, out[i].Name, out[i].ID = r.Project.Key, r.Slug, strconv.FormatInt(r.ID, 10)
	}
	return out, err
}

type serverBranch struct {
	DisplayID    string `json:"displayId"`
	LatestCommit string `json:"latestCommit"`
}

func (b *bitbucketServer) branch(ctx context.Context, r repository, _ string) (branch, error) {
	var found serverBranch
	_, err := b.get(ctx, b.at(nil, "projects", b.project, "repos", r.key, "branches", serverMain), &found)
	return branch{found.DisplayID, found.LatestCommit}, err
}

func (b *bitbucketServer) branches(ctx context.Context, r repository) ([]branch, error) {
	list, err := started[serverBranch](ctx, b.api, url.Values{}, "projects", b.project, "repos", r.key, "branches")
	out := make([]branch, len(list))
	for i, found := range list {
		out[i] = branch{found.DisplayID, found.LatestCommit}
	}
	return out, err
}

func (b *bitbucketServer) exists(ctx context.Context, r repository, at branch, path string) (bool, error) {
	parts := append([]string{"projects", b.project, "repos", r.key, "browse"}, strings.Split(path, "/")...)
	return b.api.exists(ctx, b.at(url.Values{"at": {at.sha}, "type": {"true"}}, parts...))
}

type serverPull struct {
	ID      int64  `json:"id"`
	Title   string `json:"title"`
	FromRef serverBranch
	ToRef   serverBranch
	Author  struct {
		User struct {
			Name string `json:"name"`
		} `json:"user"`
	} `json:"author"`
}

func (c *Client) bitbucketServerPulls(ctx context.Context, gen *argo.PullRequestBitbucketServer) ([]appset.PullRequest, error) {
	a, err := c.openBitbucketServer(ctx, gen.API, gen.BasicAuth, gen.BearerToken, gen.Insecure, gen.CARef)
	if err != nil {
		return nil, err
	}
	defer a.close()
	list, err := started[serverPull](ctx, a, url.Values{"state": {"OPEN"}}, "projects", gen.Project, "repos", gen.Repo, "pull-requests")
	out := make([]appset.PullRequest, len(list))
	for i, p := range list {
		out[i] = appset.PullRequest{
			Number: strconv.FormatInt(p.ID, 10), Title: p.Title, Author: p.Author.User.Name,
			Branch: p.FromRef.DisplayID, HeadSHA: p.FromRef.LatestCommit, TargetBranch: p.ToRef.DisplayID,
		}
	}
	return out, err
}
