package controller

import (
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
)

// What becomes of what a Kustomization has applied, when it is deleted.
func TestDeletionPolicies(t *testing.T) {
	h := newHouse(t)
	for policy, c := range map[string]struct {
		prune bool
		stays bool
	}{
		"MirrorPrune": {true, false}, "Delete": {false, false}, "WaitForTermination": {false, false}, "Orphan": {true, true}, "": {false, true},
	} {
		t.Run("policy-"+policy, func(t *testing.T) {
			h := h.in(t)
			name := strings.ToLower("policy" + policy)
			h.namespace(name)
			repo := h.repo(name, map[string]string{"app/a.yaml": configMap("a", "1")})
			pair := h.fluxPair(name, name, name, "./app", "  targetNamespace: "+name+"\n")
			if policy != "" {
				pair += "  deletionPolicy: " + policy + "\n"
			}
			if !c.prune {
				pair = strings.Replace(pair, "prune: true", "prune: false", 1)
			}
			h.apply(pair)
			h.kustomization(name, name, "to be ready", readyAt(repo.Head()))
			h.delete(&kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name}})
			if c.stays {
				h.waitLive("v1", "ConfigMap", name, "a", nil)
			} else {
				h.waitGone("v1", "ConfigMap", name, "a")
			}
			h.dropFlux(name, name)
		})
	}
}

// A source that has nothing left prunes everything only with allowEmpty, and
// the history keeps as many entries as it is to.
func TestAllowEmptyAndHistory(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	repo := h.repo("emptied", map[string]string{"app/a.yaml": configMap("a", "1")})
	spec := "  revisionHistoryLimit: 2\n" + automated
	h.apply(h.application("emptied", "emptied", "app", "emptied", spec))
	defer h.delete(appObject("emptied"))
	for _, value := range []string{"2", "3", "4"} {
		head := h.push(repo, map[string]string{"app/a.yaml": configMap("a", value)})
		h.waitApp("emptied", "to be at the next revision", func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == head })
	}
	if a, err := h.app("emptied"); err != nil || len(a.Status.History) != 2 || a.Status.History[1].ID != a.Status.History[0].ID+1 {
		t.Fatalf("%v %+v", err, a.Status.History)
	}
	repo.Remove("app/a.yaml")
	h.push(repo, map[string]string{"app/README.md": "nothing left"})
	h.waitApp("emptied", "to be refused", func(a *argo.Application) bool {
		s := a.Status.OperationState
		return s != nil && s.Phase == argo.OperationFailed && strings.Contains(s.Message, "allowEmpty")
	})
	h.waitLive("v1", "ConfigMap", "emptied", "a", field("4", "data", "key"))
	h.apply(h.application("emptied", "emptied", "app", "emptied", strings.Replace(spec, "selfHeal: true", "selfHeal: true, allowEmpty: true", 1)))
	h.waitGone("v1", "ConfigMap", "emptied", "a")
}
