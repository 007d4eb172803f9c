package controller

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/deploy"
)

// stats are what can be measured of the engine.
type stats struct {
	syncs      *prometheus.CounterVec
	heals      prometheus.Counter
	standsBack *prometheus.GaugeVec
	fighting   *prometheus.GaugeVec
	took       *prometheus.HistogramVec
}

// newStats makes the metrics and registers them. A second engine of the
// process, as tests have it, counts into the same ones.
func newStats(r prometheus.Registerer) (*stats, error) {
	syncs, err1 := registered(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fairway_syncs_total", Help: "Syncs that have ended, by result.",
	}, []string{"result"}))
	heals, err2 := registered(r, prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fairway_heals_total", Help: "Times that drifted objects were applied again.",
	}))
	standsBack, err3 := registered(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fairway_stands_back", Help: "1 while another controller of the dialect is active.",
	}, []string{"dialect"}))
	fighting, err4 := registered(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fairway_fighting_objects", Help: "Objects that are changed back each time that they are healed, by the kind of their delivery.",
	}, []string{"kind"}))
	took, err5 := registered(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "fairway_delivery_step_duration_seconds", Help: "How long the steps of a delivery took that was brought out whole, by kind and step: render, apply, wait.",
		Buckets: []float64{0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1800},
	}, []string{"kind", "step"}))
	// What has not happened yet is 0, and not unknown.
	for _, result := range []string{"succeeded", "failed", "superseded"} {
		syncs.WithLabelValues(result)
	}
	for _, d := range []core.Dialect{core.ArgoCD, core.Flux} {
		standsBack.WithLabelValues(string(d))
	}
	return &stats{syncs, heals, standsBack, fighting, took}, errors.Join(err1, err2, err3, err4, err5)
}

// registered registers c, or returns the one that is registered already.
func registered[C prometheus.Collector](r prometheus.Registerer, c C) (C, error) {
	err := r.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return c, err
}

// fightsOf returns what counts the fights of a kind's objects.
func (s *stats) fightsOf(kind string) func(int) {
	g := s.fighting.WithLabelValues(kind)
	return func(n int) { g.Add(float64(n)) }
}

// measure takes the durations of a delivery.
func (s *stats) measure(kind string, took steps) {
	for step, d := range map[string]time.Duration{"render": took.render, "apply": took.apply, "wait": took.wait} {
		s.took.WithLabelValues(kind, step).Observe(d.Seconds())
	}
}

// sync counts one that ended with err.
func (s *stats) sync(err error) {
	result := "succeeded"
	switch {
	case errors.Is(err, deploy.ErrSuperseded):
		result = "superseded"
	case err != nil:
		result = "failed"
	}
	s.syncs.WithLabelValues(result).Inc()
}
