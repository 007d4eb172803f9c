package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// kustomization waits until the Kustomization is as check wants it.
func (h *house) kustomization(namespace, name, what string, check func(*kustomizev1.Kustomization) bool) *kustomizev1.Kustomization {
	h.t.Helper()
	var last *kustomizev1.Kustomization
	testkit.Eventually(h.t, "Kustomization "+name+" "+what, func() error {
		k := &kustomizev1.Kustomization{}
		if err := h.kube.Get(h.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, k); err != nil {
			return err
		}
		last = k
		if !check(k) {
			return fmt.Errorf("conditions: %v, inventory: %v, applied: %s", k.Status.Conditions, k.Status.Inventory, k.Status.LastAppliedRevision)
		}
		return nil
	})
	return last
}

func readyAt(commit string) func(*kustomizev1.Kustomization) bool {
	return func(k *kustomizev1.Kustomization) bool {
		return apimeta.IsStatusConditionTrue(k.Status.Conditions, "Ready") && k.Status.ObservedGeneration == k.Generation &&
			strings.HasSuffix(k.Status.LastAppliedRevision, commit)
	}
}

func notReady(reason string, says ...string) func(*kustomizev1.Kustomization) bool {
	return func(k *kustomizev1.Kustomization) bool {
		c := apimeta.FindStatusCondition(k.Status.Conditions, "Ready")
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason {
			return false
		}
		for _, s := range says {
			if !strings.Contains(c.Message, s) {
				return false
			}
		}
		return true
	}
}

// fluxPair is a GitRepository and a Kustomization of it; extra is more of the
// Kustomization's spec.
func (h *house) fluxPair(namespace, name, repo, path, extra string) string {
	return fmt.Sprintf(`apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: %[2]s, namespace: %[1]s}
spec: {interval: 1h, url: "%[3]s%[4]s.git", ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1beta2
kind: Kustomization
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  interval: 1h
  retryInterval: 1h
  path: %[5]s
  prune: true
  sourceRef: {kind: GitRepository, name: %[2]s}
%[6]s`, namespace, name, h.url, repo, path, extra)
}

func (h *house) dropFlux(namespace, name string) {
	meta := metav1.ObjectMeta{Namespace: namespace, Name: name}
	h.delete(&kustomizev1.Kustomization{ObjectMeta: meta})
	h.delete(&sourcev1.GitRepository{ObjectMeta: meta})
}

func TestKustomizationSyncsPrunesAndHeals(t *testing.T) {
	h := newHouse(t)
	h.namespace("flux-one")
	repo := h.repo("flux-one", map[string]string{"apps/a.yaml": configMap("a", "1"), "apps/b.yaml": configMap("b", "1")})
	h.apply(h.fluxPair("flux-one", "one", "flux-one", "./apps", "  targetNamespace: flux-one\n"))
	defer h.dropFlux("flux-one", "one")
	k := h.kustomization("flux-one", "one", "to be ready", readyAt(repo.Head()))
	if n := len(k.Status.Inventory.Entries); n != 2 {
		t.Fatalf("%d inventory entries, want 2: %v", n, k.Status.Inventory)
	}
	if id := k.Status.Inventory.Entries[0].ID; !strings.HasPrefix(id, "flux-one_") || !strings.HasSuffix(id, "__ConfigMap") {
		t.Errorf("inventory id %q is not Flux' form", id)
	}
	if want := "main@sha1:" + repo.Head(); k.Status.LastAppliedRevision != want || k.Status.LastAttemptedRevision != want {
		t.Errorf("applied %q, attempted %q, want %q", k.Status.LastAppliedRevision, k.Status.LastAttemptedRevision, want)
	}

	repo.Remove("apps/b.yaml")
	second := h.push(repo, map[string]string{"apps/a.yaml": configMap("a", "2")})
	h.waitLive("v1", "ConfigMap", "flux-one", "a", field("2", "data", "key"))
	h.waitGone("v1", "ConfigMap", "flux-one", "b")
	h.kustomization("flux-one", "one", "to be at the second revision", readyAt(second))

	live := h.waitLive("v1", "ConfigMap", "flux-one", "a", nil)
	live.Object["data"] = map[string]any{"key": "by hand"}
	if err := h.kube.Update(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "ConfigMap", "flux-one", "a", field("2", "data", "key"))

	// Suspended, it is left alone; resumed, it catches up.
	h.apply(h.fluxPair("flux-one", "one", "flux-one", "./apps", "  targetNamespace: flux-one\n  suspend: true\n"))
	third := h.push(repo, map[string]string{"apps/a.yaml": configMap("a", "3")})
	testkit.Eventually(t, "the GitRepository to have the third revision", func() error {
		g := &sourcev1.GitRepository{}
		if err := h.kube.Get(t.Context(), types.NamespacedName{Namespace: "flux-one", Name: "one"}, g); err != nil {
			return err
		}
		if g.Status.Artifact == nil || !strings.HasSuffix(g.Status.Artifact.Revision, third) {
			return errors.New("not yet")
		}
		return nil
	})
	h.waitLive("v1", "ConfigMap", "flux-one", "a", field("2", "data", "key"))
	h.apply(h.fluxPair("flux-one", "one", "flux-one", "./apps", "  targetNamespace: flux-one\n  suspend: false\n"))
	h.waitLive("v1", "ConfigMap", "flux-one", "a", field("3", "data", "key"))
	h.kustomization("flux-one", "one", "to be at the third revision", readyAt(third))

	h.dropFlux("flux-one", "one")
	h.waitGone("v1", "ConfigMap", "flux-one", "a")
}

