package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	argoproj "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	fairway "github.com/fairway-cd/fairway/api/fairway/v1alpha1"
	"github.com/fairway-cd/fairway/api/flux"
	"github.com/fairway-cd/fairway/internal/controller"
	"github.com/fairway-cd/fairway/internal/controller/repository"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube/dense"
	"github.com/fairway-cd/fairway/internal/web"
)

// engine is the reconcilers and what they stand on.
type engine struct {
	mgr   ctrl.Manager
	core  *controller.Engine
	repos *repository.Reconciler
	view  *deliveries
	stage *stages
	st    *stores
}

// newEngine composes the stages and the reconcilers. Where there are several
// replicas, shards say what is whose.
func (s *Server) newEngine(st *stores, shards controller.Shards) (*engine, error) {
	ctrl.SetLogger(logr.FromSlogHandler(slog.Default().Handler()))
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, argoproj.AddToScheme, flux.AddToScheme, fairway.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	// The engine is bounded by its workers, not by a rate.
	config := rest.CopyConfig(st.config)
	config.QPS, config.Burst = -1, -1
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:   scheme,
		Metrics:  metricsserver.Options{BindAddress: "0"}, // served on the one port
		NewCache: dense.NewCache,
	})
	if err != nil {
		return nil, fmt.Errorf("making the engine: %w", err)
	}
	e := &engine{mgr: mgr, st: st, view: newDeliveries(mgr.GetCache())}
	if e.stage, err = s.newStages(config, st); err != nil {
		return nil, err
	}
	if err := measureDeliveries(metrics.Registry, e.view.List); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	rules := &healthRules{config: config, owners: e.stage.health, recheck: e.stage.fleet.RecheckAll, events: mgr.GetEventRecorder("fairway")}
	if err := mgr.Add(rules); err != nil {
		return nil, fmt.Errorf("making the engine: %w", err)
	}
	timeout, err := s.inst.syncTimeout()
	if err != nil {
		return nil, err
	}
	e.core, err = controller.Setup(mgr, e.stage.forController(st), controller.Options{Shards: shards, SyncTimeout: timeout, Lockdown: s.inst.Config.Lockdown})
	if err != nil {
		return nil, err
	}
	if st.repos == nil {
		return e, nil
	}
	e.repos = repository.New(mgr.GetClient(), repositoryStore{st.repos})
	if err := e.repos.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("making the engine: %w", err)
	}
	return e, nil
}

// Run runs the reconcilers until ctx ends.
func (e *engine) Run(ctx context.Context) error {
	if err := e.mgr.Start(ctx); err != nil {
		return fmt.Errorf("running the engine: %w", err)
	}
	return nil
}

// Ready waits until the caches have filled, adopts the repositories that a
// lost cluster no longer knows, and opens the way for events.
func (e *engine) Ready(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	if err := e.view.watch(waiting, e.mgr.GetCache()); err != nil {
		return err
	}
	if !e.mgr.GetCache().WaitForCacheSync(waiting) {
		return errors.Join(ctx.Err(), errors.New("the engine's caches did not fill in time"))
	}
	if e.repos != nil {
		if err := e.repos.Adopt(ctx); err != nil {
			return err
		}
	}
	e.st.refUpdated.to(func(_ context.Context, u core.RefUpdate) error {
		e.core.RefUpdated(u)
		if e.repos != nil && u.Repository.Name != "" {
			e.repos.Pushed(u.Repository)
		}
		return nil
	})
	noticed := e.core.ForgeNoticed
	e.st.noticed.Store(&noticed)
	pushed := e.core.ImagePushed
	e.st.imagePushed.Store(&pushed)
	return nil
}

func (e *engine) deliveries() web.Deliveries { return e.view }

// routes are the parts of the HTTP API that look into deliveries and change
// them; they check for themselves who asks.
func (e *engine) routes() map[string]http.Handler { return e.core.Routes() }
