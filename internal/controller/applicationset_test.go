package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// setOf is an ApplicationSet with the generators and the template's source;
// more is more of its spec, in lines of two spaces.
func (h *house) setOf(name, generators, appName, repo, path, more string) string {
	return fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata:
  name: %[1]s
  namespace: argocd
spec:
  goTemplate: true
  goTemplateOptions: [missingkey=error]
  generators:
%[2]s
  template:
    metadata:
      name: '%[3]s'
      labels: {set: %[1]s}
    spec:
      project: default
      source: {repoURL: %[4]s%[5]s.git, path: '%[6]s'}
      destination: {server: https://kubernetes.default.svc, namespace: %[1]s}
      syncPolicy:
        automated: {prune: true}
        syncOptions: [CreateNamespace=true]
%[7]s`, name, generators, appName, h.url, repo, path, more)
}

func setObject(name string) *argo.ApplicationSet {
	return &argo.ApplicationSet{ObjectMeta: metav1.ObjectMeta{Namespace: "argocd", Name: name}}
}

// apps are the names of the Applications with the label set=name.
func (h *house) apps(name string) []string {
	h.t.Helper()
	var list argo.ApplicationList
	if err := h.kube.List(h.t.Context(), &list, client.InNamespace("argocd"), client.MatchingLabels{"set": name}); err != nil {
		h.t.Fatal(err)
	}
	var names []string
	for _, app := range list.Items {
		names = append(names, app.Name)
	}
	slices.Sort(names)
	return names
}

// waitApps waits until the set's Applications have these names.
func (h *house) waitApps(set string, want ...string) {
	h.t.Helper()
	testkit.Eventually(h.t, "the Applications of "+set, func() error {
		if have := h.apps(set); !slices.Equal(have, want) {
			return fmt.Errorf("there are %v, want %v\n%s", have, want, h.describeSet(set))
		}
		return nil
	})
}

func (h *house) describeSet(name string) string {
	set := setObject(name)
	if err := h.kube.Get(h.t.Context(), client.ObjectKeyFromObject(set), set); err != nil {
		return err.Error()
	}
	text, err := yaml.Marshal(set.Status)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// waitSet waits until the set is as check wants it.
func (h *house) waitSet(name, what string, check func(*argo.ApplicationSet) bool) *argo.ApplicationSet {
	h.t.Helper()
	set := setObject(name)
	testkit.Eventually(h.t, "ApplicationSet "+name+" "+what, func() error {
		if err := h.kube.Get(h.t.Context(), client.ObjectKeyFromObject(set), set); err != nil {
			return err
		}
		if !check(set) {
			return errors.New(h.describeSet(name))
		}
		return nil
	})
	return set
}

func setSays(kind, status string, says ...string) func(*argo.ApplicationSet) bool {
	return func(set *argo.ApplicationSet) bool {
		return slices.ContainsFunc(set.Status.Conditions, func(c argo.ApplicationSetCondition) bool {
			all := c.Type == kind && c.Status == status
			for _, s := range says {
				all = all && strings.Contains(c.Message, s)
			}
			return all
		})
	}
}

// TestApplicationSet follows a set through its life: Applications come, are
// deployed, change, are put back and go as directories do, a file that cannot
// be read changes nothing, and all go with the set.
func TestApplicationSet(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	repo := h.repo("fleet", map[string]string{
		"apps/one/a.yaml": configMap("one", "1"),
		"apps/two/a.yaml": configMap("two", "2"),
	})
	generators := fmt.Sprintf("  - git: {repoURL: %sfleet.git, revision: HEAD, directories: [{path: apps/*}]}", h.url)
	set := h.setOf("fleet", generators, "fleet-{{ .path.basename }}", "fleet", "{{ .path.path }}", "")
	h.apply(set)
	h.waitApps("fleet", "fleet-one", "fleet-two")
	h.waitApp("fleet-one", "to be synced", healthy)
	h.waitLive("v1", "ConfigMap", "fleet", "two", field("2", "data", "key"))
	got := h.waitSet("fleet", "to know how its Applications are", func(s *argo.ApplicationSet) bool {
		return len(s.Status.Resources) == 2 && s.Status.ResourcesCount == 2 && s.Status.Resources[0].Name == "fleet-one" &&
			s.Status.Resources[0].Status == argo.SyncSynced && s.Status.Resources[1].Health != nil && s.Status.Resources[1].Health.Status == "Healthy" &&
			setSays(argo.SetConditionResourcesUpToDate, "True")(s) && setSays(argo.SetConditionErrorOccurred, "False")(s) && setSays(argo.SetConditionParametersGenerated, "True")(s)
	})
	app, err := h.app("fleet-one")
	if err != nil {
		t.Fatal(err)
	}
	if owner := metav1.GetControllerOf(app); owner == nil || owner.UID != got.UID || !slices.Contains(app.Finalizers, argo.Finalizer) {
		t.Errorf("owner %v, finalizers %v", owner, app.Finalizers)
	}

	t.Run("a directory more and one less", func(t *testing.T) {
		h := h.in(t)
		repo.Remove("apps/two/a.yaml")
		h.push(repo, map[string]string{"apps/three/a.yaml": configMap("three", "3")})
		h.waitApps("fleet", "fleet-one", "fleet-three")
		h.waitGone("v1", "ConfigMap", "fleet", "two")
	})
	t.Run("what somebody changed or deleted comes back", func(t *testing.T) {
		h := h.in(t)
		change := []byte(`{"spec":{"source":{"path":"elsewhere"}},"metadata":{"labels":{"more":"yes"},"annotations":{"fairway-cd.io/pinned-reason":"stays"}}}`)
		if err := h.kube.Patch(t.Context(), appObject("fleet-one"), client.RawPatch(types.MergePatchType, change)); err != nil {
			t.Fatal(err)
		}
		h.waitApp("fleet-one", "to be as the set says", func(a *argo.Application) bool {
			return a.Spec.Source.Path == "apps/one" && a.Labels["more"] == "" && a.Annotations["fairway-cd.io/pinned-reason"] == "stays"
		})
		three := h.waitApp("fleet-three", "to be synced", healthy)
		if err := h.kube.Delete(t.Context(), appObject("fleet-three")); err != nil {
			t.Fatal(err)
		}
		h.waitApp("fleet-three", "to be there again", func(a *argo.Application) bool { return a.UID != three.UID && healthy(a) })
	})
	t.Run("an error deletes nothing", func(t *testing.T) {
		h := h.in(t)
		for name, c := range map[string]struct{ manifest, says string }{
			"no such repository": {strings.Replace(set, "fleet.git, revision", "nothere.git, revision", 1), "nothere"},
			"no such parameter":  {strings.Replace(set, ".path.basename }}", ".path.nothing }}", 1), "nothing"},
			"unknown field":      {strings.Replace(set, "revision: HEAD", "revision: HEAD, colour: red", 1), "spec.generators[0].git.colour"},
			"two of one name":    {strings.Replace(set, "fleet-{{ .path.basename }}", "fleet-same", 1), "two of this name"},
			"not supported":      {strings.Replace(set, generators, "  - plugin: {configMapRef: {name: x}}", 1), "spec.generators[0].plugin"},
		} {
			h.apply(c.manifest)
			h.waitSet("fleet", "to say what is wrong: "+name, setSays(argo.SetConditionErrorOccurred, "True", c.says))
			if have := h.apps("fleet"); !slices.Equal(have, []string{"fleet-one", "fleet-three"}) {
				t.Errorf("%s: there are %v", name, have)
			}
		}
		h.apply(set)
		h.waitSet("fleet", "to be well again", setSays(argo.SetConditionErrorOccurred, "False"))
	})
	t.Run("all go with the set", func(t *testing.T) {
		h := h.in(t)
		h.delete(setObject("fleet"))
		h.waitApps("fleet")
		h.waitGone("v1", "ConfigMap", "fleet", "one")
	})
}

// TestApplicationSetUnchangedWritesNothing looks at a set's Applications again
// and again: those that are as they should be are not written.
func TestApplicationSetUnchangedWritesNothing(t *testing.T) {
	h := newHouse(t)
	refresh := h.many(100)
	defer h.delete(setObject("many"))
	before := h.versions("many")
	for range 3 {
		refresh()
	}
	if after := h.versions("many"); !maps.Equal(before, after) {
		t.Errorf("Applications were written: %v, then %v", before, after)
	}
}

// BenchmarkApplicationSetUnchanged is from a refresh of a set with a thousand
// Applications, all of them as they should be, to its answer.
func BenchmarkApplicationSetUnchanged(b *testing.B) {
	limit := cluster.Config.QPS
	cluster.Config.QPS = -1 // as the server has it
	b.Cleanup(func() { cluster.Config.QPS = limit })
	h := newHouse(b)
	refresh := h.many(1000)
	defer h.delete(setObject("many"))
	before := h.versions("many")
	for b.Loop() {
		refresh()
	}
	if !maps.Equal(before, h.versions("many")) {
		b.Error("Applications were written")
	}
}

// many makes a set with n Applications, waits until all have been looked at,
// and returns what has the set looked at again. They are not synced.
func (h *house) many(n int) (refresh func()) {
	h.t.Helper()
	h.namespace("argocd")
	var elements strings.Builder
	for i := range n {
		fmt.Fprintf(&elements, "      - {app: 'many-%04d'}\n", i)
	}
	h.repo("many", map[string]string{"app/a.yaml": configMap("many", "1")})
	set := h.setOf("many", "  - list:\n      elements:\n"+elements.String(), "{{ .app }}", "many", "app", "")
	h.apply(strings.Replace(set, "automated: {prune: true}", "automated: {enabled: false}", 1))
	for seen := n / 10; seen <= n; seen += n / 10 {
		testkit.Eventually(h.t, "Applications that were looked at", func() error {
			var list argo.ApplicationList
			if err := h.kube.List(h.t.Context(), &list, client.InNamespace("argocd"), client.MatchingLabels{"set": "many"}); err != nil {
				return err
			}
			done := 0
			for _, app := range list.Items {
				if app.Status.Sync.Status == argo.SyncOutOfSync {
					done++
				}
			}
			if done < seen {
				return fmt.Errorf("%d of %d, want %d", done, len(list.Items), seen)
			}
			return nil
		})
	}
	h.waitSet("many", "to have seen all", func(s *argo.ApplicationSet) bool {
		return s.Status.ResourcesCount == int64(n) && !slices.ContainsFunc(s.Status.Resources, func(r argo.ResourceStatus) bool { return r.Status != argo.SyncOutOfSync })
	})
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"argocd.argoproj.io/application-set-refresh":"true"}}}`))
	return func() {
		h.t.Helper()
		if err := h.kube.Patch(h.t.Context(), setObject("many"), patch); err != nil {
			h.t.Fatal(err)
		}
		// By its metadata alone: the status is long.
		meta := &metav1.PartialObjectMetadata{}
		meta.SetGroupVersionKind(argo.GroupVersion.WithKind(argo.ApplicationSetKind))
		testkit.Eventually(h.t, "the answer to the refresh", func() error {
			if err := h.kube.Get(h.t.Context(), client.ObjectKeyFromObject(setObject("many")), meta); err != nil {
				return err
			}
			if meta.Annotations[argo.AnnotationSetRefresh] != "" {
				return errors.New("it is still asked for")
			}
			return nil
		})
	}
}

