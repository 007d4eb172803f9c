package health

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core"
)

// shippedFiles are the files of rules that are shipped.
func shippedFiles(t testing.TB) []File {
	t.Helper()
	dir, err := fs.Sub(ruleFiles, "rules")
	if err != nil {
		t.Fatal(err)
	}
	files, err := ReadFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// shippedRules are all of them, compiled.
func shippedRules(t testing.TB) []*rule {
	t.Helper()
	l, err := newLanguage()
	if err != nil {
		t.Fatal(err)
	}
	rules, _, err := l.read(shippedFiles(t), core.ArgoCD)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if err := r.compile(); err != nil {
			t.Error(err)
		}
	}
	return rules
}

func TestCases(t *testing.T) {
	b, err := os.ReadFile("testdata/cases.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Health, Message string
		Object                json.RawMessage
	}
	if err := yaml.UnmarshalStrict(b, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			health, message := Of(core.ArgoCD, parse(t, c.Object))
			if string(health) != c.Health || c.Health != "Unknown" && message != c.Message {
				t.Errorf("is %s %q, want %s %q", health, message, c.Health, c.Message)
			}
		})
	}
}

// Every rule must have something to say of an object that its controller has
// not looked at yet, or that is of another form than it should be: no rule's
// fault makes the health of these Unknown.
func TestShippedRulesBear(t *testing.T) {
	objects := []string{
		`{}`,
		`{spec: {}}`,
		`{status: {}}`,
		`{spec: {}, status: {conditions: []}}`,
		`{metadata: {generation: 1}, spec: {}, status: {observedGeneration: 1}}`,
		`{metadata: {generation: 2, deletionTimestamp: "2026-01-01T00:00:00Z"}, status: {observedGeneration: 1}}`,
		`{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "True"}]}}`,
		`{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: "False", observedGeneration: 1}]}}`,
		`{metadata: {generation: 1}, status: {conditions: [{type: Ready, status: Unknown}]}}`,
		`{spec: null, status: {phase: Running, state: Running, conditions: null}}`,
		`{spec: [], status: [], metadata: []}`,
		`{status: {conditions: [{}, null, 1, x, []]}}`,
		`{status: {parents: [], ancestors: [], listeners: [], environments: [], ingress: [], statuses: {}, brokersState: {}, racks: {}}}`,
		`{status: {parents: [{}], ancestors: [{}], listeners: [{}], environments: [{}], ingress: [{}], statuses: {a: {}}, brokersState: {"0": {}}, racks: {a: {}}}}`,
	}
	for _, r := range shippedRules(t) {
		for _, kind := range r.spec.Kinds {
			group, kind := splitKind(kind)
			for _, text := range objects {
				var fields map[string]any
				if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
					t.Fatal(err)
				}
				fields["apiVersion"] = strings.ReplaceAll(group, "*", "x") + "/v1"
				fields["kind"] = strings.ReplaceAll(kind, "*", "X")
				if _, _, err := r.judge(fields); err != nil {
					t.Errorf("%s/%s %s: %v", group, kind, text, err)
				}
			}
		}
	}
}

// Each file says where its rules come from.
func TestShippedRulesHaveASource(t *testing.T) {
	for _, f := range shippedFiles(t) {
		doc, err := f.parse()
		if err != nil {
			t.Fatal(err)
		}
		if doc.Source == "" {
			t.Errorf("%s has no source", f.Name)
		}
	}
}

