package controller

import (
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// An installation waits for what the release's own expressions say, and fails
// by them.
func TestHelmReleaseHealthCheckExprs(t *testing.T) {
	const namespace = "helm-exprs"
	h := newHouse(t)
	h.namespace(namespace)
	host := newHelmHost(t)
	host.publish("1.0.0", map[string]string{"templates/gate.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gate}\ndata: {state: closed}\n"})
	h.apply(helmRepositoryOf(namespace, host.URL))
	exprs := "  healthCheckExprs:\n  - {apiVersion: v1, kind: ConfigMap, current: \"!has(data.state) || data.state == 'open'\", failed: \"has(data.state) && data.state == 'broken'\"}\n"
	h.apply(helmReleaseOf(namespace, "1.x", exprs))
	defer h.dropHelm(namespace, "web")

	gate := h.waitLive("v1", "ConfigMap", namespace, "gate", nil)
	waits := func(hr *helmv2.HelmRelease) bool { return len(hr.Status.Conditions) > 0 && len(hr.Status.History) == 0 }
	h.helmRelease(namespace, "web", "to wait", waits)
	set := func(state string) {
		t.Helper()
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(gate.GroupVersionKind())
		u.SetNamespace(namespace)
		u.SetName("gate")
		if err := h.kube.Patch(t.Context(), u, client.RawPatch(types.MergePatchType, []byte(`{"data": {"state": "`+state+`"}}`))); err != nil {
			t.Fatal(err)
		}
	}
	set("open")
	h.helmRelease(namespace, "web", "to be released", releasedAs(1, "1.0.0"))

	// What has failed by the expressions fails the upgrade.
	host.publish("1.1.0", map[string]string{"templates/gate.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gate}\ndata: {state: broken}\n"})
	h.apply(helmReleaseOf(namespace, "1.1.0", exprs+"  timeout: 5s\n"))
	h.helmRelease(namespace, "web", "to have failed", stalledAs("RetriesExceeded"))

	h.apply(helmReleaseOf(namespace, "1.x", "  healthCheckExprs: [{apiVersion: v1, kind: ConfigMap, current: 'nothing('}]\n"))
	h.helmRelease(namespace, "web", "to be refused", stalledAs("InvalidSpec"))
}
