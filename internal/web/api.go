package web

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/core/turns"
)

// api answers below /api/. Lists show each user what he may get.
type api struct {
	Options
	feed    *feed
	streams *turns.Turns
}

// answers has requests answered with what serve returns for their user, as
// JSON.
func answers[T any](access core.Access, serve func(*http.Request, core.User) (T, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := access.Authenticate(r)
		var answer T
		if err == nil {
			answer, err = serve(r, user)
		}
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		// The client is gone where this fails.
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// does has requests carried out for their user, and answered with the code
// alone.
func does(access core.Access, code int, do func(*http.Request, core.User) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := access.Authenticate(r)
		if err == nil {
			err = do(r, user)
		}
		if err != nil {
			problem.Write(w, r, err)
			return
		}
		w.WriteHeader(code)
	})
}

// status says more to who may see all deliveries: where things are on the
// machine is not for tenants.
func (a *api) status(r *http.Request, user core.User) (any, error) {
	all, err := newEyes(a.Access, user).all(r.Context())
	if err != nil {
		return nil, err
	}
	return a.Status(r.Context(), all)
}

func (a *api) list(r *http.Request, user core.User) (json.RawMessage, error) {
	l, err := a.feed.get(r.Context(), 0)
	if err != nil {
		return nil, err
	}
	e := newEyes(a.Access, user)
	if query := r.URL.Query(); query.Has("name") {
		return l.named(r.Context(), e, query.Get("name"))
	}
	return l.seen(r.Context(), e)
}

func (a *api) get(r *http.Request, user core.User) (*Delivery, error) {
	d := Delivery{Kind: r.PathValue("kind"), Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	if err := a.Access.Authorize(r.Context(), user, d.owner().Action("get")); err != nil {
		return nil, err
	}
	return a.Deliveries.Get(r.Context(), d.Kind, d.Namespace, d.Name)
}

// owner is the delivery's object.
func (d *Delivery) owner() core.Owner {
	o := core.Owner{Dialect: core.ArgoCD, Kind: d.Kind, Namespace: d.Namespace, Name: d.Name}
	if d.Kind == "Kustomization" || d.Kind == core.HelmRelease {
		o.Dialect = core.Flux
	}
	return o
}

// maxBody bounds what the API reads of a request.
const maxBody = 64 << 10

// readJSON reads the body of a request; none is nothing.
func readJSON(r *http.Request, into any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	var large *http.MaxBytesError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &large):
		return err
	default:
		return problem.New(http.StatusBadRequest, "reading the request: %s", err)
	}
}
