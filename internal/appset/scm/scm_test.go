package scm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
	"github.com/fairway-cd/fairway/internal/appset/scm"
)

const token = "s3cret-token"

// secrets hold one token. It is for elsewhere only where its name says so.
type secrets struct{}

func (secrets) Secret(_ context.Context, ref argo.SecretRef, elsewhere bool) (string, error) {
	if ref.SecretName == "missing" || elsewhere != (ref.SecretName == "elsewhere") {
		return "", fmt.Errorf("secret %s is not for this", ref.SecretName)
	}
	return token, nil
}

func (secrets) ConfigMap(context.Context, argo.ConfigMapKeyRef) (string, error) {
	return "", errors.New("there is none")
}

// forge is a server that speaks a provider's API: what is not in its answers
// is not there, and who does not say who he is gets nothing. A route is a path
// with the query that has to be in it.
type forge struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

// page is an answer, and the link to the next one.
type page struct {
	body any
	next string
}

func newForge(t *testing.T, authorized func(*http.Request) bool, answers map[string]page) *forge {
	f := &forge{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked = append(f.asked, r.URL.EscapedPath())
		f.mu.Unlock()
		if !authorized(r) {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		for route, p := range answers {
			path, query, _ := strings.Cut(route, "?")
			if r.URL.EscapedPath() != path {
				continue
			}
			all := true
			for _, want := range strings.Split(query, "&") {
				key, value, _ := strings.Cut(want, "=")
				all = all && (want == "" || r.URL.Query().Get(key) == value)
			}
			if !all {
				continue
			}
			if p.next != "" {
				w.Header().Set("Link", `<`+f.URL+`/first>; rel="first", <`+p.next+`>; rel="next"`)
			}
			_ = json.NewEncoder(w).Encode(p.body)
			return
		}
		http.Error(w, "not found", http.StatusNotFound)
	}))
	t.Cleanup(f.Close)
	return f
}

func header(name, value string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Header.Get(name) == value }
}

type object = map[string]any
type list = []any

