package controller

import (
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// TestDeliveriesOfThemselvesCanBeDeleted: a root of apps that has itself in its
// directory, two Applications each of which has the other, and Kustomizations
// like them go, and take with them what they have.
func TestDeliveriesOfThemselvesCanBeDeleted(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.namespace("circle")
	has := func(others ...string) func(*argo.Application) bool {
		return func(a *argo.Application) bool {
			names := map[string]bool{}
			for _, r := range a.Status.Resources {
				names[r.Name] = true
			}
			for _, name := range others {
				if !names[name] {
					return false
				}
			}
			return synced(a)
		}
	}
	app := func(name, dir string) string {
		return finalizers(h.application(name, "circle", dir, "circle", automated), argo.Finalizer)
	}
	flux := func(name string) string {
		_, k, _ := strings.Cut(h.fluxPair("circle", name, "circle", "./"+name, "  deletionPolicy: WaitForTermination\n"), "\n---\n")
		return k
	}
	inNamespace := func(manifest string) string {
		return strings.Replace(manifest, "metadata:\n", "metadata:\n  namespace: circle\n", 1)
	}
	h.repo("circle", map[string]string{
		"self/app.yaml": app("self", "self"), "self/cm.yaml": configMap("of-self", "1"),
		"one/app.yaml": app("two", "two"), "one/cm.yaml": configMap("of-one", "1"),
		"two/app.yaml": app("one", "one"), "two/cm.yaml": configMap("of-two", "1"),
		"mirror/k.yaml": flux("mirror"), "mirror/cm.yaml": inNamespace(configMap("of-mirror", "1")),
		"left/k.yaml": flux("right"), "left/cm.yaml": inNamespace(configMap("of-left", "1")),
		"right/k.yaml": flux("left"), "right/cm.yaml": inNamespace(configMap("of-right", "1")),
	})
	h.apply(app("self", "self"))
	h.apply(app("one", "one"))
	h.apply(h.fluxPair("circle", "mirror", "circle", "./mirror", "  deletionPolicy: WaitForTermination\n"))
	h.apply(h.fluxPair("circle", "right", "circle", "./right", "  deletionPolicy: WaitForTermination\n"))
	h.apply(h.fluxPair("circle", "left", "circle", "./left", "  deletionPolicy: WaitForTermination\n"))
	h.waitApp("self", "to have itself", has("self", "of-self"))
	h.waitApp("one", "to have the other", has("two", "of-one"))
	h.waitApp("two", "to have the first", has("one", "of-two"))
	for name, other := range map[string]string{"mirror": "mirror", "left": "right", "right": "left"} {
		h.kustomization("circle", name, "to have "+other, func(k *kustomizev1.Kustomization) bool {
			ids := ""
			if k.Status.Inventory != nil {
				for _, e := range k.Status.Inventory.Entries {
					ids += e.ID + " "
				}
			}
			return readyAt("")(k) && strings.Contains(ids, "circle_"+other+"_") && strings.Contains(ids, "of-"+name)
		})
	}

	h.delete(appObject("self"))
	h.delete(appObject("one"))
	h.waitGone("argoproj.io/v1alpha1", "Application", "argocd", "two")
	for _, name := range []string{"mirror", "left"} {
		h.delete(&kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "circle", Name: name}})
	}
	h.waitGone("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "circle", "right")
	for _, name := range []string{"self", "one", "two", "mirror", "left", "right"} {
		h.waitGone("v1", "ConfigMap", "circle", "of-"+name)
	}
}
