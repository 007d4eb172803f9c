package controller

import (
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/git"
	"github.com/fairway-cd/fairway/internal/testkit"
)

func gitRule(from, to string) git.Rule { return git.Rule{From: from, To: to} }

// TestStandsBack: while Argo CD's own controller is ready nothing of its
// dialect is touched; when it is gone everything is.
func TestStandsBack(t *testing.T) {
	h := newHouse(t)
	h.namespace("argocd")
	h.namespace("foreign")
	objs := h.apply(`apiVersion: apps/v1
kind: StatefulSet
metadata: {name: argocd-application-controller, namespace: foreign}
spec:
  replicas: 1
  serviceName: x
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec: {containers: [{name: x, image: x}]}
`)
	gone := false
	defer func() {
		if !gone {
			h.delete(objs[0])
		}
	}()
	testkit.Eventually(t, "the other controller to be ready", func() error {
		s := &appsv1.StatefulSet{}
		if err := h.kube.Get(t.Context(), types.NamespacedName{Namespace: "foreign", Name: "argocd-application-controller"}, s); err != nil {
			return err
		}
		if _, back := h.engine.StandsBack(core.ArgoCD); s.Status.ReadyReplicas == 0 || !back {
			return errors.New("not yet")
		}
		return nil
	})
	h.repo("back", map[string]string{"app/a.yaml": configMap("a", "1")})
	h.apply(h.application("stand", "back", "app", "stand", automated))
	defer h.delete(appObject("stand"))
	// Flux' dialect is not concerned, and shows that the engine works meanwhile.
	h.namespace("flux-stand")
	repo := h.repo("flux-stand", map[string]string{"apps/a.yaml": configMap("a", "1")})
	h.apply(h.fluxPair("flux-stand", "one", "flux-stand", "./apps", "  targetNamespace: flux-stand\n"))
	defer h.dropFlux("flux-stand", "one")
	h.kustomization("flux-stand", "one", "to be ready", readyAt(repo.Head()))
	a, err := h.app("stand")
	if err != nil || a.Status.Sync.Status != "" || a.Status.OperationState != nil {
		t.Fatalf("the Application was touched: %v %s", err, describe(a))
	}
	gone = true
	h.delete(objs[0])
	h.waitApp("stand", "to be ours", func(a *argo.Application) bool { return healthy(a) })
}