func table(t *testing.T, files ...string) *Table {
	t.Helper()
	var all []File
	for _, text := range files {
		all = append(all, File{Name: "mine.yaml", Text: []byte(text)})
	}
	table, err := New(all...)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestAdded(t *testing.T) {
	mine := table(t, `
rules:
- kinds: [apps/Deployment]
  cases: [{health: Suspended, text: mine}]
- kinds: ['*.example.com/*']
  let:
    wanted: spec.?replicas.orValue(1)
    message: string(status.ready) + ' of ' + string(wanted)
  cases:
  - {when: status.ready < wanted, health: Progressing, message: message}
  - each: status.parts
    as: part
    when: part.failed == true
    cases:
    - {when: has(part.why), health: Degraded, message: part.why}
    - {health: Degraded, text: a part failed}
  - {when: status.ready >= wanted, health: Healthy, message: status.note}
- kinds: [a.example.com/Flux]
  dialect: flux
  cases: [{health: Suspended, text: of flux}]
- kinds: [Node]
  deletion: true
  cases: [{when: has(metadata.deletionTimestamp), health: Missing}]
`)
	for _, c := range []struct {
		name, object string
		dialect      core.Dialect
		health       core.Health
		message      string
	}{
		{"goes before a built-in kind", `{apiVersion: apps/v1, kind: Deployment}`, core.ArgoCD, core.Suspended, "mine"},
		{"is for Flux too", `{apiVersion: apps/v1, kind: Deployment}`, core.Flux, core.Suspended, "mine"},
		{"is not asked of what is being deleted", `{apiVersion: apps/v1, kind: Deployment, metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}}`, core.ArgoCD, core.Progressing, "Pending deletion"},
		{"unless it says so", `{apiVersion: v1, kind: Node, metadata: {deletionTimestamp: "2026-01-01T00:00:00Z"}}`, core.Flux, core.Missing, ""},
		{"by a pattern", `{apiVersion: a.example.com/v1, kind: A, spec: {replicas: 2}, status: {ready: 1}}`, core.ArgoCD, core.Progressing, "1 of 2"},
		{"of a list", `{apiVersion: a.example.com/v1, kind: A, status: {ready: 1, parts: [{failed: false}, {failed: true, why: broken}]}}`, core.ArgoCD, core.Degraded, "broken"},
		{"of an object, in the order of its keys", `{apiVersion: a.example.com/v1, kind: A, status: {ready: 1, parts: {b: {failed: true, why: b}, a: {failed: true}}}}`, core.ArgoCD, core.Degraded, "a part failed"},
		{"a message that is not there", `{apiVersion: a.example.com/v1, kind: A, status: {ready: 1}}`, core.ArgoCD, core.Healthy, ""},
		{"says nothing", `{apiVersion: a.example.com/v1, kind: A, status: {conditions: [{type: Stalled, status: "True", message: stuck}]}}`, core.ArgoCD, core.Degraded, "stuck"},
		{"of another group", `{apiVersion: example.com/v1, kind: A, status: {ready: 0}}`, core.ArgoCD, core.Healthy, "Resource is current"},
		{"of one dialect", `{apiVersion: a.example.com/v1, kind: Flux}`, core.Flux, core.Suspended, "of flux"},
		{"of the other dialect by the pattern", `{apiVersion: a.example.com/v1, kind: Flux, status: {ready: 0}}`, core.ArgoCD, core.Progressing, "0 of 1"},
		{"a shipped one is still there", `{apiVersion: velero.io/v1, kind: Schedule, status: {phase: Enabled}}`, core.ArgoCD, core.Healthy, "Schedule is enabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			health, message := mine.Of(c.dialect, parse(t, []byte(c.object)))
			if health != c.health || message != c.message {
				t.Errorf("is %s %q, want %s %q", health, message, c.health, c.message)
			}
		})
	}
}

// A ConfigMap that is mounted is read as one that is not.
func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	data := map[string]string{"b.yaml": "rules: []", "a.yaml": "rules: []"}
	for _, d := range []string{"..2026_01_01", "more"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range data {
		if err := os.WriteFile(filepath.Join(dir, "..2026_01_01", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..2026_01_01", filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "README"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	files, err := ReadFiles(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if want := FilesOf(data); !reflect.DeepEqual(files, want) {
		t.Errorf("are %q, want %q", files, want)
	}
}

// A table in use is replaced, and the next question is answered by the new one.
func TestLive(t *testing.T) {
	var live Live
	obj := parse(t, []byte(`{apiVersion: example.com/v1, kind: Thing}`))
	if h, _ := live.Of(core.Flux, obj); h != core.Healthy {
		t.Errorf("is %s before", h)
	}
	live.Set(table(t, `rules: [{kinds: [example.com/Thing], cases: [{health: Degraded}]}]`))
	if h, _ := live.Of(core.Flux, obj); h != core.Degraded {
		t.Errorf("is %s after", h)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"not YAML", `{`, "mine.yaml: "},
		{"an unknown field", `rules: [{kind: x}]`, `unknown field "kind"`},
		{"no kinds", `rules: [{cases: [{health: Healthy}]}]`, "rule 1: kinds: "},
		{"a bad pattern", `rules: [{kinds: ['[/X'], cases: [{health: Healthy}]}]`, "is not GROUP/KIND"},
		{"a version", `rules: [{kinds: [apps/v1/X], cases: [{health: Healthy}]}]`, "is not GROUP/KIND"},
		{"no cases", `rules: [{kinds: [X]}]`, "cases: needs at least one"},
		{"an unknown health", `rules: [{kinds: [X], cases: [{health: Fine}]}]`, `health: "Fine" is none of`},
		{"two messages", `rules: [{kinds: [X], cases: [{health: Healthy, text: a, message: b}]}]`, "both a message and a text"},
		{"a health and cases", `rules: [{kinds: [X], cases: [{health: Healthy, cases: [{health: Healthy}]}]}]`, "both a health and further cases"},
		{"as without each", `rules: [{kinds: [X], cases: [{as: a, health: Healthy}]}]`, "as: has no each"},
		{"a name that is taken", `rules: [{kinds: [X], let: {status: "1"}, cases: [{health: Healthy}]}]`, `the name "status" is taken`},
		{"a name of CEL's", `rules: [{kinds: [X], let: {in: "1"}, cases: [{health: Healthy}]}]`, `the name "in" is taken`},
		{"an unknown dialect", `rules: [{kinds: [X], dialect: helm, cases: [{health: Healthy}]}]`, "neither argocd nor flux"},
		{"two rules of a kind", `rules: [{kinds: [X, X], cases: [{health: Healthy}]}]`, "has a rule already"},
		{"an expression that cannot be read", `rules: [{kinds: [X], cases: [{when: "status.", health: Healthy}]}]`, "mine.yaml: rule 1 (X): case 1: when: status.: line 1, column 8: "},
		{"a name that is not known", `rules: [{kinds: [X], cases: [{health: Healthy}, {when: stats.phase == 'a', health: Healthy}]}]`, "case 2: when: stats.phase == 'a': line 1, column 1: undeclared reference to 'stats'"},
		{"a name of another case", `rules: [{kinds: [X], cases: [{each: conditions, health: Healthy}, {when: it.a, health: Healthy}]}]`, "undeclared reference to 'it'"},
		{"a long expression", `rules: [{kinds: [X], cases: [{when: "` + strings.Repeat("a", maxExpression+1) + `", health: Healthy}]}]`, "size"},
		{"a large file", "#" + strings.Repeat(" ", maxFile), "is larger than"},
		{"deep cases", `rules: [{kinds: [X], ` + strings.Repeat("cases: [{", 20) + "health: Healthy" + strings.Repeat("}]", 20) + `}]`, "nested more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(File{Name: "mine.yaml", Text: []byte(c.file)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("says %v, want %q", err, c.want)
			}
		})
	}
}