// versions are the resource versions of the set's Applications.
func (h *house) versions(set string) map[string]string {
	h.t.Helper()
	var list argo.ApplicationList
	if err := h.kube.List(context.Background(), &list, client.InNamespace("argocd"), client.MatchingLabels{"set": set}); err != nil {
		h.t.Fatal(err)
	}
	out := map[string]string{}
	for _, app := range list.Items {
		out[app.Name] = app.ResourceVersion
	}
	return out
}

// preview asks the HTTP API what the manifest would do.
func (h *house) preview(name, manifest string) (int, SetPreview, string) {
	h.t.Helper()
	body, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		h.t.Fatal(err)
	}
	mux := http.NewServeMux()
	for pattern, handler := range h.engine.Routes() {
		mux.Handle(pattern, handler)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/applicationsets/argocd/"+name+"/preview", bytes.NewReader(body)))
	var p SetPreview
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			h.t.Fatal(err)
		}
	}
	return w.Code, p, w.Body.String()
}

func actions(p SetPreview) string {
	var all []string
	for _, item := range p.Items {
		all = append(all, string(item.Action)+" "+item.Name)
	}
	return strings.Join(all, ", ")
}

// TestApplicationSetPreview says what would be done, and does nothing.
func TestApplicationSetPreview(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	elements := func(path string, names ...string) string {
		list := "  - list:\n      elements:\n"
		for _, name := range names {
			list += "      - {app: '" + name + "', path: " + path + "}\n"
		}
		return h.setOf("look", list, "{{ .app }}", "nobody", "{{ .path }}", "")
	}
	expect := func(manifest, want string) {
		t.Helper()
		if code, p, body := h.preview("look", manifest); code != http.StatusOK || actions(p) != want {
			t.Errorf("%d, %s, want %s\n%s", code, actions(p), want, body)
		}
	}
	expect(elements("a", "look-a", "look-b"), "Create look-a, Create look-b")
	if have := h.apps("look"); len(have) > 0 {
		t.Errorf("a preview made %v", have)
	}
	h.apply(elements("a", "look-a", "look-b"))
	defer h.delete(setObject("look"))
	h.waitApps("look", "look-a", "look-b")
	expect(elements("a", "look-a", "look-b"), "Keep look-a, Keep look-b")
	expect(elements("b", "look-b", "look-c"), "Delete look-a, Update look-b, Create look-c")
	held := elements("b", "look-b") + "  syncPolicy: {applicationsSync: create-only}\n"
	expect(held, "Hold look-a, Hold look-b")
	_, p, _ := h.preview("look", elements("b", "look-b"))
	if path, _, _ := unstructured.NestedString(p.Items[1].Live.Object, "spec", "source", "path"); path != "a" || p.Items[1].Wanted == nil {
		t.Errorf("the live path is %q, the wanted %v", path, p.Items[1].Wanted)
	}
	if code, _, body := h.preview("look", strings.Replace(held, "elements:", "colours:", 1)); code != http.StatusUnprocessableEntity || !strings.Contains(body, "spec.generators[0].list.colours") {
		t.Errorf("an unknown field: %d %s", code, body)
	}
	if code, _, body := h.preview("other", held); code != http.StatusBadRequest {
		t.Errorf("another name: %d %s", code, body)
	}
	if have := h.apps("look"); !slices.Equal(have, []string{"look-a", "look-b"}) {
		t.Errorf("there are %v", have)
	}
}

