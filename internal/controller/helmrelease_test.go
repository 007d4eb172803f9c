package controller

import (
	"strings"
	"testing"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
)

// TestHelmReleaseFromRepository installs from a repository over HTTP, upgrades
// when a new version is published, and uninstalls.
func TestHelmReleaseFromRepository(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-one")
	host := newHelmHost(t)
	host.publish("1.0.0", nil)
	h.apply(helmReleaseOf("helm-one", "1.x", "  values: {color: green}\n"))
	defer h.dropHelm("helm-one", "web")
	h.helmRelease("helm-one", "web", "to miss its source", helmSays("SourceNotReady", "HelmRepository", "is not there"))
	h.apply(helmRepositoryOf("helm-one", host.URL))
	hr := h.helmRelease("helm-one", "web", "to be installed", releasedAs(1, "1.0.0"))
	h.waitLive("v1", "ConfigMap", "helm-one", "web-config", field("green", "data", "color"))
	if hr.Status.HelmChart != "helm-one/helm-one-web" || hr.Status.LastAttemptedRevision != "1.0.0" || hr.Status.StorageNamespace != "helm-one" ||
		hr.Status.Inventory == nil || hr.Status.Inventory.Entries[0].ID != "helm-one_web-config__ConfigMap" {
		t.Errorf("the status is %+v", hr.Status)
	}
	if c := apimeta.FindStatusCondition(hr.Status.Conditions, helmv2.ReleasedCondition); c == nil || c.Reason != "InstallSucceeded" ||
		c.Message != "Helm install succeeded for release helm-one/web.v1 with chart web@1.0.0" {
		t.Errorf("Released is %+v", c)
	}
	var c sourcev1.HelmChart
	if err := h.kube.Get(t.Context(), types.NamespacedName{Namespace: "helm-one", Name: "helm-one-web"}, &c); err != nil ||
		c.Status.Artifact == nil || c.Status.Artifact.Revision != "1.0.0" || c.Status.ObservedChartName != "web" {
		t.Errorf("the HelmChart is %+v, %v", c.Status, err)
	}

	before := hr.ResourceVersion
	host.publish("1.1.0", nil)
	h.request("HelmRepository", "helm-one", "charts", "one")
	hr = h.helmRelease("helm-one", "web", "to be upgraded", releasedAs(2, "1.1.0"))
	h.waitLive("v1", "ConfigMap", "helm-one", "web-config", field("1.1.0", "data", "version"))
	if hr.ResourceVersion == before || len(hr.Status.History) != 2 || hr.Status.History[1].Status != "superseded" {
		t.Errorf("the history is %s", digestible(hr.Status))
	}

	h.dropHelm("helm-one", "web")
	h.waitGone("v1", "ConfigMap", "helm-one", "web-config")
	h.waitGone("source.toolkit.fluxcd.io/v1", "HelmChart", "helm-one", "helm-one-web")
}

// TestHelmReleaseFromRegistry is the same from our own registry, by a
// HelmRepository of type oci and by an OCIRepository.
func TestHelmReleaseFromRegistry(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-oci")
	host := helmRegistry(t)
	digest := pushChart(t, host, "1.0.0", nil)
	h.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts, namespace: helm-oci}\n" +
		"spec: {type: oci, insecure: true, interval: 1h, url: \"oci://" + host + "/charts\"}\n")
	h.apply(helmReleaseOf("helm-oci", "*", ""))
	defer h.dropHelm("helm-oci", "web")
	h.helmRelease("helm-oci", "web", "to be installed", releasedAs(1, "1.0.0"))

	h.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata: {name: web, namespace: helm-oci}\n" +
		"spec: {insecure: true, interval: 1h, url: \"oci://" + host + "/charts/web\", ref: {semver: 1.x}}\n")
	byRef := strings.Replace(helmReleaseOf("helm-oci", "*", ""), "  chart: {spec: {chart: web, version: \"*\", sourceRef: {kind: HelmRepository, name: charts}}}\n",
		"  releaseName: by-ref\n  chartRef: {kind: OCIRepository, name: web}\n", 1)
	byRef = strings.Replace(byRef, "name: web, namespace: helm-oci}", "name: by-ref, namespace: helm-oci}", 1)
	h.apply(byRef)
	defer h.dropHelm("helm-oci", "by-ref")
	hr := h.helmRelease("helm-oci", "by-ref", "to be installed", releasedAs(1, "1.0.0+"+digest.Hex[:12]))
	if hr.Status.LastAttemptedRevisionDigest != digest.String() || hr.Status.History[0].OCIDigest != digest.String() || hr.Status.HelmChart != "" {
		t.Errorf("the status is %+v", hr.Status)
	}
	next := pushChart(t, host, "1.2.0", nil)
	h.request("OCIRepository", "helm-oci", "web", "two")
	h.helmRelease("helm-oci", "by-ref", "to be upgraded", releasedAs(2, "1.2.0+"+next.Hex[:12]))
}

