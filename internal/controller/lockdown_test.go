package controller

import (
	"net/http"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"

	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/core/problem"
)

// locked is the engine under a lockdown.
func locked(l Lockdown) func(*Options) { return func(o *Options) { o.Lockdown = l } }

// Who names no account acts as the default one of its namespace: also where it
// was delivered with all rights before.
func TestDefaultServiceAccount(t *testing.T) {
	dir := t.TempDir()
	h := startHouse(t, dir)
	for _, ns := range []string{"locked", "locked-other"} {
		h.namespace(ns)
	}
	repo := h.repo("locked", map[string]string{"app/a.yaml": configMap("a", "1")})
	pair := func() string {
		return strings.Replace(h.fluxPair("locked", "free", "locked", "./app", "  targetNamespace: locked-other\n"), "retryInterval: 1h", "retryInterval: 1s", 1)
	}
	h.apply(pair())
	h.kustomization("locked", "free", "to be ready as ourselves", readyAt(repo.Head()))
	h.stop()

	h = startHouse(t, dir, locked(Lockdown{DefaultServiceAccount: "tenant"}))
	defer func() { h.stop() }()
	h.apply(account("locked", "named", "locked-other", applies))
	h.apply(pair()) // the Git server has another port
	defer h.dropFlux("locked", "free")
	forbidden := notReady("ReconciliationFailed", "forbidden", "system:serviceaccount:locked:tenant")
	h.kustomization("locked", "free", "to be denied as the default account", forbidden)
	h.kustomize("locked", "free", func(s *kustomizev1.KustomizationSpec) { s.ServiceAccountName = "named" })
	h.kustomization("locked", "free", "to be ready as the account that it names", readyAt(repo.Head()))
	h.kustomize("locked", "free", func(s *kustomizev1.KustomizationSpec) { s.ServiceAccountName = "" })
	h.kustomization("locked", "free", "to be denied again", forbidden)
	h.apply(account("locked", "tenant", "locked-other", applies))
	h.kustomization("locked", "free", "to be ready as the default account", readyAt(repo.Head()))

	host := newHelmHost(t)
	host.publish("1.0.0", nil)
	h.apply(helmRepositoryOf("locked", host.URL))
	h.apply(helmReleaseOf("locked", "1.x", ""))
	defer h.dropHelm("locked", "web")
	h.helmRelease("locked", "web", "to be denied as the default account",
		helmSays("GetLastReleaseFailed", "system:serviceaccount:locked:tenant", "forbidden"))
}

// Sources of other namespaces are refused, and not read for who looks either.
func TestNoCrossNamespaceRefs(t *testing.T) {
	h := newHouse(t, locked(Lockdown{NoCrossNamespaceRefs: true}))
	for _, ns := range []string{"own", "foreign"} {
		h.namespace(ns)
	}
	repo := h.repo("foreign", map[string]string{"app/a.yaml": configMap("a", "1")})
	pair := strings.Split(h.fluxPair("foreign", "k", "foreign", "./app", "  targetNamespace: own\n"), "\n---\n")
	crossing := strings.Replace(strings.Replace(pair[1], "namespace: foreign", "namespace: own", 1), "name: k}\n", "name: k, namespace: foreign}\n", 1)
	h.apply(pair[0] + "\n---\n" + crossing)
	defer h.dropFlux("own", "k")
	h.kustomization("own", "k", "to be refused", notReady("AccessDenied", "spec.sourceRef.namespace", "--no-cross-namespace-refs"))
	owner := core.Owner{Dialect: core.Flux, Kind: kustomizev1.KustomizationKind, Namespace: "own", Name: "k"}
	if _, err := h.engine.Manifests(t.Context(), owner, ""); problem.Of(err).Status != http.StatusUnprocessableEntity {
		t.Errorf("who looks is told: %v", err)
	}
	h.apply(pair[1])
	defer h.dropFlux("foreign", "k")
	h.kustomization("foreign", "k", "to be ready in the source's namespace", readyAt(repo.Head()))

	h.apply(helmReleaseOf("own", "1.x", ""))
	defer h.dropHelm("own", "web")
	h.helmRelease("own", "web", "to miss a source of its own namespace", helmSays("SourceNotReady", "is not there"))
	h.apply(strings.Replace(helmReleaseOf("own", "1.x", ""), "name: charts}", "name: charts, namespace: foreign}", 1))
	h.helmRelease("own", "web", "to be refused", helmSays("AccessDenied", "spec.chart.spec.sourceRef.namespace"))
	h.apply(`apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: ref, namespace: own}
spec: {interval: 1h, chartRef: {kind: OCIRepository, name: charts, namespace: foreign}}
`)
	defer h.dropHelm("own", "ref")
	h.helmRelease("own", "ref", "to be refused", helmSays("AccessDenied", "spec.chartRef.namespace"))
}