// TestApplicationSetPolicies has sets whose Applications may not be changed or
// deleted, and outlive them, and one whose Applications' objects stay.
func TestApplicationSetPolicies(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.repo("kept", map[string]string{"app/a.yaml": configMap("kept", "1")})
	list := func(names ...string) string {
		s := "  - list:\n      elements:\n"
		for _, name := range names {
			s += "      - {app: '" + name + "'}\n"
		}
		return s
	}
	t.Run("create-only", func(t *testing.T) {
		h := h.in(t)
		set := func(path string, names ...string) string {
			return h.setOf("once", list(names...), "{{ .app }}", "kept", path, "  syncPolicy: {applicationsSync: create-only}\n")
		}
		h.apply(set("app", "once-a", "once-b"))
		h.waitApps("once", "once-a", "once-b")
		h.apply(set("elsewhere", "once-b", "once-c"))
		h.waitApps("once", "once-a", "once-b", "once-c")
		if app, err := h.app("once-b"); err != nil || app.Spec.Source.Path != "app" {
			t.Errorf("once-b: %v %v", app.Spec.Source, err)
		}
		h.delete(setObject("once"))
		for _, name := range []string{"once-a", "once-b", "once-c"} {
			app := h.waitApp(name, "to be let go", func(a *argo.Application) bool { return len(a.OwnerReferences) == 0 })
			if app.DeletionTimestamp != nil {
				t.Errorf("%s goes", name)
			}
			h.delete(appObject(name))
		}
	})
	t.Run("preserve", func(t *testing.T) {
		h := h.in(t)
		set := func(names ...string) string {
			return h.setOf("keep", list(names...), "{{ .app }}", "kept", "app", "  syncPolicy: {preserveResourcesOnDeletion: true}\n")
		}
		h.apply(strings.Replace(set("keep-a"), "preserveResourcesOnDeletion: true", "preserveResourcesOnDeletion: false", 1))
		h.waitApp("keep-a", "to be synced", healthy)
		h.waitLive("v1", "ConfigMap", "keep", "kept", nil)
		// Both in one: the Application's finalizer is from before.
		h.apply(set("keep-none"))
		h.waitApps("keep", "keep-none")
		h.waitLive("v1", "ConfigMap", "keep", "kept", nil)
		h.delete(setObject("keep"))
		h.waitApps("keep")
		h.waitLive("v1", "ConfigMap", "keep", "kept", nil)
	})
	t.Run("another's", func(t *testing.T) {
		h := h.in(t)
		h.apply(h.setOf("first", list("contested"), "{{ .app }}", "kept", "app", ""))
		defer h.delete(setObject("first"))
		h.waitApps("first", "contested")
		h.apply(h.setOf("second", list("contested", "fine"), "{{ .app }}", "kept", "app", ""))
		defer h.delete(setObject("second"))
		h.waitSet("second", "to be refused", setSays(argo.SetConditionErrorOccurred, "True", "contested", "belongs to ApplicationSet first"))
		h.waitApps("second")
	})
}

