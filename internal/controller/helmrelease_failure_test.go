package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// fragile fails to be applied, to become ready, or its test, as values say.
var fragile = map[string]string{
	"templates/broken.yaml": "{{ if .Values.broken }}\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: broken, namespace: nowhere}\n{{ end }}\n",
	"templates/stuck.yaml": "{{ if .Values.stuck }}\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: stuck}\nspec:\n  selector: {matchLabels: {a: a}}\n" +
		"  template: {metadata: {labels: {a: a}}, spec: {nodeName: none, containers: [{name: a, image: a}]}}\n{{ end }}\n",
	"templates/test.yaml": "{{ if .Values.test }}\napiVersion: v1\nkind: {{ .Values.test }}\nmetadata: {name: check, annotations: {helm.sh/hook: test}}\n" +
		"{{ if eq .Values.test \"Pod\" }}spec: {nodeName: none, restartPolicy: Never, containers: [{name: a, image: a}]}{{ end }}\n{{ end }}\n",
}

// fragileHouse has a repository with the fragile chart.
func fragileHouse(t *testing.T, namespace string) *house {
	h := newHouse(t)
	h.namespace(namespace)
	host := newHelmHost(t)
	host.publish("1.0.0", fragile)
	h.apply(helmRepositoryOf(namespace, host.URL))
	return h
}

func stalledAs(reason string) func(*helmv2.HelmRelease) bool {
	return func(hr *helmv2.HelmRelease) bool {
		c := apimeta.FindStatusCondition(hr.Status.Conditions, "Stalled")
		return c != nil && c.Status == "True" && c.Reason == reason && hr.Status.ObservedGeneration == hr.Generation
	}
}

// revisions are those of the newest first: "5 deployed web@1.0.0".
func revisions(hr *helmv2.HelmRelease) string {
	var out []string
	for _, s := range hr.Status.History {
		out = append(out, fmt.Sprintf("%d %s", s.Version, s.Status))
	}
	return strings.Join(out, ", ")
}

// TestHelmReleaseRollsBack: an upgrade that fails is rolled back and tried
// again, as often as it may; what is put right is released.
func TestHelmReleaseRollsBack(t *testing.T) {
	h := fragileHouse(t, "helm-back")
	const remediation = "  upgrade: {remediation: {retries: 1}}\n"
	h.apply(helmReleaseOf("helm-back", "1.x", remediation+"  values: {color: green}\n"))
	defer h.dropHelm("helm-back", "web")
	h.helmRelease("helm-back", "web", "to be installed", releasedAs(1, "1.0.0"))
	h.apply(helmReleaseOf("helm-back", "1.x", remediation+"  values: {color: blue, broken: true}\n"))
	hr := h.helmRelease("helm-back", "web", "to give up", stalledAs("RetriesExceeded"))
	if !helmSays("RollbackSucceeded", "helm-back/web.v", "succeeded")(hr) || hr.Status.UpgradeFailures != 2 || hr.Status.History.Latest().Version != 5 {
		t.Errorf("the status is\n%s", digestible(hr.Status))
	}
	released := apimeta.FindStatusCondition(hr.Status.Conditions, "Released")
	if released == nil || released.Reason != "UpgradeFailed" || !strings.Contains(released.Message, "nowhere") {
		t.Errorf("Released is %+v", released)
	}
	h.waitLive("v1", "ConfigMap", "helm-back", "web-config", field("green", "data", "color"))
	h.apply(helmReleaseOf("helm-back", "1.x", remediation+"  values: {color: yellow}\n"))
	hr = h.helmRelease("helm-back", "web", "to be upgraded", releasedAs(6, "1.0.0"))
	if apimeta.FindStatusCondition(hr.Status.Conditions, "Remediated") != nil || hr.Status.Failures != 0 {
		t.Errorf("the status is\n%s", digestible(hr.Status))
	}
	h.waitLive("v1", "ConfigMap", "helm-back", "web-config", field("yellow", "data", "color"))
}

