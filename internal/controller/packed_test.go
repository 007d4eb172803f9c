package controller

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

func TestPacked(t *testing.T) {
	var objects []*unstructured.Unstructured
	for i, text := range []string{
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: \"<&>\\u2028\"}\n",
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: b}\nspec: {replicas: 3, ratio: 0.5, on: true, nothing: null, list: [1, x, {}]}\n",
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {big: " + strings.Repeat("x", 1<<20) + "}\n",
	} {
		o := &unstructured.Unstructured{}
		data, err := yaml.YAMLToJSON([]byte(text))
		if err == nil {
			err = o.UnmarshalJSON(data)
		}
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		objects = append(objects, o)
	}
	p := pack(objects)
	if len(p) > 200<<10 {
		t.Errorf("a megabyte of the same takes %d bytes", len(p))
	}
	first, second := p.list(), p.list()
	if !reflect.DeepEqual(first, objects) {
		t.Errorf("%v became %v", objects[:2], first[:2])
	}
	// They are the caller's own.
	first[0].SetName("changed")
	if second[0].GetName() != "a" || p.list()[0].GetName() != "a" {
		t.Error("what one caller changes the others see")
	}
	if none := pack(nil).list(); len(none) != 0 || packed(nil).list() != nil {
		t.Errorf("nothing became %v", none)
	}
}

func TestWrittenUntilItIsShown(t *testing.T) {
	object := func(version int) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{}}
		u.SetName("a")
		u.SetResourceVersion(fmt.Sprint(version))
		return u
	}
	m := newMemories()
	w := &m.of(client.ObjectKeyFromObject(object(0))).written
	w.Store(object(5))
	m.shown(object(4))
	if w.Load() == nil {
		t.Error("it is forgotten while the cache shows an older one")
	}
	m.shown(object(5))
	if w.Load() != nil {
		t.Error("it is kept though the cache shows it")
	}
	m.shown(object(7)) // somebody else's
	w.Store(object(6)) // the answer comes after the event
	if w.Load() != nil {
		t.Error("it is kept though the cache has shown a newer one")
	}
	w.Store(object(8))
	if w.Load() == nil {
		t.Error("it is forgotten before the cache shows it")
	}
}
