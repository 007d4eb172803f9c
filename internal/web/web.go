// Package web is what people and programs see over HTTP beside Git and the
// registry: the API below /api/ and the UI, which uses nothing but that API.
package web

import (
	"context"
	"embed"
	"io/fs"
	"net/http"
	"time"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
	"github.com/fairway-cd/fairway/internal/core/turns"
)

//go:embed ui
var ui embed.FS

// Deliveries is what the API shows. Implementations are safe for concurrent
// use.
type Deliveries interface {
	// List returns all deliveries of the cluster, ordered by namespace and name.
	List(ctx context.Context) ([]Delivery, error)
	// Get returns one, with its resources and history; the error satisfies
	// errors.Is(err, ErrNotFound) where it is not there.
	Get(ctx context.Context, kind, namespace, name string) (*Delivery, error)
	// Changed is closed at the next change of any delivery.
	Changed() <-chan struct{}
}

// ErrNotFound says that there is no such delivery or repository.
var ErrNotFound = problem.New(http.StatusNotFound, "not found")

// Delivery is an Application, a Kustomization or a HelmRelease, as a person wants to see it.
type Delivery struct {
	Kind      string     `json:"kind"`
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Source    string     `json:"source"`
	Path      string     `json:"path"`
	Target    string     `json:"target"`
	Sync      string     `json:"sync"`
	Health    string     `json:"health"`
	Revision  string     `json:"revision"`
	Message   string     `json:"message,omitempty"`
	Pinned    string     `json:"pinned,omitempty"`
	Changed   *time.Time `json:"changed,omitempty"`
	Resources []Resource `json:"resources,omitempty"`
	History   []Deployed `json:"history,omitempty"`
}

// Resource is one object of a delivery.
type Resource struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Sync      string `json:"sync,omitempty"`
	Health    string `json:"health,omitempty"`
	Message   string `json:"message,omitempty"`
}

// Deployed is one entry of a delivery's history.
type Deployed struct {
	ID       int64     `json:"id"`
	Revision string    `json:"revision"`
	At       time.Time `json:"at"`
	By       string    `json:"by,omitempty"`
}

// Options are what the handler is made of.
type Options struct {
	Access     core.Access
	Deliveries Deliveries
	// Status answers /api/v1/status with what it returns, as JSON; all says
	// whether who asks may see everything of the instance.
	Status func(ctx context.Context, all bool) (any, error)
	// Routes are further routes below /api/, by http.ServeMux pattern; they
	// check for themselves who asks.
	Routes map[string]http.Handler
}

// Handler serves the UI at / and the API below /api/. The UI's files are for
// everybody, for they hold nothing; all data come from the API, which asks
// who is there.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	api := &api{o, newFeed(o.Deliveries), turns.New("streams of events", maxStreams, maxUserStreams)}
	mux.Handle("GET /api/v1/status", answers(o.Access, api.status))
	mux.Handle("GET /api/v1/deliveries", answers(o.Access, api.list))
	mux.Handle("GET /api/v1/deliveries/{kind}/{namespace}/{name}", answers(o.Access, api.get))
	mux.HandleFunc("GET /api/v1/events", api.events)
	for pattern, h := range o.Routes {
		mux.Handle(pattern, h)
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		problem.Write(w, r, problem.New(http.StatusNotFound, "there is no such route in the API"))
	})
	files, err := fs.Sub(ui, "ui")
	if err != nil {
		panic(err) // the directory is compiled in
	}
	mux.Handle("/", secured(http.FileServerFS(files)))
	// A browser that knows a password for Git's pages here sends it wherever
	// another site's form points.
	return http.NewCrossOriginProtection().Handler(mux)
}

// secured adds the headers that keep other sites out of the UI.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
