package appset_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/appset"
)

func anObject(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := utiljson.Unmarshal(data, &u.Object); err != nil {
		t.Fatal(err)
	}
	u.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationKind))
	return u
}

const ownedBy = "ownerReferences: [{apiVersion: argoproj.io/v1alpha1, kind: ApplicationSet, name: set, uid: u1, controller: true, blockOwnerDeletion: true}]"

// TestPlan says what is done with one Application, as it is wanted and as it is.
func TestPlan(t *testing.T) {
	const wanted = "metadata: {name: a, labels: {l: '1'}, finalizers: [resources-finalizer.argocd.argoproj.io]}\nspec: {project: p, source: {path: new, helm: {values: v}}, sources: [{path: x}]}"
	live := func(meta, spec string) string {
		return "metadata: {name: a, resourceVersion: '7', " + ownedBy + ", labels: {l: '1'}, finalizers: [resources-finalizer.argocd.argoproj.io]" + meta + "}\nspec: " + spec + "\nstatus: {sync: {status: Synced}}"
	}
	const same = "{project: p, source: {path: new, helm: {values: v}}, sources: [{path: x}]}"
	old := strings.Replace(same, "new", "old", 1)
	for name, c := range map[string]struct {
		set, wanted, live string
		want              string // the action, and the patch of an update
	}{
		"not there":             {wanted: wanted, want: "Create"},
		"as it should be":       {wanted: wanted, live: live("", same), want: "Keep"},
		"another spec":          {wanted: wanted, live: live("", old), want: `Update {"spec":{"source":{"path":"new"}}}`},
		"a field too many":      {wanted: wanted, live: live("", strings.Replace(same, "project: p", "project: p, info: []", 1)), want: `Update {"spec":{"info":null}}`},
		"may not be changed":    {set: "syncPolicy: {applicationsSync: create-delete}", wanted: wanted, live: live("", old), want: "Hold"},
		"nobody wants it":       {live: live("", same), want: "Delete"},
		"may not be deleted":    {set: "syncPolicy: {applicationsSync: create-update}", live: live("", same), want: "Hold"},
		"is going":              {live: live(", deletionTimestamp: '2026-01-01T00:00:00Z'", same), want: "Hold"},
		"is going and is to be": {wanted: wanted, live: live(", deletionTimestamp: '2026-01-01T00:00:00Z'", old), want: "Hold"},
		"nobody's":              {wanted: wanted, live: strings.Replace(live("", same), ownedBy, "generateName: a", 1), want: `Update {"metadata":{"ownerReferences":[{"apiVersion":"argoproj.io/v1alpha1","blockOwnerDeletion":true,"controller":true,"kind":"ApplicationSet","name":"set","uid":"u1"}]}}`},
		"another's":             {wanted: wanted, live: strings.Replace(live("", same), "uid: u1", "uid: u2", 1), want: "belongs to ApplicationSet set"},
		"another's, not wanted": {live: strings.Replace(live("", same), "uid: u1", "uid: u2", 1), want: ""},
		"ignored":               {set: "ignoreApplicationDifferences: [{jsonPointers: [/spec/source/path]}]", wanted: wanted, live: live("", old), want: "Keep"},
		"ignored of another":    {set: "ignoreApplicationDifferences: [{name: b, jsonPointers: [/spec/source/path]}]", wanted: wanted, live: live("", old), want: `Update {"spec":{"source":{"path":"new"}}}`},
		"ignored by jq":         {set: "ignoreApplicationDifferences: [{name: a, jqPathExpressions: ['.spec.sources[] | select(.path == \"x\" or .path == \"z\").path']}]", wanted: wanted, live: live("", strings.Replace(same, "path: x", "path: z", 1)), want: "Keep"},
		"ignored in part":       {set: "ignoreApplicationDifferences: [{jqPathExpressions: [.spec.source.helm.values]}]", wanted: wanted, live: live("", strings.Replace(old, "values: v", "values: w", 1)), want: `Update {"spec":{"source":{"path":"new"}}}`},
		"what others wrote":     {wanted: wanted, live: live(", annotations: {fairway-cd.io/pinned-revision: x, argocd.argoproj.io/refresh: hard, notified.notifications.argoproj.io: z}", same), want: "Keep"},
		"what others added":     {wanted: wanted, live: live(", annotations: {mine: x, yours: z}", same), want: `Update {"metadata":{"annotations":null}}`},
		"what is preserved":     {set: "preservedFields: {annotations: [mine], labels: [m]}", wanted: wanted, live: strings.Replace(live(", annotations: {mine: x, yours: z}", same), "labels: {", "labels: {m: '1', o: '1', ", 1), want: `Update {"metadata":{"annotations":{"yours":null},"labels":{"o":null}}}`},
		"hooks' finalizer":      {wanted: wanted, live: strings.Replace(live("", same), "finalizers: [", "finalizers: [post-delete-finalizer.argocd.argoproj.io, ", 1), want: `Update {"metadata":{"finalizers":["resources-finalizer.argocd.argoproj.io","post-delete-finalizer.argocd.argoproj.io"]}}`},
		"another finalizer":     {wanted: strings.Replace(wanted, "argoproj.io]", "argoproj.io/background]", 1), live: live("", same), want: `Update {"metadata":{"finalizers":["resources-finalizer.argocd.argoproj.io/background"]}}`},
	} {
		t.Run(name, func(t *testing.T) {
			set := &argo.ApplicationSet{}
			set.Name, set.UID = "set", "u1"
			if err := yaml.UnmarshalStrict([]byte(c.set), &set.Spec); err != nil {
				t.Fatal(err)
			}
			var is, is2 []*unstructured.Unstructured
			if c.wanted != "" {
				is = append(is, anObject(t, c.wanted))
			}
			if c.live != "" {
				is2 = append(is2, anObject(t, c.live))
			}
			plan, err := appset.Plan(set, is, is2)
			var refused *appset.ApplicationError
			if errors.As(err, &refused) {
				if c.want == "" || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(plan) == 1 {
				got = string(plan[0].Action)
				if plan[0].Patch != nil {
					data, err := json.Marshal(plan[0].Patch)
					if err != nil {
						t.Fatal(err)
					}
					got += " " + string(data)
				}
			}
			if got != c.want {
				t.Errorf("have %s\nwant %s", got, c.want)
			}
		})
	}
}

// BenchmarkGenerateAndPlan is what a set of a thousand Applications, none of
// which has to be changed, costs.
func BenchmarkGenerateAndPlan(b *testing.B) {
	var elements strings.Builder
	for i := range 1000 {
		elements.WriteString("- {app: app-" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + "-" + strings.Repeat("0", 3) + strconv.Itoa(i) + "}\n")
	}
	set := &argo.ApplicationSet{}
	set.Namespace, set.Name, set.UID = "argocd", "set", "u1"
	set.Spec.GoTemplate = true
	set.Spec.Generators = []argo.ApplicationSetGenerator{{List: &argo.ListGenerator{ElementsYaml: elements.String()}}}
	set.Spec.Template.Name = "{{ .app }}"
	set.Spec.Template.Spec = argo.ApplicationSpec{Project: "default", Source: &argo.ApplicationSource{RepoURL: "https://example.com/repo.git", Path: "apps/{{ .app }}"}}
	wanted, err := appset.Generate(b.Context(), set, inputs{&world{}}, appset.Direct{}, appset.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	plan, err := appset.Plan(set, wanted, nil)
	if err != nil {
		b.Fatal(err)
	}
	var live []*unstructured.Unstructured
	for _, c := range plan {
		live = append(live, c.Wanted)
	}
	for b.Loop() {
		wanted, err := appset.Generate(b.Context(), set, inputs{&world{}}, appset.Direct{}, appset.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		plan, err := appset.Plan(set, wanted, live)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range plan {
			if c.Action != appset.Keep {
				b.Fatalf("%s is to be changed: %v", c.Name, c.Patch)
			}
		}
	}
}
