package drift

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/kube"
	"github.com/fairway-cd/fairway/internal/mark"
)

// What is kept of an object is under a kilobyte, names and the owner's list
// of objects included, however large the object is.
func TestMemoryPerObject(t *testing.T) {
	manifest, err := os.ReadFile("testdata/deployment.json")
	if err != nil {
		t.Fatal(err)
	}
	c := New(nil)
	const apps, each = 1000, 10
	before := heap()
	for a := range apps {
		owner := core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: fmt.Sprintf("app-%04d", a)}
		var refs []core.ObjectRef
		for o := range each {
			obj := &unstructured.Unstructured{}
			if err := obj.UnmarshalJSON(manifest); err != nil {
				t.Fatal(err)
			}
			obj.SetNamespace(fmt.Sprintf("team-%04d", a))
			obj.SetName(fmt.Sprintf("web-application-%d", o))
			mark.Tracking{ArgoNamespace: "argocd"}.Write(obj, owner, "")
			ref := core.ObjectRef{Group: "apps", Version: "v1", Kind: "Deployment", Namespace: obj.GetNamespace(), Name: obj.GetName()}
			refs = append(refs, ref)
			c.Expect(owner, refs)
			c.kinds[groupKindOf(ref)].Set(kube.Key{Namespace: ref.Namespace, Name: ref.Name}, c.project(obj))
		}
	}
	bytes := float64(heap()-before) / (apps * each)
	t.Logf("%.0f bytes an object, of %d bytes", bytes, len(manifest))
	if bytes > 1024 {
		t.Errorf("an object takes %.0f bytes", bytes)
	}
	if s := c.State(core.Owner{Dialect: core.ArgoCD, Kind: "Application", Namespace: "argocd", Name: "app-0000"}); len(s) != each {
		t.Errorf("%d objects are known", len(s))
	}
}

func BenchmarkProject(b *testing.B) {
	manifest, err := os.ReadFile("testdata/deployment.json")
	if err != nil {
		b.Fatal(err)
	}
	obj := &unstructured.Unstructured{}
	if err := obj.UnmarshalJSON(manifest); err != nil {
		b.Fatal(err)
	}
	c := New(nil)
	b.ReportAllocs()
	for b.Loop() {
		c.project(obj)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
