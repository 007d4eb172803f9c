package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/internal/web"
)

// request is what the server is asked about a delivery.
type request struct {
	method string
	// what is the last part of the route, such as "diff?revision=v1".
	what string
	// in is the body, nil for none; the answer is read into out.
	in, out any
}

// asking is a request to read, at a revision where there is one.
func asking(what, revision string, out any) request {
	if revision != "" {
		what += "?revision=" + url.QueryEscape(revision)
	}
	return request{method: http.MethodGet, what: what, out: out}
}

// ask has the server answer for the delivery of that name, and needs nothing
// but the server. An Application comes before a Kustomization, and that before a
// HelmRelease, as in find.
func (o *appOptions) ask(ctx context.Context, name string, r request) error {
	api, err := o.api(ctx)
	if err != nil {
		return err
	}
	key, there := o.key(name)
	err = api.ask(ctx, "applications", key, r)
	if !elsewhere(err) {
		return err
	}
	namespace := ""
	if there {
		namespace = key.Namespace
	}
	named, lookup := api.named(ctx, key.Name)
	if lookup != nil {
		return lookup
	}
	switch found := ofFlux(named, namespace); {
	case len(found) > 1:
		return ambiguous(found[0].Kind, key.Name, found[0].Namespace, found[1].Namespace)
	case len(found) == 1:
		return api.askFlux(ctx, found[0], r)
	case refusedWith(err, http.StatusNotFound):
		return o.nothing(name)
	}
	return err
}

// askFlux asks about an object of Flux' kinds.
func (c *apiClient) askFlux(ctx context.Context, d web.Delivery, r request) error {
	key := client.ObjectKey{Namespace: d.Namespace, Name: d.Name}
	if d.Kind != helmv2.HelmReleaseKind {
		return c.ask(ctx, "kustomizations", key, r)
	}
	what, _, _ := strings.Cut(r.what, "?")
	if did := notForHelm[what]; did != "" {
		return helmOnly(d.Name, did, "helm list -n "+d.Target)
	}
	return c.ask(ctx, "helmreleases", key, r)
}

// notForHelm is what a HelmRelease cannot be, by the route that does it.
var notForHelm = map[string]string{"rollback": "rolled back by commit", "live": "compared with others"}

func (c *apiClient) ask(ctx context.Context, resource string, key client.ObjectKey, r request) error {
	path := "/api/v1/" + resource + "/" + url.PathEscape(key.Namespace) + "/" + url.PathEscape(key.Name) + "/" + r.what
	return c.do(ctx, r.method, path, r.in, r.out)
}

// elsewhere says that what was asked for may be of another kind or in another
// namespace: who may not get an Application is not told whether there is one.
func elsewhere(err error) bool {
	return refusedWith(err, http.StatusNotFound) || refusedWith(err, http.StatusForbidden)
}

func refusedWith(err error, status int) bool {
	var refused *apiError
	return errors.As(err, &refused) && refused.status == status
}

// named are the deliveries of a name that the user may get.
func (c *apiClient) named(ctx context.Context, name string) (found []web.Delivery, err error) {
	err = c.do(ctx, http.MethodGet, "/api/v1/deliveries?name="+url.QueryEscape(name), nil, &found)
	return found, err
}

// ofFlux are those of Flux' kinds in a namespace or in all: the Kustomizations,
// and the HelmReleases where there is none.
func ofFlux(named []web.Delivery, namespace string) []web.Delivery {
	for _, kind := range []string{kustomizev1.KustomizationKind, helmv2.HelmReleaseKind} {
		var found []web.Delivery
		for _, d := range named {
			if d.Kind == kind && (namespace == "" || d.Namespace == namespace) {
				found = append(found, d)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}
