package drift_test

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/drift"
)

// BenchmarkHeal is the time from a scale by hand until the answer that it is
// scaled back, with nothing but the watch and the deployer in between.
func BenchmarkHeal(b *testing.B) {
	bench := newBench(b)
	p := bench.plan(bench.owner, web)
	bench.deliver(p)
	bench.seen(bench.owner, 1)
	p.Only = []core.ObjectRef{{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: bench.namespace, Name: "web"}}
	var took []time.Duration
	b.ResetTimer()
	for range b.N {
		bench.patch("apps", "Deployment", "web", "kubectl", `{"spec":{"replicas":5}}`, "scale")
		start := time.Now()
		bench.until(bench.owner, "the drift", is(drift.Modified, "kubectl"))
		bench.deliver(p)
		took = append(took, time.Since(start))
	}
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
	d, err := cluster.Client.AppsV1().Deployments(bench.namespace).Get(b.Context(), "web", metav1.GetOptions{})
	if err != nil || *d.Spec.Replicas != 2 {
		b.Errorf("it has %v replicas, %v", d.Spec.Replicas, err)
	}
}