// TestHelmReleaseInstallFails: without a remediation a failure stays and says
// why; with one it is uninstalled and tried again.
func TestHelmReleaseInstallFails(t *testing.T) {
	h := fragileHouse(t, "helm-fail")
	h.apply(helmReleaseOf("helm-fail", "1.x", "  values: {broken: true}\n"))
	defer h.dropHelm("helm-fail", "web")
	hr := h.helmRelease("helm-fail", "web", "to give up", stalledAs("RetriesExceeded"))
	if !helmSays("InstallFailed", "Helm install failed for release helm-fail/web with chart web@1.0.0", "nowhere")(hr) || revisions(hr) != "1 failed" {
		t.Errorf("the status is\n%s", digestible(hr.Status))
	}
	h.apply(helmReleaseOf("helm-fail", "1.x", "  values: {broken: false}\n"))
	h.helmRelease("helm-fail", "web", "to be upgraded", releasedAs(2, "1.0.0"))
	h.dropHelm("helm-fail", "web")

	h.apply(helmReleaseOf("helm-fail", "1.x", "  install: {remediation: {retries: 2, remediateLastFailure: true}}\n  values: {broken: true}\n"))
	hr = h.helmRelease("helm-fail", "web", "to give up again", stalledAs("RetriesExceeded"))
	if !helmSays("UninstallSucceeded", "Helm uninstall remediation")(hr) || hr.Status.InstallFailures != 3 || len(hr.Status.History) != 0 {
		t.Errorf("the status is\n%s", digestible(hr.Status))
	}
	h.waitGone("v1", "ConfigMap", "helm-fail", "web-config")

	// A reset forgives the failures, which is tried by failing once more.
	u, err := h.live("helm.toolkit.fluxcd.io/v2", "HelmRelease", "helm-fail", "web")
	if err != nil {
		t.Fatal(err)
	}
	u.SetAnnotations(map[string]string{"reconcile.fluxcd.io/requestedAt": "r1", "reconcile.fluxcd.io/resetAt": "r1"})
	if err := h.kube.Update(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	h.helmRelease("helm-fail", "web", "to have tried again", func(hr *helmv2.HelmRelease) bool {
		return hr.Status.LastHandledResetAt == "r1" && hr.Status.InstallFailures == 3 && stalledAs("RetriesExceeded")(hr)
	})
}

// TestHelmReleaseOvertakes: what is newer does not wait for the timeout of
// what it puts right.
func TestHelmReleaseOvertakes(t *testing.T) {
	h := fragileHouse(t, "helm-over")
	patient := strings.NewReplacer("timeout: 30s", "timeout: 30m")
	h.apply(patient.Replace(helmReleaseOf("helm-over", "1.x", "  values: {stuck: true}\n")))
	defer h.dropHelm("helm-over", "web")
	h.waitLive("apps/v1", "Deployment", "helm-over", "stuck", nil)
	h.helmRelease("helm-over", "web", "to be at it", func(hr *helmv2.HelmRelease) bool {
		c := apimeta.FindStatusCondition(hr.Status.Conditions, "Ready")
		return c != nil && c.Status == "Unknown" && strings.Contains(c.Message, "Running 'install' action with timeout of 30m")
	})
	h.apply(patient.Replace(helmReleaseOf("helm-over", "1.x", "  values: {stuck: false}\n")))
	hr := h.helmRelease("helm-over", "web", "to be released", releasedAs(2, "1.0.0"))
	if hr.Status.InstallFailures+hr.Status.UpgradeFailures != 0 {
		t.Errorf("what was overtaken counts as a failure: %s", digestible(hr.Status))
	}
	if err := h.eventOf("helm-over", "web", "InstallFailed"); err == nil {
		t.Error("what was overtaken is said to have failed")
	}
	h.waitGone("apps/v1", "Deployment", "helm-over", "stuck")
}

// TestHelmReleaseTests runs the chart's tests, and takes a release whose tests
// fail for failed.
func TestHelmReleaseTests(t *testing.T) {
	h := fragileHouse(t, "helm-test")
	const test = "  test: {enable: true, timeout: 2s}\n  upgrade: {remediation: {remediateLastFailure: true}}\n"
	h.apply(helmReleaseOf("helm-test", "1.x", test+"  values: {test: ConfigMap}\n"))
	defer h.dropHelm("helm-test", "web")
	hr := h.helmRelease("helm-test", "web", "to be tested", releasedAs(1, "1.0.0"))
	if c := apimeta.FindStatusCondition(hr.Status.Conditions, "TestSuccess"); c == nil || c.Reason != "TestSucceeded" ||
		!strings.Contains(c.Message, "1 test hooks completed") || hr.Status.History.Latest().GetTestHooks()["check"].Phase != "Succeeded" {
		t.Errorf("TestSuccess is %+v, the hooks %v", c, hr.Status.History.Latest().GetTestHooks())
	}
	h.apply(helmReleaseOf("helm-test", "1.x", test+"  values: {test: Pod}\n"))
	hr = h.helmRelease("helm-test", "web", "to be rolled back", stalledAs("RetriesExceeded"))
	if !helmSays("RollbackSucceeded")(hr) || hr.Status.History.Latest().Version != 3 {
		t.Errorf("the status is\n%s", digestible(hr.Status))
	}
	h.apply(helmReleaseOf("helm-test", "1.x", "  test: {enable: true, timeout: 2s, ignoreFailures: true}\n  values: {test: Pod}\n"))
	hr = h.helmRelease("helm-test", "web", "to be ready all the same", releasedAs(4, "1.0.0"))
	if c := apimeta.FindStatusCondition(hr.Status.Conditions, "TestSuccess"); c == nil || c.Reason != "TestFailed" {
		t.Errorf("TestSuccess is %+v", c)
	}
}

// TestHelmReleaseDrift corrects what was changed by hand, warns of it, or
// leaves it.
func TestHelmReleaseDrift(t *testing.T) {
	h := fragileHouse(t, "helm-drift")
	set := func(value string) {
		t.Helper()
		live := h.waitLive("v1", "ConfigMap", "helm-drift", "web-config", nil)
		data := live.Object["data"].(map[string]any)
		data["color"], data["big"] = value, value
		if err := h.kube.Update(t.Context(), live); err != nil {
			t.Fatal(err)
		}
	}
	drifted := func(status string, words ...string) func(*helmv2.HelmRelease) bool {
		return func(hr *helmv2.HelmRelease) bool {
			c := apimeta.FindStatusCondition(hr.Status.Conditions, "Drifted")
			if c == nil || string(c.Status) != status {
				return false
			}
			for _, w := range words {
				if !strings.Contains(c.Message, w) {
					return false
				}
			}
			return true
		}
	}
	h.apply(helmReleaseOf("helm-drift", "1.x", "  driftDetection: {mode: warn}\n"))
	defer h.dropHelm("helm-drift", "web")
	h.helmRelease("helm-drift", "web", "to be installed", releasedAs(1, "1.0.0"))
	set("hand")
	h.request("HelmRelease", "helm-drift", "web", "d1")
	hr := h.helmRelease("helm-drift", "web", "to warn", drifted("True", "ConfigMap helm-drift/web-config changed"))
	if !releasedAs(1, "1.0.0")(hr) {
		t.Errorf("a warning makes it unready: %s", digestible(hr.Status))
	}
	h.waitLive("v1", "ConfigMap", "helm-drift", "web-config", field("hand", "data", "color"))
	h.apply(helmReleaseOf("helm-drift", "1.x", "  driftDetection: {mode: enabled, ignore: [{paths: [/data/big], target: {kind: ConfigMap}}]}\n"))
	h.waitLive("v1", "ConfigMap", "helm-drift", "web-config", field("red", "data", "color"))
	h.waitLive("v1", "ConfigMap", "helm-drift", "web-config", field("hand", "data", "big"))
	h.helmRelease("helm-drift", "web", "to be corrected", drifted("False"))
	// That something changes, or is deleted, is seen at once.
	set("again")
	h.waitLive("v1", "ConfigMap", "helm-drift", "web-config", field("red", "data", "color"))
	gone := h.waitLive("v1", "ConfigMap", "helm-drift", "web-config", nil)
	if err := h.kube.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "ConfigMap", "helm-drift", "web-config", func(u *unstructured.Unstructured) error {
		if u.GetUID() == gone.GetUID() {
			return errors.New("it is not deleted yet")
		}
		return field("red", "data", "color")(u)
	})
	testkit.Eventually(t, "the event", func() error {
		return h.eventOf("helm-drift", "web", "DriftCorrected")
	})
}

// eventOf wants an event of a reason on a HelmRelease.
func (h *house) eventOf(namespace, name, reason string) error {
	list, err := cluster.Client.EventsV1().Events(namespace).List(h.t.Context(), listAll)
	if err != nil {
		return err
	}
	for _, e := range list.Items {
		if e.Regarding.Kind == "HelmRelease" && e.Regarding.Name == name && e.Reason == reason {
			return nil
		}
	}
	return errors.New("there is none")
}
