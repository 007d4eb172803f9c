package deploy

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

func TestPointers(t *testing.T) {
	obj := map[string]any{"a/b": []any{map[string]any{"x~y": int64(1), "z": "w"}, "second"}}
	if v, ok := lookup(obj, "/a~1b/0/x~0y"); !ok || v != int64(1) {
		t.Errorf("found %v, %v", v, ok)
	}
	for _, p := range []string{"/a~1b/2", "/a~1b/-1", "/a~1b/0/x~0y/more", "/none"} {
		if v, ok := lookup(obj, p); ok {
			t.Errorf("%s is %v", p, v)
		}
	}
	replace(obj, "/a~1b/0/z", "new")
	remove(obj, "/a~1b/0/x~0y")
	remove(obj, "/a~1b/1")
	remove(obj, "/none/at/all")
	if want := map[string]any{"a/b": []any{map[string]any{"z": "new"}, nil}}; !reflect.DeepEqual(obj, want) {
		t.Errorf("left is %v", obj)
	}
}

func FuzzPointer(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":1}]}`), "/a/0/b")
	f.Add([]byte(`{"":{"~":1}}`), "//~0")
	f.Add([]byte(`{"a":1}`), "a//~")
	f.Fuzz(func(t *testing.T, b []byte, pointer string) {
		var v map[string]any
		if json.Unmarshal(b, &v) != nil || v == nil {
			return
		}
		if len(elements(pointer)) == 0 {
			return
		}
		if _, ok := lookup(v, pointer); !ok {
			return
		}
		replace(v, pointer, "new")
		if got, ok := lookup(v, pointer); !ok || got != "new" {
			t.Errorf("%q is %v after it was replaced", pointer, got)
		}
		remove(v, pointer)
		if got, _ := lookup(v, pointer); got != nil {
			t.Errorf("%q is %v after it was removed", pointer, got)
		}
	})
}

// What people write into annotations is read or refused, by name.
func FuzzAnnotations(f *testing.F) {
	f.Add("Prune=false,Force=true", "IgnoreExtraneous", "5", "PreSync,Sync", "HookSucceeded", "merge")
	f.Add(",,=", "x", "99999999999999999999", "Skip", "Never", "IGNORE")
	f.Fuzz(func(t *testing.T, sync, compare, wave, hookType, policy, ssa string) {
		obj := &unstructured.Unstructured{Object: map[string]any{}}
		obj.SetAnnotations(map[string]string{
			annotationSyncOptions: sync, annotationCompareOptions: compare, annotationWave: wave,
			annotationHook: hookType, annotationHookPolicy: policy, "kustomize.toolkit.fluxcd.io/ssa": ssa,
		})
		argo, flux := core.Owner{Dialect: core.ArgoCD}, core.Owner{Dialect: core.Flux}
		if h, err := hookOf(argo, obj); err == nil && h != nil && !h.skip && len(h.phases) == 0 {
			t.Errorf("a hook without a phase: %q", hookType)
		}
		if s, err := settingsOf(flux, obj, Options{}); err == nil && s.wave != 0 {
			t.Error("Flux has no waves")
		}
		if h, err := hookOf(flux, obj); h != nil || err != nil {
			t.Error("Flux has no hooks")
		}
		_, _ = settingsOf(argo, obj, Options{})
	})
}

func FuzzJQ(f *testing.F) {
	f.Add(".spec.replicas")
	f.Add(".spec.containers[] | select(.name == \"a\") | .image")
	f.Add("..")
	f.Add("$ENV")
	f.Add("input_filename, env")
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": int64(1), "containers": []any{map[string]any{"name": "a", "image": "i"}}}}}
	f.Fuzz(func(t *testing.T, expr string) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ps, err := jqPointers(ctx, expr, obj)
		if err != nil {
			return
		}
		for _, p := range ps {
			remove(obj.DeepCopy().Object, p)
		}
	})
}