// A rule that goes wrong, or goes on for ever, leaves the health Unknown and
// says which rule it was. None of these comes back later than an evaluation
// may cost.
func TestHostileRules(t *testing.T) {
	large := map[string]any{"apiVersion": "v1", "kind": "X", "status": map[string]any{"list": make([]any, 5000), "text": strings.Repeat("x", 1<<17)}}
	for i := range 5000 {
		large["status"].(map[string]any)["list"].([]any)[i] = int64(i)
	}
	for _, c := range []struct{ name, rule, want string }{
		{"no such operation", `cases: [{when: status.text > 1, health: Healthy}]`, "mine.yaml: rule 1 (X): status.text > 1: no such overload"},
		{"no bool", `cases: [{when: status.text, health: Healthy}]`, "not true or false"},
		{"no string", `cases: [{health: Healthy, message: status.list}]`, "not a string"},
		{"no list", `cases: [{each: status.text, health: Healthy}]`, "neither a list nor an object"},
		{"a loop in a loop", `cases: [{when: "status.list.all(a, status.list.all(b, a + b >= 0))", health: Healthy}]`, "cost limit exceeded"},
		{"each in each", `cases: [{each: status.list, as: a, cases: [{each: status.list, as: b, when: a + b < 0, health: Healthy}]}]`, "costs too much"},
		{"much for each", `cases: [{each: status.list, when: "status.list.all(a, a < 0 || a + it >= 0) && it > 4999", health: Healthy}]`, "costs too much"},
		{"a text that doubles", `cases: [{when: "[status.text].map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a).map(a, a + a)[0] == ''", health: Healthy}]`, "cost limit exceeded"},
		{"a text that multiplies", `cases: [{when: "status.text.replace('', status.text) == ''", health: Healthy}]`, "would be longer than"},
		{"a list of one large text", `cases: [{when: "status.list.map(i, status.text).join() == ''", health: Healthy}]`, ""},
		{"a let of itself", `{let: {a: b, b: a}, cases: [{when: a == 1, health: Healthy}]}`, "reads itself"},
		{"outside of a list", `cases: [{when: "status.list[5000] == 1", health: Healthy}]`, "index out of bounds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rule := strings.Trim(c.rule, "{}")
			if !strings.HasPrefix(c.rule, "{") {
				rule = c.rule
			}
			mine := table(t, "rules: [{kinds: [X], "+rule+"}]")
			health, message := mine.Of(core.ArgoCD, &unstructured.Unstructured{Object: large})
			if health != core.Unknown || !strings.HasPrefix(message, "health rule ") || !strings.Contains(message, c.want) {
				t.Errorf("is %s %.300q, want Unknown %q", health, message, c.want)
			}
		})
	}
}