func generator[T any](t *testing.T, text string) *T {
	t.Helper()
	out := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func wantRepositories(t *testing.T, c *scm.Client, gen string, want ...string) {
	t.Helper()
	found, err := c.Repositories(t.Context(), generator[argo.SCMProviderGenerator](t, gen))
	if err != nil {
		t.Errorf("%s: %v", gen, err)
		return
	}
	var have []string
	for _, r := range found {
		have = append(have, fmt.Sprintf("%s/%s#%s %s@%s %s %v", r.Organization, r.Name, r.ID, r.Branch, r.SHA, r.URL, r.Labels))
	}
	if !reflect.DeepEqual(have, want) {
		t.Errorf("%s:\nhave %q\nwant %q", gen, have, want)
	}
}

func wantPulls(t *testing.T, c *scm.Client, gen string, want ...appset.PullRequest) {
	t.Helper()
	found, err := c.PullRequests(t.Context(), generator[argo.PullRequestGenerator](t, gen))
	if err != nil {
		t.Errorf("%s: %v", gen, err)
		return
	}
	if len(found) != len(want) || len(want) > 0 && !reflect.DeepEqual(found, want) {
		t.Errorf("%s:\nhave %+v\nwant %+v", gen, found, want)
	}
}

func githubRepo(name string, topics ...string) object {
	return object{
		"id": 7, "name": name, "owner": object{"login": "myorg"}, "default_branch": "main", "topics": topics,
		"ssh_url": "git@host:myorg/" + name + ".git", "clone_url": "https://host/myorg/" + name + ".git", "archived": name == "old",
	}
}

func TestGitHub(t *testing.T) {
	answers := map[string]page{}
	f := newForge(t, header("Authorization", "Bearer "+token), answers)
	head := func(name string) object { return object{"name": name, "commit": object{"sha": "sha-" + name}} }
	answers["/orgs/myorg/repos?per_page=100&page="] = page{list{githubRepo("one", "deploy", "x"), githubRepo("old")}, f.URL + "/orgs/myorg/repos?per_page=100&page=2"}
	answers["/orgs/myorg/repos?page=2"] = page{list{githubRepo("two"), githubRepo("empty")}, ""}
	for _, repo := range []string{"one", "two", "old"} {
		answers["/repos/myorg/"+repo+"/branches/main"] = page{head("main"), ""}
		answers["/repos/myorg/"+repo+"/branches"] = page{list{head("main"), head("feature/a")}, ""}
	}
	answers["/repos/myorg/one/contents/deploy/k.yaml?ref=main"] = page{object{}, ""}
	pull := func(n int, title, branch, base string, labels ...string) object {
		all := list{}
		for _, l := range labels {
			all = append(all, object{"name": l})
		}
		return object{"number": n, "title": title, "user": object{"login": "alice"}, "labels": all, "head": object{"ref": branch, "sha": "abc"}, "base": object{"ref": base}}
	}
	answers["/repos/myorg/one/pulls?state=open"] = page{list{pull(1, "Add x", "feat/x", "main", "preview", "b"), pull(2, "WIP", "wip", "dev")}, ""}
	c := &scm.Client{Credentials: secrets{}, GitHub: f.URL}
	base := "github: {organization: myorg, tokenRef: {secretName: s, key: k}"
	wantRepositories(t, c, base+"}", "myorg/one#7 main@sha-main git@host:myorg/one.git [deploy x]", "myorg/old#7 main@sha-main git@host:myorg/old.git []", "myorg/two#7 main@sha-main git@host:myorg/two.git []")
	wantRepositories(t, c, base+", excludeArchivedRepos: true, allBranches: true}\ncloneProtocol: https\nfilters: [{repositoryMatch: ^t, branchMatch: feature}]", "myorg/two#7 feature/a@sha-feature/a https://host/myorg/two.git []")
	wantRepositories(t, c, base+"}\nfilters: [{labelMatch: ^dep, pathsExist: [deploy/k.yaml], pathsDoNotExist: [gone]}]", "myorg/one#7 main@sha-main git@host:myorg/one.git [deploy x]")
	wantRepositories(t, c, base+"}\nfilters: [{pathsExist: [gone]}, {repositoryMatch: two}]", "myorg/two#7 main@sha-main git@host:myorg/two.git []")

	one := appset.PullRequest{Number: "1", Title: "Add x", Author: "alice", Branch: "feat/x", TargetBranch: "main", HeadSHA: "abc", Labels: []string{"preview", "b"}}
	two := appset.PullRequest{Number: "2", Title: "WIP", Author: "alice", Branch: "wip", TargetBranch: "dev", HeadSHA: "abc"}
	pulls := "github: {owner: myorg, repo: one, tokenRef: {secretName: s, key: k}"
	wantPulls(t, c, pulls+"}", one, two)
	wantPulls(t, c, pulls+", labels: [preview]}", one)
	wantPulls(t, c, pulls+"}\nfilters: [{targetBranchMatch: ^dev$, titleMatch: WIP}, {branchMatch: nothing}]", two)
	wantPulls(t, c, strings.Replace(pulls, "repo: one", "repo: gone", 1)+"}\ncontinueOnRepoNotFoundError: true")
	if _, err := c.PullRequests(t.Context(), generator[argo.PullRequestGenerator](t, strings.Replace(pulls, "repo: one", "repo: gone", 1)+"}")); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a repository that is not there: %v", err)
	}

	// GitHub Enterprise is below a path, and its token has to be for it.
	enterprise := newForge(t, header("Authorization", "Bearer "+token), map[string]page{"/api/v3/orgs/myorg/repos": {list{}, ""}})
	wantRepositories(t, c, "github: {organization: myorg, api: '"+enterprise.URL+"/', tokenRef: {secretName: elsewhere, key: k}}")
	if _, err := c.Repositories(t.Context(), generator[argo.SCMProviderGenerator](t, "github: {organization: myorg, api: '"+enterprise.URL+"', tokenRef: {secretName: s, key: k}}")); err == nil || !strings.Contains(err.Error(), "not for this") {
		t.Errorf("a token for github.com goes elsewhere: %v", err)
	}
}

