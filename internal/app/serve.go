package app

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/footprint"
	"github.com/fairway-cd/fairway/internal/identity"
	"github.com/fairway-cd/fairway/internal/identity/certs"
	"github.com/fairway-cd/fairway/internal/web"
)

// serve starts the listeners and the engine in the group. It returns when the
// engine's caches have filled and everything answers.
func (s *Server) serve(ctx context.Context, group *errgroup.Group, st *stores, n *node) error {
	s.progress(Step{Name: "starting the engine"})
	var shards controller.Shards
	if s.inst.Config.Paused {
		shards = newGate(s.inst, func() { s.update(func(st *State) { st.Paused = false }) })
		s.update(func(st *State) { st.Paused = true })
	}
	engine, err := s.newEngine(st, shards)
	if err != nil {
		return err
	}
	source, err := s.certificates(st)
	if err != nil {
		return err
	}
	listeners, err := s.listen(ctx, st, source)
	if err != nil {
		return err
	}
	sealing := engine.core.SealedRoutes()
	handler, err := s.handler(st, engine, sealing)
	if err != nil {
		return err
	}
	serveListeners(ctx, group, handler, listeners)
	if st.cluster.embedded {
		if err := s.serveSealing(ctx, group, st.client, sealing); err != nil {
			return err
		}
	}
	group.Go(func() error { return st.tls.Run(ctx) })
	if source != st.tls {
		group.Go(func() error { return source.Run(ctx) })
	}
	group.Go(func() error { return engine.stage.workers(ctx) })
	group.Go(func() error { return engine.Run(ctx) })
	if err := engine.Ready(ctx); err != nil {
		return err
	}
	group.Go(func() error { return st.git.Run(ctx) })
	group.Go(func() error { return engine.collect(ctx) })
	group.Go(func() error { return engine.sweepMirrors(ctx) })
	group.Go(func() error { return s.renewOperator(ctx, st, operatorCheck) })
	group.Go(func() error {
		footprint.Own().Keep(ctx)
		return nil
	})
	if !st.cluster.plan.real {
		return nil
	}
	group.Go(func() error { return s.renewNodeRegistry(ctx, st) })
	s.progress(Step{Name: "starting the node"})
	return n.ready(ctx)
}

// certificates is what addresses off loopback are served with: the files that
// were given, read again as they change, or our own.
func (s *Server) certificates(st *stores) (certs.Source, error) {
	if s.inst.Config.TLSCert == "" {
		return st.tls, nil
	}
	return certs.Load(s.inst.Config.TLSCert, s.inst.Config.TLSKey)
}

// listen takes all addresses: the loopback ones, those asked for, and the
// node's side of the house.
func (s *Server) listen(ctx context.Context, st *stores, source certs.Source) ([]listener, error) {
	all, err := s.inst.listenLoopback()
	if err != nil {
		return nil, err
	}
	if st.cluster.plan.real {
		l, err := s.listenNode(ctx, st)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	for _, address := range s.inst.Config.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, &StartError{fmt.Sprintf("%s cannot be listened on: %v", address, err), "see --listen"}
		}
		one := listener{Listener: l}
		if certs.NeedsTLS(l.Addr()) {
			one.tls = certs.Config(source)
		}
		all = append(all, one)
	}
	return all, nil
}

// handler is the one port: Git, registry, hooks, API, UI, metrics, health.
func (s *Server) handler(st *stores, e *engine, sealing map[string]http.Handler) (http.Handler, error) {
	mux := http.NewServeMux()
	hooks, err := st.git.Hooks((&hookSecrets{client: st.client}).of)
	if err != nil {
		return nil, err
	}
	mux.Handle("/hooks/", hooks)
	gitHandler := st.git.Handler(st.access)
	mux.Handle("/git", gitHandler)
	mux.Handle("/git/", gitHandler)
	mux.Handle("/v2/", st.registry)
	mux.Handle("/metrics", identity.Require(st.access, func(*http.Request) core.Action {
		return core.Action{Verb: "get", Resource: "nodes", Name: "metrics"}
	})(promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{})))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	for pattern, h := range sealing {
		mux.Handle(pattern, h)
	}
	routes := web.RepositoryRoutes(st.access, repositoryAPI{st.repos})
	maps.Copy(routes, web.ImageRoutes(st.access, e.collectNow))
	costly := e.routes()
	costly[web.RepositoryList] = routes[web.RepositoryList] // measures each on disk
	maps.Copy(costly, web.SourceRoutes(st.access, &sourceList{e.mgr.GetCache()}))
	maps.Copy(routes, web.Bounded(st.access, web.DeliveryBounds(), costly))
	mux.Handle("/", web.Handler(web.Options{
		Access:     st.access,
		Deliveries: e.deliveries(),
		Status: func(ctx context.Context, all bool) (any, error) {
			if !all {
				return s.inst.doors(), nil
			}
			status, err := s.inst.Status(ctx)
			// The operator's credential is for the operator's own eyes.
			status.GitURL = status.PublicGitURL()
			return status, err
		},
		Routes: routes,
	}))
	return mux, nil
}