func TestKustomizationBadInput(t *testing.T) {
	h := newHouse(t)
	h.namespace("flux-bad")
	repo := h.repo("flux-bad", map[string]string{"apps/a.yaml": configMap("kept", "good"), "broken/x.yaml": "kind: [\n"})
	good := h.fluxPair("flux-bad", "bad", "flux-bad", "./apps", "  targetNamespace: flux-bad\n")
	h.apply(good)
	defer h.dropFlux("flux-bad", "bad")
	h.kustomization("flux-bad", "bad", "to be ready", readyAt(repo.Head()))
	cases := map[string]struct {
		find, replace, reason string
		says                  []string
	}{
		"unknown field":        {"  prune: true", "  prune: true\n  colour: red", "InvalidSpec", []string{"spec.colour", "unknown field"}},
		"unsupported kind":     {"kind: GitRepository, name: bad}", "kind: Bucket, name: bad}", "InvalidSpec", []string{"spec.sourceRef.kind", "not supported"}},
		"path not there":       {"./apps", "./nowhere", "ArtifactFailed", []string{"nowhere"}},
		"broken YAML":          {"./apps", "./broken", "BuildFailed", []string{"broken/x.yaml"}},
		"source not there":     {"name: bad}\n  targetNamespace", "name: ghost}\n  targetNamespace", "ArtifactFailed", []string{"ghost"}},
		"dependency not there": {"  prune: true", "  prune: true\n  dependsOn: [{name: ghost}]", "DependencyNotReady", []string{"ghost"}},
		"variable not defined": {"  prune: true", "  prune: true\n  postBuild: {substituteFrom: [{kind: ConfigMap, name: ghost}]}", "BuildFailed", []string{"spec.postBuild.substituteFrom[0]", "ghost"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			bad := strings.Replace(good, c.find, c.replace, 1)
			if bad == good {
				t.Fatalf("%q is not in\n%s", c.find, good)
			}
			h.apply(bad)
			h.kustomization("flux-bad", "bad", "to say what is wrong", notReady(c.reason, c.says...))
			h.waitLive("v1", "ConfigMap", "flux-bad", "kept", field("good", "data", "key"))
			h.apply(good)
			h.kustomization("flux-bad", "bad", "to be well again", readyAt(repo.Head()))
		})
	}
}

