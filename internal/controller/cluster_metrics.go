package controller

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-cd/fairway/internal/fleet"
)

// newConnected makes the metric that says which clusters answer.
func newConnected(r prometheus.Registerer) (*prometheus.GaugeVec, error) {
	return registered(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fairway_cluster_connected", Help: "1 for each cluster of a Secret that answers, 0 for one that does not or cannot be used.",
	}, []string{"cluster"}))
}

// measureClusters says how it stands with the clusters now. It does not block.
func (e *Engine) measureClusters() {
	if !e.clusters.listed() {
		return
	}
	known, err := e.clusters.known(context.Background())
	if err != nil {
		return
	}
	e.connected.Reset()
	for _, k := range known {
		if k.server == home.server {
			continue
		}
		value := 0.0
		if k.cluster != nil && e.stages.Fleet.Connection(k.cluster).Phase == fleet.Connected {
			value = 1
		}
		e.connected.WithLabelValues(k.name).Set(value)
	}
}