func TestGitLab(t *testing.T) {
	project := object{"id": 42, "path": "svc", "namespace": object{"full_path": "group/sub"}, "ssh_url_to_repo": "git@host:svc.git", "http_url_to_repo": "https://host/svc.git", "default_branch": "main", "topics": list{"a"}}
	f := newForge(t, header("Private-Token", token), map[string]page{
		"/api/v4/groups/group%2Fsub/projects?include_subgroups=true&with_shared=false&archived=false&topic=a": {list{project}, ""},
		"/api/v4/projects/42/repository/branches/main":                                                        {object{"name": "main", "commit": object{"id": "c0ffee"}}, ""},
		"/api/v4/projects/42/repository/branches":                                                             {list{object{"name": "x/y", "commit": object{"id": "beef"}}}, ""},
		"/api/v4/projects/42/repository/tree?path=deploy&ref=main":                                            {list{object{"name": "k.yaml"}}, ""},
		"/api/v4/projects/group%2Fsvc/merge_requests?state=opened&labels=a,b":                                 {list{object{"iid": 3, "title": "T", "source_branch": "s", "target_branch": "main", "sha": "1234", "labels": list{"a", "b"}, "author": object{"username": "bob"}}}, ""},
	})
	c := &scm.Client{Credentials: secrets{}}
	at := "gitlab: {group: group/sub, api: '" + f.URL + "', includeSubgroups: true, includeSharedProjects: false, topic: a, tokenRef: {secretName: elsewhere, key: k}"
	wantRepositories(t, c, at+"}", "group/sub/svc#42 main@c0ffee git@host:svc.git [a]")
	wantRepositories(t, c, at+", allBranches: true}", "group/sub/svc#42 x/y@beef git@host:svc.git [a]")
	wantRepositories(t, c, at+"}\nfilters: [{pathsExist: [deploy/k.yaml]}]", "group/sub/svc#42 main@c0ffee git@host:svc.git [a]")
	wantRepositories(t, c, at+"}\nfilters: [{pathsExist: [deploy/other.yaml]}, {pathsExist: [gone/k.yaml]}]")
	wantPulls(t, c, "gitlab: {project: group/svc, api: '"+f.URL+"/', pullRequestState: opened, labels: [a, b], tokenRef: {secretName: elsewhere, key: k}}",
		appset.PullRequest{Number: "3", Title: "T", Author: "bob", Branch: "s", TargetBranch: "main", HeadSHA: "1234", Labels: []string{"a", "b"}})
}

func TestGitea(t *testing.T) {
	f := newForge(t, header("Authorization", "token "+token), map[string]page{
		"/api/v1/orgs/myorg/repos?limit=50":           {list{githubRepo("one")}, ""},
		"/api/v1/repos/myorg/one/labels":              {list{object{"name": "bug"}}, ""},
		"/api/v1/repos/myorg/one/branches/main":       {object{"name": "main", "commit": object{"id": "c0ffee"}}, ""},
		"/api/v1/repos/myorg/one/contents/k?ref=main": {list{}, ""},
		"/api/v1/repos/myorg/one/pulls?state=open":    {list{object{"number": 5, "title": "T", "user": object{"login": "eve"}, "head": object{"ref": "h", "sha": "1"}, "base": object{"ref": "main"}}}, ""},
	})
	c := &scm.Client{Credentials: secrets{}}
	at := "gitea: {owner: myorg, api: '" + f.URL + "', tokenRef: {secretName: elsewhere, key: k}}\nfilters: [{labelMatch: bug, pathsExist: [k]}]"
	wantRepositories(t, c, at, "myorg/one#7 main@c0ffee git@host:myorg/one.git [bug]")
	wantPulls(t, c, "gitea: {owner: myorg, repo: one, api: '"+f.URL+"', tokenRef: {secretName: elsewhere, key: k}}",
		appset.PullRequest{Number: "5", Title: "T", Author: "eve", Branch: "h", TargetBranch: "main", HeadSHA: "1"})
}

func TestBitbucket(t *testing.T) {
	clone := object{"clone": list{object{"name": "https", "href": "https://host/svc"}, object{"name": "ssh", "href": "git@host:svc"}}}
	answers := map[string]page{}
	f := newForge(t, func(r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		return user == "me" && password == token
	}, answers)
	answers["/repositories/acme?page="] = page{object{"values": list{object{"slug": "svc", "uuid": "{1}", "links": clone, "mainbranch": object{"name": "main"}}}, "next": f.URL + "/repositories/acme?page=2"}, ""}
	answers["/repositories/acme?page=2"] = page{object{"values": list{object{"slug": "empty"}}}, ""}
	answers["/repositories/acme/svc/refs/branches/main"] = page{object{"name": "main", "target": object{"hash": "c0ffee"}}, ""}
	answers["/repositories/acme/svc/src/c0ffee/a/b?format=meta"] = page{object{}, ""}
	answers["/repositories/acme/svc/pullrequests?state=OPEN"] = page{object{"values": list{object{"id": 9, "title": "T", "author": object{"nickname": "n"}, "source": object{"branch": object{"name": "s"}, "commit": object{"hash": "h"}}, "destination": object{"branch": object{"name": "d"}}}}}, ""}
	c := &scm.Client{Credentials: secrets{}, Bitbucket: f.URL}
	wantRepositories(t, c, "bitbucket: {owner: acme, user: me, appPasswordRef: {secretName: s, key: k}}\nfilters: [{pathsExist: [a/b]}]", "acme/svc#{1} main@c0ffee git@host:svc []")
	wantPulls(t, c, "bitbucket: {owner: acme, repo: svc, basicAuth: {username: me, passwordRef: {secretName: s, key: k}}}",
		appset.PullRequest{Number: "9", Title: "T", Author: "n", Branch: "s", TargetBranch: "d", HeadSHA: "h"})
}