// request asks for a reconciliation, as flux reconcile does.
func (h *house) request(kind, namespace, name, token string) {
	h.t.Helper()
	group := "source.toolkit.fluxcd.io/v1"
	if kind == "HelmRelease" {
		group = "helm.toolkit.fluxcd.io/v2"
	}
	u, err := h.live(group, kind, namespace, name)
	if err != nil {
		h.t.Fatal(err)
	}
	patch := `{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":"` + token + `"}}}`
	if err := h.kube.Patch(h.t.Context(), u, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		h.t.Fatal(err)
	}
}

// TestHelmReleaseRests: a release that is as it is wanted costs no write and
// no action, neither by a look nor by a restart.
func TestHelmReleaseRests(t *testing.T) {
	dir := t.TempDir()
	h := startHouse(t, dir)
	defer func() { h.stop() }()
	h.namespace("helm-rest")
	host := newHelmHost(t)
	host.publish("1.0.0", nil)
	h.apply(helmRepositoryOf("helm-rest", host.URL))
	h.apply(helmReleaseOf("helm-rest", "1.x", "  driftDetection: {mode: enabled}\n"))
	hr := h.helmRelease("helm-rest", "web", "to be installed", releasedAs(1, "1.0.0"))
	versions := func() string {
		chart, err := h.live("source.toolkit.fluxcd.io/v1", "HelmChart", "helm-rest", "helm-rest-web")
		if err != nil {
			t.Fatal(err)
		}
		repo, err := h.live("source.toolkit.fluxcd.io/v1", "HelmRepository", "helm-rest", "charts")
		if err != nil {
			t.Fatal(err)
		}
		live, err := h.live("v1", "ConfigMap", "helm-rest", "web-config")
		if err != nil {
			t.Fatal(err)
		}
		now, err := h.live("helm.toolkit.fluxcd.io/v2", "HelmRelease", "helm-rest", "web")
		if err != nil {
			t.Fatal(err)
		}
		return chart.GetResourceVersion() + " " + repo.GetResourceVersion() + " " + live.GetResourceVersion() + " " + now.GetResourceVersion()
	}
	before := versions()
	h.stop()
	h = startHouse(t, dir)
	// The request is answered only after a look at everything.
	h.request("HelmRelease", "helm-rest", "web", "again")
	h.helmRelease("helm-rest", "web", "to be looked at", func(hr *helmv2.HelmRelease) bool { return hr.Status.LastHandledReconcileAt == "again" })
	after := versions()
	if b, a := before[:strings.LastIndex(before, " ")], after[:strings.LastIndex(after, " ")]; a != b {
		t.Errorf("a restart has written: %s became %s", before, after)
	}
	if now := h.helmRelease("helm-rest", "web", "to be as it was", releasedAs(1, "1.0.0")); now.Status.History.Latest().Digest != hr.Status.History.Latest().Digest {
		t.Error("the record has changed")
	}
	h.dropHelm("helm-rest", "web")
}