func TestKustomizationDependsOnAndSubstitutes(t *testing.T) {
	h := newHouse(t)
	h.namespace("flux-dep")
	repo := h.repo("flux-dep", map[string]string{
		"base/a.yaml": configMap("base", "1"),
		"top/a.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: top\ndata:\n  key: \"${who} and ${other:=default}\"\n",
	})
	h.apply(h.fluxPair("flux-dep", "top", "flux-dep", "./top", "  targetNamespace: flux-dep\n  dependsOn: [{name: base}]\n  postBuild: {substitute: {who: me}}\n"))
	defer h.dropFlux("flux-dep", "top")
	h.kustomization("flux-dep", "top", "to wait", notReady("DependencyNotReady", "flux-dep/base"))
	h.apply(h.fluxPair("flux-dep", "base", "flux-dep", "./base", "  targetNamespace: flux-dep\n"))
	defer h.dropFlux("flux-dep", "base")
	h.kustomization("flux-dep", "top", "to follow at once", readyAt(repo.Head()))
	h.waitLive("v1", "ConfigMap", "flux-dep", "top", field("me and default", "data", "key"))
}

// TestKustomizationWaits is ready only when what it applied is healthy.
func TestKustomizationWaits(t *testing.T) {
	h := newHouse(t)
	h.namespace("flux-wait")
	repo := h.repo("flux-wait", map[string]string{"apps/d.yaml": deployment("web", 1, "web:1")})
	h.apply(h.fluxPair("flux-wait", "wait", "flux-wait", "./apps", "  targetNamespace: flux-wait\n  wait: true\n"))
	defer h.dropFlux("flux-wait", "wait")
	k := h.kustomization("flux-wait", "wait", "to be ready", readyAt(repo.Head()))
	if !apimeta.IsStatusConditionTrue(k.Status.Conditions, "Healthy") {
		t.Errorf("conditions: %v", k.Status.Conditions)
	}
	h.waitLive("apps/v1", "Deployment", "flux-wait", "web", field(1, "status", "availableReplicas"))
}

// TestGitRepository resolves each kind of reference, leaves out what it is
// told to, and says what is wrong with what it cannot resolve.
func TestGitRepository(t *testing.T) {
	h := newHouse(t)
	h.namespace("flux-git")
	repo := h.repo("flux-git", map[string]string{"a.txt": "1"})
	first := repo.Head()
	repo.Git("tag", "v1.0.0")
	second := h.push(repo, map[string]string{"a.txt": "2"})
	repo.Git("tag", "v1.1.0")
	repo.Git("push", "-q", "--tags", "origin")
	cases := map[string]struct {
		spec, revision, reason string
		says                   []string
	}{
		"branch":            {`ref: {branch: main}`, "main@sha1:" + second, "", nil},
		"tag":               {`ref: {tag: v1.0.0}`, "v1.0.0@sha1:" + first, "", nil},
		"semver":            {`ref: {semver: ">=1.0.0"}`, "v1.1.0@sha1:" + second, "", nil},
		"name":              {`ref: {name: refs/heads/main}`, "main@sha1:" + second, "", nil},
		"commit":            {`ref: {commit: ` + first + `}`, "sha1:" + first, "", nil},
		"no such tag":       {`ref: {tag: v9}`, "", "GitOperationFailed", []string{"v9"}},
		"no such secret":    {`secretRef: {name: ghost}`, "", "AuthenticationFailed", []string{"ghost"}},
		"unsupported":       {`recurseSubmodules: true`, "", "InvalidSpec", []string{"spec.recurseSubmodules"}},
		"unknown":           {`colour: red`, "", "InvalidSpec", []string{"spec.colour", "unknown field"}},
		"default is master": {``, "", "GitOperationFailed", []string{"master"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			objs := h.apply(fmt.Sprintf("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: g, namespace: flux-git}\nspec:\n  interval: 1h\n  url: %sflux-git.git\n  %s\n", h.url, c.spec))
			defer h.delete(objs[0])
			testkit.Eventually(t, "the GitRepository", func() error {
				g := &sourcev1.GitRepository{}
				if err := h.kube.Get(t.Context(), types.NamespacedName{Namespace: "flux-git", Name: "g"}, g); err != nil {
					return err
				}
				ready := apimeta.FindStatusCondition(g.Status.Conditions, "Ready")
				if ready == nil {
					return errors.New("no condition yet")
				}
				if c.reason == "" {
					if g.Status.Artifact == nil || g.Status.Artifact.Revision != c.revision || ready.Status != metav1.ConditionTrue {
						return fmt.Errorf("artifact %+v, %+v", g.Status.Artifact, ready)
					}
					return nil
				}
				if ready.Status != metav1.ConditionFalse || ready.Reason != c.reason {
					return fmt.Errorf("%+v", ready)
				}
				for _, s := range c.says {
					if !strings.Contains(ready.Message, s) {
						return fmt.Errorf("%q does not say %q", ready.Message, s)
					}
				}
				return nil
			})
		})
	}
}

