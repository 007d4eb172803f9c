package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
)

type api struct{ Options }

// authenticated lets through who may list deliveries.
func (a *api) authenticated(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := a.Access.Authenticate(r)
		if err == nil {
			err = a.Access.Authorize(r.Context(), user, core.Action{
				Verb: "get", Group: "argoproj.io", Resource: "applications"})
		}
		if err != nil {
			refuse(w, err)
			return
		}
		next(w, r)
	})
}

// refuse answers with what the error means in HTTP.
func refuse(w http.ResponseWriter, err error) {
	var (
		forbidden *core.ForbiddenError
		namespace *core.NoNamespaceError
	)
	switch {
	case errors.Is(err, core.ErrUnauthenticated):
		// No WWW-Authenticate: the UI asks for the token itself.
		writeError(w, http.StatusUnauthorized, err.Error())
	case errors.As(err, &forbidden):
		writeError(w, http.StatusForbidden, err.Error())
	case errors.Is(err, ErrNotFound):
		writeError(w, http.StatusNotFound, err.Error())
	case errors.As(err, &namespace):
		writeError(w, http.StatusNotFound, namespace.Error()+"; "+namespace.Hint())
	default:
		writeError(w, http.StatusServiceUnavailable, err.Error())
	}
}

func (a *api) status(w http.ResponseWriter, r *http.Request) {
	s, err := a.Status(r.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, s)
}

func (a *api) list(w http.ResponseWriter, r *http.Request) {
	all, err := a.Deliveries.List(r.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, all)
}

// named lists the deliveries of a name that the user may get, for who may not
// list them all.
func (a *api) named(w http.ResponseWriter, r *http.Request) {
	user, err := a.Access.Authenticate(r)
	if err != nil {
		refuse(w, err)
		return
	}
	all, err := a.Deliveries.List(r.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	visible := []Delivery{}
	for _, d := range all {
		if d.Name != r.URL.Query().Get("name") {
			continue
		}
		err := a.Access.Authorize(r.Context(), user, d.action("get"))
		var forbidden *core.ForbiddenError
		switch {
		case err == nil:
			visible = append(visible, d)
		case !errors.As(err, &forbidden):
			refuse(w, err)
			return
		}
	}
	writeJSON(w, visible)
}

// byName has requests with a name answered by named.
func byName(named http.HandlerFunc, all http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("name") {
			named(w, r)
			return
		}
		all.ServeHTTP(w, r)
	})
}

// action is what the user does with the delivery's object.
func (d Delivery) action(verb string) core.Action {
	a := core.Action{Verb: verb, Group: string(core.ArgoCD), Resource: "applications", Namespace: d.Namespace, Name: d.Name}
	if d.Kind == "Kustomization" {
		a.Group, a.Resource = string(core.Flux), "kustomizations"
	}
	return a
}

func (a *api) get(w http.ResponseWriter, r *http.Request) {
	d, err := a.Deliveries.Get(r.Context(), r.PathValue("kind"), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, d)
}

const (
	// eventPause bounds how often a stream is written, however much happens.
	eventPause = 250 * time.Millisecond
	// eventKeepAlive finds out about clients that are gone.
	eventKeepAlive = 20 * time.Second
	// eventStall is how long a client may take to take one event.
	eventStall = 30 * time.Second
	// eventLife ends a stream, so that a revoked token does not listen for ever;
	// EventSource connects again by itself.
	eventLife = 10 * time.Minute
)

// events streams the list of deliveries, now and at each change, as
// server-sent events.
func (a *api) events(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), eventLife)
	defer cancel()
	out := http.NewResponseController(w)
	// A client that takes nothing any more is left alone, or it would hold this
	// for ever.
	patience := func() error { return out.SetWriteDeadline(time.Now().Add(eventStall)) }
	if err := patience(); err != nil {
		writeError(w, http.StatusInternalServerError, "this connection cannot stream")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	for {
		changed := a.Deliveries.Changed()
		if err := patience(); err != nil {
			return
		}
		if err := a.writeEvent(ctx, w); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		if !waitChange(ctx, w, out, changed) {
			return
		}
	}
}

func (a *api) writeEvent(ctx context.Context, w http.ResponseWriter) error {
	all, err := a.Deliveries.List(ctx)
	if err != nil {
		_, err = fmt.Fprintf(w, "event: trouble\ndata: %q\n\n", err.Error())
		return err
	}
	data, err := json.Marshal(all)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "event: deliveries\ndata: %s\n\n", data)
	return err
}

// waitChange returns true at the next change, and false when the stream ends.
func waitChange(ctx context.Context, w http.ResponseWriter, out *http.ResponseController, changed <-chan struct{}) bool {
	keepAlive := time.NewTicker(eventKeepAlive)
	defer keepAlive.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-keepAlive.C:
			if err := out.SetWriteDeadline(time.Now().Add(eventStall)); err != nil {
				return false
			}
			if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil {
				return false
			}
			if err := out.Flush(); err != nil {
				return false
			}
		case <-changed:
			select {
			case <-ctx.Done():
				return false
			case <-time.After(eventPause):
				return true
			}
		}
	}
}
