package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	h.namespace("argocd")
	var elements strings.Builder
	const n = 100
	for i := range n {
		fmt.Fprintf(&elements, "      - {app: 'many-%03d'}\n", i)
	}
	// Their repository is not there, so that the Applications are only made.
	h.apply(h.setOf("many", "  - list:\n      elements:\n"+elements.String(), "{{ .app }}", "nobody", ".", ""))
	defer h.delete(setObject("many"))
	h.waitSet("many", "to have made all", func(s *argo.ApplicationSet) bool { return s.Status.ResourcesCount == n })
	testkit.Eventually(t, "the Applications to be looked at", func() error {
		var list argo.ApplicationList
		if err := h.kube.List(t.Context(), &list, client.InNamespace("argocd"), client.MatchingLabels{"set": "many"}); err != nil {
			return err
		}
		for _, app := range list.Items {
			if app.Status.Sync.Status != argo.SyncUnknown {
				return errors.New(app.Name + " has no status yet")
			}
		}
		return nil
	})
	before := h.versions("many")
	if len(before) != n {
		t.Fatalf("%d Applications", len(before))
	}
	refresh := []byte(`{"metadata":{"annotations":{"argocd.argoproj.io/application-set-refresh":"true"}}}`)
	for range 3 {
		if err := h.kube.Patch(t.Context(), setObject("many"), client.RawPatch(types.MergePatchType, refresh)); err != nil {
			t.Fatal(err)
		}
		h.waitSet("many", "to answer the refresh", func(s *argo.ApplicationSet) bool { return s.Annotations[argo.AnnotationSetRefresh] == "" })
	}
	for name, version := range h.versions("many") {
		if before[name] != version {
			t.Errorf("%s was written", name)
		}
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
