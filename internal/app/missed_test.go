package app

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestCountMissed(t *testing.T) {
	r := prometheus.NewRegistry()
	for range 2 { // two servers of one process
		missed, err := countMissed(r)
		if err != nil {
			t.Fatal(err)
		}
		missed(core.ObjectRef{Kind: "ConfigMap", Namespace: "n", Name: "m"})
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 1 || families[0].GetMetric()[0].GetCounter().GetValue() != 2 {
		t.Errorf("metrics are %v", families)
	}
}