// TestGitRepositoryIgnores leaves files out of what Kustomizations read.
func TestGitRepositoryIgnores(t *testing.T) {
	h := newHouse(t)
	h.namespace("flux-ignore")
	repo := h.repo("flux-ignore", map[string]string{"apps/a.yaml": configMap("a", "1"), "apps/drafts/b.yaml": configMap("b", "1")})
	text := strings.Replace(h.fluxPair("flux-ignore", "ig", "flux-ignore", "./apps", "  targetNamespace: flux-ignore\n"), "ref: {branch: main}", `ref: {branch: main}, ignore: "/apps/drafts/"`, 1)
	h.apply(text)
	defer h.dropFlux("flux-ignore", "ig")
	k := h.kustomization("flux-ignore", "ig", "to be ready", readyAt(repo.Head()))
	if n := len(k.Status.Inventory.Entries); n != 1 {
		t.Errorf("%d objects, want only a: %v", n, k.Status.Inventory)
	}
}

// TestKustomizationSaysWhySourceFails: a source that fails from the start
// wakes who waits for it, so that it says why, and does not wait in silence.
func TestKustomizationSaysWhySourceFails(t *testing.T) {
	h := newHouse(t)
	h.namespace("mute")
	source, kustomization, _ := strings.Cut(h.fluxPair("mute", "mute", "nowhere", "./app", ""), "---\n")
	says := func(what string) func(*kustomizev1.Kustomization) bool {
		return func(k *kustomizev1.Kustomization) bool {
			return len(k.Status.Conditions) > 0 && strings.Contains(fmt.Sprint(k.Status.Conditions), what)
		}
	}
	h.apply(kustomization)
	defer h.dropFlux("mute", "mute")
	h.kustomization("mute", "mute", "to miss its source", says("is not there"))
	h.apply(source)
	h.kustomization("mute", "mute", "to say why its source fails", says("does not exist"))
}

// A Kustomization's own expressions say when its objects are healthy.
func TestHealthCheckExprs(t *testing.T) {
	h := newHouse(t)
	h.namespace("exprs")
	h.repo("exprs", map[string]string{"apps/a.yaml": configMap("a", "1")})
	exprs := func(current string) string {
		return "  targetNamespace: exprs\n  wait: true\n  healthCheckExprs:\n  - apiVersion: v1\n    kind: ConfigMap\n    current: \"" + current + "\"\n"
	}
	h.apply(h.fluxPair("exprs", "exprs", "exprs", "./apps", exprs("metadata.annotations.approved == 'yes'")))
	defer h.dropFlux("exprs", "exprs")
	h.kustomization("exprs", "exprs", "to wait", func(k *kustomizev1.Kustomization) bool {
		c := apimeta.FindStatusCondition(k.Status.Conditions, "Healthy")
		return c != nil && c.Status == metav1.ConditionUnknown && len(k.Status.Inventory.Entries) == 1
	})
	live := h.waitLive("v1", "ConfigMap", "exprs", "a", nil)
	annotations := live.GetAnnotations()
	annotations["approved"] = "yes"
	live.SetAnnotations(annotations)
	if err := h.kube.Update(t.Context(), live, client.FieldOwner("somebody")); err != nil {
		t.Fatal(err)
	}
	ready := func(k *kustomizev1.Kustomization) bool {
		return apimeta.IsStatusConditionTrue(k.Status.Conditions, "Ready") && k.Status.ObservedGeneration == k.Generation
	}
	h.kustomization("exprs", "exprs", "to be ready", ready)
	h.apply(h.fluxPair("exprs", "exprs", "exprs", "./apps", exprs("metadata.annotations.approved == ")))
	h.kustomization("exprs", "exprs", "to be refused", notReady("InvalidSpec", "healthCheckExprs[0]: ConfigMap: current"))
}