func TestBitbucketServer(t *testing.T) {
	clone := object{"clone": list{object{"name": "http", "href": "https://host/svc"}, object{"name": "ssh", "href": "ssh://host/svc"}}}
	const at = "/rest/api/1.0/projects/PRJ/repos"
	f := newForge(t, header("Authorization", "Bearer "+token), map[string]page{
		at + "?start=":                       {object{"values": list{object{"id": 1, "slug": "svc", "links": clone, "project": object{"key": "PRJ"}}}, "isLastPage": false, "nextPageStart": 1}, ""},
		at + "?start=1":                      {object{"values": list{object{"id": 2, "slug": "empty"}}, "isLastPage": true}, ""},
		at + "/svc/branches/default":         {object{"displayId": "main", "latestCommit": "c0ffee"}, ""},
		at + "/svc/branches":                 {object{"values": list{object{"displayId": "x", "latestCommit": "1"}}, "isLastPage": true}, ""},
		at + "/empty/branches":               {object{"values": list{}, "isLastPage": true}, ""},
		at + "/svc/browse/a?at=c0ffee":       {object{}, ""},
		at + "/svc/pull-requests?state=OPEN": {object{"values": list{object{"id": 4, "title": "T", "fromRef": object{"displayId": "f", "latestCommit": "h"}, "toRef": object{"displayId": "main"}, "author": object{"user": object{"name": "n"}}}}, "isLastPage": true}, ""},
	})
	c := &scm.Client{Credentials: secrets{}}
	gen := "bitbucketServer: {project: PRJ, api: '" + f.URL + "', bearerToken: {tokenRef: {secretName: elsewhere, key: k}}"
	wantRepositories(t, c, gen+"}\nfilters: [{pathsExist: [a]}]", "PRJ/svc#1 main@c0ffee ssh://host/svc []")
	wantRepositories(t, c, gen+", allBranches: true}\ncloneProtocol: https", "PRJ/svc#1 x@1 https://host/svc []")
	wantPulls(t, c, strings.Replace(gen, "project: PRJ", "project: PRJ, repo: svc", 1)+"}",
		appset.PullRequest{Number: "4", Title: "T", Author: "n", Branch: "f", TargetBranch: "main", HeadSHA: "h"})
}

// TestCredentialsStay has servers that would have the token go to another host,
// by a page or a redirect, and answers that are no answers. Each is an error
// that does not have the token.
func TestCredentialsStay(t *testing.T) {
	stolen := false
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen = true }))
	defer thief.Close()
	for name, serve := range map[string]http.HandlerFunc{
		"next page elsewhere": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "<"+thief.URL+`/x>; rel="next"`)
			fmt.Fprint(w, "[]")
		},
		"redirect elsewhere": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL, http.StatusFound) },
		"server error":       func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.Header.Get("Authorization"), 500) },
		"no JSON":            func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>"+r.Header.Get("Authorization")) },
		"too much":           func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `["`+strings.Repeat("x", 17<<20)+`"]`) },
		"pages without end": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<"+r.URL.Path+`>; rel="next"`)
			fmt.Fprint(w, "[]")
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(serve)
			defer server.Close()
			c := &scm.Client{Credentials: secrets{}, GitHub: server.URL}
			found, err := c.Repositories(t.Context(), generator[argo.SCMProviderGenerator](t, "github: {organization: o, tokenRef: {secretName: s, key: k}}"))
			if err == nil {
				t.Fatalf("it found %v", found)
			}
			if stolen || strings.Contains(err.Error(), token) {
				t.Errorf("the token has gone; error %v", err)
			}
		})
	}
}
