package mark_test

import (
	"reflect"
	"testing"

	"github.com/fairway-cd/fairway/internal/mark"
)

// ours is a ConfigMap of which we own three keys.
const ours = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","annotations":{"fairway-cd.io/applied":"a.b"},
 "managedFields":[{"manager":"fairway","operation":"Apply","time":"2026-01-01T00:00:00Z","fieldsV1":{
  "f:metadata":{"f:annotations":{"f:fairway-cd.io/applied":{}}},"f:data":{"f:a":{},"f:b":{},"f:c/d":{}}}}]},
 "data":{"a":"1","b":"2","c/d":"3"}}`

func TestUndone(t *testing.T) {
	const (
		taken = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","annotations":{"fairway-cd.io/applied":"a.c"},
 "managedFields":[{"manager":"fairway","operation":"Apply","time":"2026-01-01T00:00:00Z","fieldsV1":{"f:data":{"f:a":{}}}},
  {"manager":"fighter","operation":"Update","time":"2026-01-01T00:00:01Z","fieldsV1":{"f:data":{"f:c/d":{}}}}]},
 "data":{"a":"1","c/d":"x"}}`
		altered = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m","annotations":{"fairway-cd.io/applied":"a.c"},
 "managedFields":[{"manager":"fairway","operation":"Apply","time":"2026-01-01T00:00:00Z","fieldsV1":{"f:data":{"f:a":{},"f:b":{},"f:c/d":{}}}}]},
 "data":{"a":"random","b":"2","c/d":"3"}}`
		whole = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m",
 "managedFields":[{"manager":"fighter","operation":"Update","time":"2026-01-01T00:00:01Z","fieldsV1":{"f:data":{}}}]},
 "data":{"a":"0","b":"2","c/d":"3"}}`
	)
	for name, c := range map[string]struct {
		before string
		want   []mark.Change
	}{
		"nothing, and new evidence": {ours, []mark.Change{}},
		"a manager, and a removal": {taken, []mark.Change{
			{Cause: mark.ByManager, Manager: "fighter", Fields: []string{"/data/c~1d"}},
			{Cause: mark.ByRemoval, Fields: []string{"/data/b"}},
		}},
		"an admission":                {altered, []mark.Change{{Cause: mark.ByAdmission, Fields: []string{"/data/a"}}}},
		"a manager of the whole data": {whole, []mark.Change{{Cause: mark.ByManager, Manager: "fighter", Fields: []string{"/data/a"}}}},
	} {
		after := object(t, ours)
		after.SetAnnotations(map[string]string{mark.AnnotationApplied: "a.new"})
		before := object(t, c.before)
		if got := mark.Undone(mark.FieldManager, before, after); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
