// Package dense is a cache of objects that are many and looked at rarely: what
// it holds of an object, but for its metadata, is JSON, compressed. As plain
// data an object takes several times as much.
//
// Whoever reads objects from the cache gets them whole. Whoever is told of
// changes gets them as they are held, since most look at the metadata alone:
// Field has the rest, and what is held is the same where it is equal.
package dense

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	"github.com/klauspost/compress/s2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// packed is a value that is held packed: a type that objects may have (deep
// copies know it), and that nobody can write into one, for the API machinery
// reads all numbers as int64 or float64.
type packed = json.Number

// NewCache is for manager.Options: a cache that holds unstructured objects
// packed. Objects of Go types are held as ever. The managed fields of neither
// are held; where a write has none the API server leaves those that there are.
func NewCache(config *rest.Config, o cache.Options) (cache.Cache, error) {
	strip := cache.TransformStripManagedFields()
	o.DefaultTransform = func(in any) (any, error) {
		out, err := strip(in)
		if u, ok := out.(*unstructured.Unstructured); ok && err == nil {
			err = pack(u)
		}
		return out, err
	}
	c, err := cache.New(config, o)
	if err != nil {
		return nil, err
	}
	return &packing{c}, nil
}

// packing unpacks what is read.
type packing struct{ cache.Cache }

// Get implements client.Reader.
func (p *packing) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if err := p.Cache.Get(ctx, key, obj, opts...); err != nil {
		return err
	}
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	return unpack(u)
}

// List implements client.Reader.
func (p *packing) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := p.Cache.List(ctx, list, opts...); err != nil {
		return err
	}
	l, ok := list.(*unstructured.UnstructuredList)
	if !ok {
		return nil
	}
	for i := range l.Items {
		if err := unpack(&l.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// pack packs all of an object but its metadata. It may be asked again.
func pack(u *unstructured.Unstructured) error {
	for name, value := range u.Object {
		switch value.(type) {
		case map[string]any, []any:
		default:
			continue
		}
		if name == "metadata" {
			continue
		}
		plain, err := json.Marshal(value) // the same text for what is equal
		if err != nil {
			return fmt.Errorf("pack %s of %s %s/%s: %w", name, u.GetKind(), u.GetNamespace(), u.GetName(), err)
		}
		u.Object[name] = packed(s2.Encode(nil, plain))
	}
	return nil
}

// unpack has the object whole. What is held is not changed.
func unpack(u *unstructured.Unstructured) error {
	whole := maps.Clone(u.Object)
	for name, value := range whole {
		plain, err := read(value)
		if err != nil {
			return fmt.Errorf("unpack %s of %s %s/%s: %w", name, u.GetKind(), u.GetNamespace(), u.GetName(), err)
		}
		whole[name] = plain
	}
	u.Object = whole
	return nil
}

// read returns a value as it was before it was packed.
func read(value any) (any, error) {
	small, ok := value.(packed)
	if !ok {
		return value, nil
	}
	encoded, err := s2.Decode(nil, []byte(small))
	if err != nil {
		return nil, err
	}
	var plain any
	return plain, kjson.Unmarshal(encoded, &plain)
}

// Field is a top-level field of an object, which may be packed; nil where there
// is none.
func Field(u *unstructured.Unstructured, name string) map[string]any {
	value, err := read(u.Object[name])
	if err != nil {
		return nil // nobody but pack makes one
	}
	fields, _ := value.(map[string]any)
	return fields
}
