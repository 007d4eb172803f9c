package controller

import (
	"testing"
	"time"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"

	"github.com/fairway-cd/fairway/internal/release"
)

// TestHelmReleaseAfterUninstallBesideUs: the history is that of the release as
// it is now, and an upgrade that fails is rolled back as if it had been the
// first ever.
func TestHelmReleaseAfterUninstallBesideUs(t *testing.T) {
	const namespace = "helm-again"
	h := fragileHouse(t, namespace)
	const remediation = "  upgrade: {remediation: {retries: 1}}\n"
	values := func(values string) { h.apply(helmReleaseOf(namespace, "1.x", remediation+"  values: {"+values+"}\n")) }
	says := func(want string) func(*helmv2.HelmRelease) bool {
		return func(hr *helmv2.HelmRelease) bool {
			return revisions(hr) == want && hr.Status.ObservedGeneration == hr.Generation
		}
	}
	values("color: green")
	defer h.dropHelm(namespace, "web")
	h.helmRelease(namespace, "web", "to be installed", releasedAs(1, "1.0.0"))
	values("color: blue")
	h.helmRelease(namespace, "web", "to be upgraded", releasedAs(2, "1.0.0"))
	values("color: red")
	hr := h.helmRelease(namespace, "web", "to be upgraded again", releasedAs(3, "1.0.0"))

	releases, err := release.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	beside, err := releases.Release(t.Context(), release.Target{Name: hr.GetReleaseName(), Namespace: hr.GetReleaseNamespace(), Storage: hr.GetStorageNamespace()})
	if err != nil {
		t.Fatal(err)
	}
	if err := beside.Uninstall(t.Context(), release.Options{Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	h.request("HelmRelease", namespace, "web", "again")
	h.helmRelease(namespace, "web", "to be installed anew", says("1 deployed"))
	values("color: white, broken: true")
	h.helmRelease(namespace, "web", "to give up after one more try", func(hr *helmv2.HelmRelease) bool {
		return stalledAs("RetriesExceeded")(hr) && hr.Status.UpgradeFailures == 2 && hr.Status.History.Latest().Version == 5
	})
	h.waitLive("v1", "ConfigMap", namespace, "web-config", field("red", "data", "color"))
	values("color: yellow")
	h.helmRelease(namespace, "web", "to be upgraded", releasedAs(6, "1.0.0"))
}
