package controller

import (
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/apis/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// label sets a label of any object.
func (h *house) label(u *unstructured.Unstructured, key, value string) {
	h.t.Helper()
	patch := `{"metadata": {"labels": {"` + key + `": "` + value + `"}}}`
	if err := h.kube.Patch(h.t.Context(), u, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		h.t.Fatal(err)
	}
}

// A readyExpr says in place of the Ready condition whether a dependency is
// ready. Any change of it is looked at when it happens.
func TestReadyExpr(t *testing.T) {
	h := newHouse(t)
	h.namespace("exprs")
	h.repo("exprs", map[string]string{"first/a.yaml": configMap("a", "1"), "second/b.yaml": configMap("b", "1")})
	h.apply(h.fluxPair("exprs", "first", "exprs", "./first", "  targetNamespace: exprs\n"))
	defer h.dropFlux("exprs", "first")
	h.apply(h.fluxPair("exprs", "second", "exprs", "./second", "  targetNamespace: exprs\n  dependsOn:\n"+
		"  - name: first\n    readyExpr: dep.metadata.?labels['release'].orValue('') == 'v2' && self.metadata.name == 'second'\n"))
	defer h.dropFlux("exprs", "second")

	first := h.waitLive("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "exprs", "first", nil)
	h.kustomization("exprs", "first", "to be ready", readyAt(""))
	h.kustomization("exprs", "second", "to wait for its expression", notReady(meta.DependencyNotReadyReason, "'exprs/first'", "readyExpr"))
	h.label(first, "release", "v2") // it retries after an hour
	h.kustomization("exprs", "second", "to be ready", readyAt(""))

	h.kustomize("exprs", "second", func(s *kustomizev1.KustomizationSpec) { s.DependsOn[0].ReadyExpr = "other.metadata" })
	h.kustomization("exprs", "second", "to be refused", notReady("InvalidSpec", "spec.dependsOn[0].readyExpr", "other"))
}

// What spec.ignore names is neither drift nor applied to what is there.
func TestKustomizationIgnore(t *testing.T) {
	h := newHouse(t)
	h.namespace("ignores")
	manifest := func(a, b string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\n  labels: {scaled: 'yes'}\ndata: {a: '" + a + "', b: '" + b + "'}\n"
	}
	repo := h.repo("ignores", map[string]string{"app/m.yaml": manifest("1", "1"), "app/n.yaml": strings.ReplaceAll(strings.Replace(manifest("1", "1"), "name: m", "name: n", 1), "  labels: {scaled: 'yes'}\n", "")})
	h.apply(h.fluxPair("ignores", "ignores", "ignores", "./app", "  targetNamespace: ignores\n  ignore:\n  - paths: [/data/a]\n    target: {kind: Config.*, labelSelector: scaled=yes}\n"))
	defer h.dropFlux("ignores", "ignores")
	h.kustomization("ignores", "ignores", "to be ready", readyAt(repo.Head()))
	// It is applied where it has to be made.
	h.waitLive("v1", "ConfigMap", "ignores", "m", field("1", "data", "a"))

	edit := func(name, a, b string) {
		t.Helper()
		live := h.waitLive("v1", "ConfigMap", "ignores", name, nil)
		live.Object["data"] = map[string]any{"a": a, "b": b}
		if err := h.kube.Update(t.Context(), live, client.FieldOwner("kubectl-edit")); err != nil {
			t.Fatal(err)
		}
	}
	edit("m", "by hand", "by hand")
	edit("n", "by hand", "1")
	h.waitLive("v1", "ConfigMap", "ignores", "n", field("1", "data", "a")) // which the rule does not select
	h.waitLive("v1", "ConfigMap", "ignores", "m", field("1", "data", "b"))
	head := h.push(repo, map[string]string{"app/m.yaml": manifest("2", "2")})
	h.kustomization("ignores", "ignores", "to have the change", readyAt(head))
	h.waitLive("v1", "ConfigMap", "ignores", "m", field("2", "data", "b"))
	h.waitLive("v1", "ConfigMap", "ignores", "m", field("by hand", "data", "a"))

	h.kustomize("ignores", "ignores", func(s *kustomizev1.KustomizationSpec) {
		s.Ignore[0].Target = &kustomize.Selector{LabelSelector: "=="}
	})
	h.kustomization("ignores", "ignores", "to be refused", notReady("InvalidSpec", "spec.ignore[0].target"))
}

func TestBuildMetadata(t *testing.T) {
	h := newHouse(t)
	h.namespace("origins")
	h.repo("origins", map[string]string{"app/base/m.yaml": configMap("m", "1"), "app/kustomization.yaml": "resources: [base/m.yaml]\n"})
	h.apply(h.fluxPair("origins", "origins", "origins", "./app", "  targetNamespace: origins\n  buildMetadata: [originAnnotations]\n"))
	defer h.dropFlux("origins", "origins")
	h.waitLive("v1", "ConfigMap", "origins", "m", field("path: base/m.yaml\n", "metadata", "annotations", "config.kubernetes.io/origin"))
}
