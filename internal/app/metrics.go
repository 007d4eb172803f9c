package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-cd/fairway/internal/web"
)

// deliveryMetrics counts deliveries by their state whenever it is asked. Which
// delivery is how is the API's to say: a label for each would be a series for
// each.
type deliveryMetrics struct {
	list  func(context.Context) ([]web.Delivery, error)
	count *prometheus.Desc
}

var _ prometheus.Collector = (*deliveryMetrics)(nil)

// scrapeTime bounds how long a scrape may take to list the deliveries.
const scrapeTime = 5 * time.Second

// measureDeliveries registers it. A second server of the process, as tests have
// it, takes the place of the first.
func measureDeliveries(r prometheus.Registerer, list func(context.Context) ([]web.Delivery, error)) error {
	m := &deliveryMetrics{list, prometheus.NewDesc("fairway_deliveries",
		"Deliveries by kind, sync status and health.", []string{"kind", "sync", "health"}, nil)}
	err := r.Register(m)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		r.Unregister(already.ExistingCollector)
		err = r.Register(m)
	}
	return err
}

// Describe implements prometheus.Collector.
func (m *deliveryMetrics) Describe(out chan<- *prometheus.Desc) { out <- m.count }

// Collect implements prometheus.Collector.
func (m *deliveryMetrics) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	all, err := m.list(ctx)
	if err != nil {
		slog.Warn("listing the deliveries for a scrape", "error", err)
		return
	}
	type state struct{ kind, sync, health string }
	counts := map[state]int{}
	for _, d := range all {
		counts[state{d.Kind, orUnknown(d.Sync), orUnknown(d.Health)}]++
	}
	for s, n := range counts {
		out <- prometheus.MustNewConstMetric(m.count, prometheus.GaugeValue, float64(n), s.kind, s.sync, s.health)
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "Unknown"
	}
	return s
}
