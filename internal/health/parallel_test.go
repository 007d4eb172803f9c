package health

import (
	"sync"
	"testing"

	"github.com/fairway-cd/fairway/internal/core"
)

// Many ask for kinds that nobody has asked for yet, at the same time, and are
// told the same.
func TestParallel(t *testing.T) {
	l, err := newLanguage()
	if err != nil {
		t.Fatal(err)
	}
	_, indexes, err := l.read(shippedFiles(t), core.ArgoCD)
	if err != nil {
		t.Fatal(err)
	}
	fresh := &Table{argo: indexes[core.ArgoCD]}
	objects := []string{
		`{apiVersion: cert-manager.io/v1, kind: Certificate, status: {conditions: [{type: Ready, status: "True"}]}}`,
		`{apiVersion: promoter.argoproj.io/v1alpha1, kind: PromotionStrategy, status: {conditions: [{type: Ready, status: "True"}], environments: [{branch: a, active: {dry: {sha: x}}, proposed: {dry: {sha: x}}}]}}`,
		`{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, status: {parents: [{conditions: [{type: Accepted, status: "True"}]}]}}`,
	}
	var wg sync.WaitGroup
	for range 8 {
		for _, text := range objects {
			obj := parse(t, []byte(text))
			wg.Go(func() {
				if h, msg := fresh.Of(core.ArgoCD, obj); h != core.Healthy {
					t.Errorf("%s is %s %q", obj.GetKind(), h, msg)
				}
			})
		}
	}
	wg.Wait()
}
