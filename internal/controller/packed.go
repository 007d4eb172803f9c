package controller

import (
	"encoding/json"
	"fmt"

	"github.com/klauspost/compress/s2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "k8s.io/apimachinery/pkg/util/json"
)

// packed are objects that are kept for long and looked at rarely: in JSON,
// compressed. An object of the usual kind takes some hundred bytes in it, and
// ten times as much as it is worked with.
type packed []byte

func pack(objects []*unstructured.Unstructured) packed {
	plain := make([]map[string]any, len(objects))
	for i, o := range objects {
		plain[i] = o.Object
	}
	encoded, err := json.Marshal(plain)
	if err != nil { // plain data always encode
		panic(fmt.Sprintf("controller: encode objects: %v", err))
	}
	small := s2.Encode(nil, encoded)
	return append(make(packed, 0, len(small)), small...) // Encode leaves room for the worst
}

// list returns the objects, for whoever asks to change them as he likes.
func (p packed) list() []*unstructured.Unstructured {
	if len(p) == 0 {
		return nil
	}
	var plain []map[string]any
	encoded, err := s2.Decode(nil, p)
	if err == nil {
		err = kjson.Unmarshal(encoded, &plain)
	}
	if err != nil { // nobody but pack makes one
		panic(fmt.Sprintf("controller: decode objects: %v", err))
	}
	objects := make([]*unstructured.Unstructured, len(plain))
	for i, o := range plain {
		objects[i] = &unstructured.Unstructured{Object: o}
	}
	return objects
}
