package health

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/core"
)

// Any file is read or refused, and a rule that was read says one of the healths
// of any object.
func FuzzFile(f *testing.F) {
	f.Add([]byte(`rules: [{kinds: ['*/*'], let: {a: spec.b}, cases: [{each: status.list, as: i, when: i.x == a, health: Healthy, message: i.y}]}]`), []byte(`{"kind":"X","spec":{"b":1},"status":{"list":[{"x":1,"y":"z"}]}}`))
	f.Add([]byte(`rules: [{kinds: [X], dialect: flux, deletion: true, cases: [{cases: [{health: Unknown}]}]}]`), []byte(`{"kind":"X"}`))
	f.Add([]byte(`rules: [{kinds: ['X*'], cases: [{when: "conditions.named('a').status == 'b'", health: Missing, text: "x"}]}]`), []byte(`{"kind":"X","status":{"conditions":[{"type":"a","status":"b"}]}}`))
	f.Fuzz(func(t *testing.T, text, object []byte) {
		table, err := New(File{Name: "f", Text: text})
		if err != nil {
			return
		}
		var fields map[string]any
		if json.Unmarshal(object, &fields) != nil {
			return
		}
		for _, d := range []core.Dialect{core.ArgoCD, core.Flux} {
			health, message := table.Of(d, &unstructured.Unstructured{Object: fields})
			if _, ok := order[health]; !ok || len(message) > maxMessage+len("…") {
				t.Errorf("is %q %q", health, message)
			}
		}
	})
}

// The shipped rules bear any object, and do not change it.
func FuzzObject(f *testing.F) {
	rules := shippedRules(f)
	for _, seed := range []string{
		`{"metadata":{"generation":1},"status":{"conditions":[{"type":"Ready","status":"True","message":"m","reason":"r"}]}}`,
		`{"status":{"phase":"Running","state":"x","health":"green"},"spec":{"replicas":1,"paused":true}}`,
		`{"status":{"parents":[{"conditions":[{"type":"Accepted"}]}],"brokersState":{"0":{}},"environments":[{}],"statuses":{"a":{"state":1}}}}`,
		`{"spec":[],"status":1,"metadata":null}`,
	} {
		f.Add([]byte(seed), uint16(0))
	}
	f.Fuzz(func(t *testing.T, object []byte, n uint16) {
		var fields map[string]any
		if json.Unmarshal(object, &fields) != nil || fields == nil {
			return
		}
		r := rules[int(n)%len(rules)]
		_, fields["kind"] = splitKind(r.spec.Kinds[0])
		before, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		v, ok, err := r.judge(fields)
		if _, known := order[v.health]; ok && (!known || !utf8.ValidString(v.message) && utf8.Valid(object)) {
			t.Errorf("is %q %q", v.health, v.message)
		}
		if after, _ := json.Marshal(fields); string(after) != string(before) {
			t.Errorf("%s became %s", before, after)
		}
		if err != nil && ok {
			t.Errorf("says both %v and %s", err, v.health)
		}
	})
}

// Any of Flux' expressions is compiled or refused, and evaluated without harm.
func FuzzExpression(f *testing.F) {
	f.Add("status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')", []byte(`{"status":{"conditions":[]}}`))
	f.Add("has(status.x) && status.?y.orValue(1) > 0 && data['a'].matches('^x')", []byte(`{"data":{"a":"x"}}`))
	f.Add("'%s'.format([status]) == [1,2].map(x, string(x)).join(',')", []byte(`{"status":{}}`))
	f.Add("status == {'a': 1} || 'a' in status || size(status) > 0", []byte(`{"status":{"a":1}}`))
	f.Fuzz(func(t *testing.T, text string, object []byte) {
		of, err := Compile(Expressions{Current: text, Failed: text})
		if err != nil {
			return
		}
		var fields map[string]any
		if json.Unmarshal(object, &fields) != nil || fields == nil {
			return
		}
		if health, message := of(core.Flux, &unstructured.Unstructured{Object: fields}); health == "" {
			t.Errorf("is nothing: %s", message)
		}
	})
}
