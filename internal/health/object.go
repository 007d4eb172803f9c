package health

import (
	"fmt"
	"reflect"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// object is a map of a Kubernetes object as an expression sees it. It differs
// from CEL's own map in one thing: reading a field that is not there, or is
// null, gives an absentError, which can be told from a mistake in a rule by its
// type. CEL's own error can be told by its text alone. It is deliberately no
// traits.Mapper, for cel-go reads the fields of those by a way that leaves it
// no choice of the error.
type object struct {
	fields map[string]any
	in     *object
	name   string
}

var (
	_ traits.Indexer     = (*object)(nil)
	_ traits.FieldTester = (*object)(nil)
	_ traits.Container   = (*object)(nil)
	_ traits.Iterable    = (*object)(nil)
	_ traits.Sizer       = (*object)(nil)

	objectType = types.NewObjectType("kubernetes.object",
		traits.ContainerType, traits.FieldTesterType, traits.IndexerType, traits.IterableType, traits.SizerType)
)

// absentError says that an expression read a field that the object does not
// have.
type absentError struct {
	in    *object
	field string
}

func (e *absentError) Error() string {
	path := e.field
	for o := e.in; o != nil && o.name != ""; o = o.in {
		path = o.name + "." + path
	}
	return fmt.Sprintf("the object has no %s", path)
}

func absent(in *object, field string) ref.Val {
	return types.WrapErr(&absentError{in: in, field: field})
}

// get is the field as CEL's value, or an absentError.
func (o *object) get(field string) ref.Val {
	v := o.fields[field]
	switch v := v.(type) {
	case nil:
		return absent(o, field)
	case map[string]any:
		return &object{fields: v, in: o, name: field}
	}
	return adapter{}.NativeToValue(v)
}

func (o *object) Get(index ref.Val) ref.Val {
	field, ok := index.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(index)
	}
	return o.get(string(field))
}

func (o *object) IsSet(field ref.Val) ref.Val { return o.Contains(field) }

func (o *object) Contains(key ref.Val) ref.Val {
	field, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	return types.Bool(o.fields[string(field)] != nil)
}

// keys are in order, so that what a rule says does not change from one time to
// the next.
func (o *object) keys() []string {
	keys := make([]string, 0, len(o.fields))
	for k, v := range o.fields {
		if v != nil {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func (o *object) Iterator() traits.Iterator {
	return types.NewStringList(adapter{}, o.keys()).Iterator()
}

func (o *object) Size() ref.Val { return types.Int(len(o.keys())) }

func (o *object) Type() ref.Type { return objectType }
func (o *object) Value() any     { return o.fields }

func (o *object) Equal(other ref.Val) ref.Val {
	switch other := other.(type) {
	case *object:
		return types.Bool(reflect.DeepEqual(o.fields, other.fields))
	case traits.Mapper:
		return types.DefaultTypeAdapter.NativeToValue(o.fields).Equal(other)
	}
	return types.False
}

func (o *object) ConvertToNative(desc reflect.Type) (any, error) {
	if reflect.TypeOf(o.fields).AssignableTo(desc) {
		return o.fields, nil
	}
	return nil, fmt.Errorf("convert an object to %v", desc)
}

func (o *object) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case objectType:
		return o
	case types.TypeType:
		return objectType
	}
	return types.NewErr("an object is no %s", t.TypeName())
}

// adapter makes objects of the maps in an unstructured object.
type adapter struct{}

var _ types.Adapter = adapter{}

func (adapter) NativeToValue(v any) ref.Val {
	switch v := v.(type) {
	case map[string]any:
		return &object{fields: v}
	case []any:
		return types.NewDynamicList(adapter{}, v)
	}
	return types.DefaultTypeAdapter.NativeToValue(v)
}