// TestApplicationSetClusters has an Application for each cluster, as their
// Secrets come and go.
func TestApplicationSetClusters(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	secret := func(name, env string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: cluster-%[1]s, namespace: argocd, labels: {argocd.argoproj.io/secret-type: cluster, env: %[2]s}}
stringData: {name: %[1]s, server: "https://%[1]s.example", config: "{}"}
`, name, env)
	}
	h.apply(h.setOf("everywhere", "  - clusters: {selector: {matchLabels: {env: prod}}, values: {where: '{{ .server }}'}}", "on-{{ .nameNormalized }}", "nobody", "{{ .metadata.labels.env }}", ""))
	defer h.delete(setObject("everywhere"))
	h.waitSet("everywhere", "to have nothing", func(s *argo.ApplicationSet) bool {
		return setSays(argo.SetConditionResourcesUpToDate, "True")(s) && s.Status.ResourcesCount == 0
	})
	eu := h.apply(secret("eu", "prod"))[0]
	us := h.apply(secret("us", "prod"))[0]
	defer h.delete(us)
	h.waitApps("everywhere", "on-eu", "on-us")
	h.apply(secret("eu", "staging"))
	h.waitApps("everywhere", "on-us")
	h.delete(eu)
	// A selector that finds all finds the cluster that we run in.
	h.apply(h.setOf("everywhere", "  - clusters: {}", "on-{{ .nameNormalized }}", "nobody", "a", ""))
	h.waitApps("everywhere", "on-in-cluster", "on-us")
}
