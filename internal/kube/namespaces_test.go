package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// told writes down what a sink is told.
type told []string

func (s *told) Project(*unstructured.Unstructured) string { return "" }
func (s *told) Set(key Key, v string)                     { *s = append(*s, fmt.Sprintf("set %s=%s", key.Name, v)) }
func (s *told) Delete(key Key)                            { *s = append(*s, "delete "+key.Name) }
func (s *told) Replace(all map[Key]string) {
	var list []string
	for key, v := range all {
		list = append(list, key.Name+"="+v)
	}
	slices.Sort(list)
	*s = append(*s, "replace "+strings.Join(list, " "))
}

func TestMergedNamespaces(t *testing.T) {
	var sink told
	all := &merged[string]{sink: &sink, waiting: 2, first: map[Key]string{}}
	one, two := &mergedPart[string]{of: all}, &mergedPart[string]{of: all}
	key := func(name string) Key { return Key{Namespace: "n", Name: name} }
	one.Replace(map[Key]string{key("a"): "1", key("b"): "1"})
	one.Set(key("c"), "1")
	one.Delete(key("b"))
	if len(sink) > 0 {
		t.Fatalf("something was told before all is known: %v", sink)
	}
	two.Replace(map[Key]string{key("d"): "1"})
	one.Set(key("a"), "2")
	two.Delete(key("d"))
	two.Replace(map[Key]string{})
	one.Replace(maps.Clone(map[Key]string{key("a"): "3"}))
	want := []string{"replace a=1 c=1 d=1", "set a=2", "delete d", "set a=3", "delete c"}
	if !slices.Equal(sink, want) {
		t.Errorf("told %q, want %q", sink, want)
	}
}
