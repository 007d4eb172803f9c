package dense

import (
	"encoding/json"
	"fmt"
	"testing"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/internal/testkit"
)

func deployment(namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": name, "namespace": namespace, "annotations": map[string]any{"a": "b"}},
		"spec": map[string]any{
			"replicas": int64(0), "selector": map[string]any{"matchLabels": map[string]any{"app": name}},
			"template": map[string]any{
				"metadata": map[string]any{"labels": map[string]any{"app": name}},
				"spec":     map[string]any{"containers": []any{map[string]any{"name": "web", "image": "web:1"}}},
			},
		},
	}}
	u.SetAPIVersion("apps/v1")
	u.SetKind("Deployment")
	return u
}

func config(t *testing.T) *rest.Config {
	t.Helper()
	c := testkit.StartCluster(t, testkit.ClusterOptions{})
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// What is read is what the API server has, what is held is small, and what is
// read does not change what is held.
func TestCache(t *testing.T) {
	config := config(t)
	direct, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := deployment("default", "web")
	if err := direct.Create(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	c, err := NewCache(config, cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Start(t.Context()) }()
	kind := &unstructured.Unstructured{}
	kind.SetGroupVersionKind(want.GroupVersionKind())
	informer, err := c.GetInformer(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	var held []*unstructured.Unstructured
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: func(obj any) {
		held = append(held, obj.(*unstructured.Unstructured))
	}}); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKeyFromObject(want)
	same := func(what string, got *unstructured.Unstructured) error {
		for _, field := range []string{"apiVersion", "kind", "spec"} {
			if !apiequality.Semantic.DeepEqual(got.Object[field], want.Object[field]) {
				return fmt.Errorf("%s: %s is %v, want %v", what, field, got.Object[field], want.Object[field])
			}
		}
		if _, there := got.Object["status"].(map[string]any); !there || got.GetAnnotations()["a"] != "b" || got.GetManagedFields() != nil {
			return fmt.Errorf("%s: %v", what, got.Object)
		}
		return nil
	}
	look := func() error {
		got := kind.DeepCopy()
		if err := c.Get(t.Context(), key, got); err != nil {
			return err
		}
		if err := same("got", got); err != nil {
			return err
		}
		delete(got.Object, "spec")
		for _, o := range [][]client.ListOption{{}, {client.UnsafeDisableDeepCopy}} {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(want.GroupVersionKind())
			if err := c.List(t.Context(), list, append(o, client.InNamespace("default"))...); err != nil {
				return err
			}
			if len(list.Items) != 1 {
				return fmt.Errorf("%d objects are listed", len(list.Items))
			}
			if err := same("listed", &list.Items[0]); err != nil {
				return err
			}
			delete(list.Items[0].Object, "spec")
		}
		return nil
	}
	testkit.Eventually(t, "the cache to have it", look)
	if err := look(); err != nil {
		t.Errorf("the second time: %v", err)
	}
	if len(held) != 1 {
		t.Fatalf("told of %d objects", len(held))
	}
	spec, isPacked := held[0].Object["spec"].(packed)
	if !isPacked || len(spec) > 700 || held[0].GetName() != "web" {
		t.Errorf("held is %v", held[0].Object)
	}
	if !apiequality.Semantic.DeepEqual(Field(held[0], "spec"), want.Object["spec"]) || Field(held[0], "nothing") != nil {
		t.Errorf("the field is %v", Field(held[0], "spec"))
	}
}

func TestPackedIsEqualWhereItIsTheSame(t *testing.T) {
	a, b := deployment("x", "y"), deployment("x", "y")
	for _, u := range []*unstructured.Unstructured{a, b, b} { // twice is once
		if err := pack(u); err != nil {
			t.Fatal(err)
		}
	}
	if a.Object["spec"] != b.Object["spec"] {
		t.Error("the same is packed in two ways")
	}
	copied := b.DeepCopy() // it would panic if it did not know the type
	if err := unpack(copied); err != nil || !apiequality.Semantic.DeepEqual(copied.Object, deployment("x", "y").Object) {
		t.Errorf("unpacked: %v, %v", copied.Object, err)
	}
}

// Nobody can write what is taken for packed: one object would keep all others
// from being listed, or make a gigabyte of ten bytes.
func TestWhatIsWrittenIsNeverTakenForPacked(t *testing.T) {
	forged, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "x"},
		"bomb": "\xff\xff\xff\xff\x0f", "number": json.Number("12345678901234567890"), "small": 7, "null": nil,
	})
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(forged); err != nil {
		t.Fatal(err)
	}
	want := u.DeepCopy()
	if err := pack(u); err != nil {
		t.Fatal(err)
	}
	if err := unpack(u); err != nil || !apiequality.Semantic.DeepEqual(u.Object, want.Object) {
		t.Errorf("%v, %v", u.Object, err)
	}
	for name, value := range u.Object {
		if _, number := value.(packed); number {
			t.Errorf("%s was read as %T", name, value)
		}
	}
}
