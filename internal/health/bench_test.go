package health

import (
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

// What one watch event costs.
func BenchmarkOf(b *testing.B) {
	for _, c := range []struct{ name, object string }{
		{"Deployment", `{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 1}, status: {updatedReplicas: 1, replicas: 1, availableReplicas: 1}}`},
		{"ConfigMap", `{apiVersion: v1, kind: ConfigMap}`},
		{"Certificate", `{apiVersion: cert-manager.io/v1, kind: Certificate, status: {conditions: [{type: Ready, status: "True", message: up}]}}`},
		{"Bucket of Crossplane", `{apiVersion: s3.aws.upbound.io/v1, kind: Bucket, status: {conditions: [{type: LastAsyncOperation, status: "True"}, {type: Synced, status: "True"}, {type: Ready, status: "True"}]}}`},
		{"Rollout", `{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {generation: 2}, status: {observedGeneration: "2", phase: Healthy}}`},
		{"PromotionStrategy", `{apiVersion: promoter.argoproj.io/v1alpha1, kind: PromotionStrategy, status: {conditions: [{type: Ready, status: "True"}], environments: [{branch: a, active: {dry: {sha: x}}, proposed: {dry: {sha: x}}}, {branch: b, active: {dry: {sha: x}}, proposed: {dry: {sha: y}}}]}}`},
		{"a kind without a rule", `{apiVersion: example.com/v1, kind: Thing, status: {conditions: [{type: Ready, status: "True"}]}}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			obj := parse(b, []byte(c.object))
			Of(core.ArgoCD, obj)
			b.ReportAllocs()
			for b.Loop() {
				Of(core.ArgoCD, obj)
			}
		})
	}
}

// What it costs to see the first object of a kind, and to have the table.
func BenchmarkCompile(b *testing.B) {
	files := shippedFiles(b)
	b.Run("read all", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l, err := newLanguage()
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := l.read(files, core.ArgoCD); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compile one", func(b *testing.B) {
		l, err := newLanguage()
		if err != nil {
			b.Fatal(err)
		}
		rules, _, err := l.read(files, core.ArgoCD)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			r := &rule{spec: rules[i%len(rules)].spec, language: l}
			if err := r.compile(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
