package registry

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/fairway-cd/fairway/internal/core"
)

// listTags serves /v2/NAME/tags/list: all tags in the order of their bytes,
// by pages where the client asks for them or there are very many.
func (g *Registry) listTags(r *http.Request, rt route) (*answer, *apiError) {
	ctx := r.Context()
	there, err := g.store.exists(ctx, repoPath(rt.name)+"/_manifests")
	if err != nil {
		return nil, internalError(err)
	}
	if !there {
		return nil, errorf(http.StatusNotFound, codeNameUnknown, "no such repository")
	}
	all, err := g.store.names(ctx, tagsPath(rt.name))
	if err != nil {
		return nil, internalError(err)
	}
	return listAnswer(r, g.limits.Page, all, func(tags []string) any {
		return struct {
			Name string   `json:"name"`
			Tags []string `json:"tags"`
		}{rt.asked, tags}
	})
}

// listRepositories serves /v2/_catalog: the repositories that the caller may
// read and that are not empty, by their canonical names.
func (g *Registry) listRepositories(r *http.Request, user core.User) (*answer, *apiError) {
	ctx := r.Context()
	var all []string
	sight := core.NewSight(g.access, user, core.Group, core.ResourceImages)
	err := g.store.each(ctx, func(n core.Name) error {
		may, err := sight.Object(ctx, n.Namespace, n.Name)
		if err != nil {
			return accessError(err)
		}
		if !may {
			return nil
		}
		any, err := g.store.hasManifest(ctx, n)
		if err == nil && any {
			all = append(all, n.String())
		}
		return err
	})
	var bad *apiError
	if errors.As(err, &bad) {
		return nil, bad
	} else if err != nil {
		return nil, internalError(err)
	}
	slices.Sort(all)
	return listAnswer(r, g.limits.Page, all, func(names []string) any {
		return struct {
			Repositories []string `json:"repositories"`
		}{names}
	})
}

// listAnswer answers with the page of a sorted list that n and last ask for,
// and links to the next one.
func listAnswer(r *http.Request, most int, all []string, form func([]string) any) (*answer, *apiError) {
	query := r.URL.Query()
	n := most
	if s := query.Get("n"); s != "" {
		asked, err := strconv.Atoi(s)
		if err != nil || asked < 0 {
			return nil, errorf(http.StatusBadRequest, codePaginationInvalid, "n is not a number of entries")
		}
		n = min(asked, most)
	}
	if last := query.Get("last"); last != "" {
		at, found := slices.BinarySearch(all, last)
		if found {
			at++
		}
		all = all[at:]
	}
	page := all[:min(n, len(all))]
	a, bad := jsonAnswer("application/json", form(append([]string{}, page...)))
	if bad == nil && len(page) > 0 && len(page) < len(all) {
		a.next(r, url.Values{"n": {strconv.Itoa(n)}, "last": {page[len(page)-1]}})
	}
	return a, bad
}

// next links to the next page of the list that r asked for (RFC 5988).
func (a *answer) next(r *http.Request, query url.Values) {
	next := url.URL{Path: r.URL.Path, RawQuery: query.Encode()}
	a.header.Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
}
