package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"

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
// but the server. An Application comes before a Kustomization, as in find.
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
	found, lookup := api.kustomizations(ctx, key.Name, namespace)
	switch {
	case lookup != nil:
		return lookup
	case len(found) > 1:
		return ambiguous(key.Name, found[0].Namespace, found[1].Namespace)
	case len(found) == 1:
		return api.ask(ctx, "kustomizations", found[0], r)
	case refusedWith(err, http.StatusNotFound):
		return o.nothing(name)
	}
	return err
}

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

// kustomizations are those of a name that the user may get, in a namespace or
// in all.
func (c *apiClient) kustomizations(ctx context.Context, name, namespace string) ([]client.ObjectKey, error) {
	var named []web.Delivery
	if err := c.do(ctx, http.MethodGet, "/api/v1/deliveries?name="+url.QueryEscape(name), nil, &named); err != nil {
		return nil, err
	}
	var keys []client.ObjectKey
	for _, d := range named {
		if d.Kind == kustomizev1.KustomizationKind && (namespace == "" || d.Namespace == namespace) {
			keys = append(keys, client.ObjectKey{Namespace: d.Namespace, Name: d.Name})
		}
	}
	return keys, nil
}
