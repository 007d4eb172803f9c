package controller

import (
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	"github.com/fairway-cd/fairway/internal/core"
)

// TestKustomizationRollback goes back by a commit, or by a pin where the user
// may not push.
func TestKustomizationRollback(t *testing.T) {
	h := newHouse(t)
	h.namespace("flux-back")
	repo := h.repo("flux-back", map[string]string{"apps/a.yaml": configMap("a", "good")})
	good := repo.Head()
	h.apply(h.fluxPair("flux-back", "back", "flux-back", "./apps", "  targetNamespace: flux-back\n"))
	defer h.dropFlux("flux-back", "back")
	owner := core.Owner{Dialect: core.Flux, Kind: kustomizev1.KustomizationKind, Namespace: "flux-back", Name: "back"}
	h.kustomization("flux-back", "back", "to be ready", readyAt(good))
	bad := h.push(repo, map[string]string{"apps/a.yaml": configMap("a", "bad"), "apps/b.yaml": configMap("b", "bad"), "other.txt": "stays"})
	h.kustomization("flux-back", "back", "to be bad", readyAt(bad))

	result, err := h.engine.Rollback(t.Context(), RollbackRequest{Owner: owner, To: good, Reason: "bad", User: core.User{Name: "mallory"}})
	if err != nil || !result.Pinned || result.Commit != "" || !strings.Contains(result.ToDo, "git rm -r -- apps/b.yaml") {
		t.Fatalf("%+v, %v", result, err)
	}
	h.kustomization("flux-back", "back", "to be pinned", readyAt(good))
	h.waitLive("v1", "ConfigMap", "flux-back", "a", field("good", "data", "key"))
	h.waitGone("v1", "ConfigMap", "flux-back", "b")
	if err := h.engine.Pin(t.Context(), owner, "", "", ""); err != nil {
		t.Fatal(err)
	}
	h.kustomization("flux-back", "back", "to go on", readyAt(bad))

	result, err = h.engine.Rollback(t.Context(), RollbackRequest{Owner: owner, To: good, Reason: "bad", User: core.User{Name: "alice"}})
	if err != nil || result.Pinned || strings.Join(result.Changed, " ") != "apps/a.yaml apps/b.yaml" {
		t.Fatalf("%+v, %v", result, err)
	}
	h.kustomization("flux-back", "back", "to have the commit", readyAt(result.Commit))
	h.waitLive("v1", "ConfigMap", "flux-back", "a", field("good", "data", "key"))
	h.waitGone("v1", "ConfigMap", "flux-back", "b")
}
