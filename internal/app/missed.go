package app

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-cd/fairway/internal/core"
)

// countMissed returns what counts and logs the objects of which the watches
// had missed something until the safety resync asked for them again. It should
// stay at zero. A second server of the process, as tests have it, counts into
// the same metric.
func countMissed(r prometheus.Registerer) (func(core.ObjectRef), error) {
	var counter prometheus.Counter = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fairway_missed_changes_total", Help: "Objects of which the watches had missed a change until a resync.",
	})
	if err := r.Register(counter); err != nil {
		var already prometheus.AlreadyRegisteredError
		if !errors.As(err, &already) {
			return nil, err
		}
		if existing, ok := already.ExistingCollector.(prometheus.Counter); ok {
			counter = existing
		}
	}
	return func(ref core.ObjectRef) {
		counter.Inc()
		slog.Warn("a watch has missed a change", "object", ref.String())
	}, nil
}
