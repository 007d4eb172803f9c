package controller

import (
	"fmt"
	"strings"
	"testing"

	helmv2 "github.com/fluxcd/helm-controller/api/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var listAll = metav1.ListOptions{}

// TestHelmReleaseComposesValues merges ConfigMaps, Secrets and the values of
// the HelmRelease, post-renders, and marks what it applies.
func TestHelmReleaseComposesValues(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-values")
	host := newHelmHost(t)
	host.publish("1.0.0", nil)
	h.apply(helmRepositoryOf("helm-values", host.URL))
	h.apply(`apiVersion: v1
kind: ConfigMap
metadata: {name: base, namespace: helm-values}
data: {values.yaml: "color: purple\nsize: {big: 10}\n", other: "\"a,b\""}
---
apiVersion: v1
kind: Secret
metadata: {name: private, namespace: helm-values}
stringData: {key: t0ken}
`)
	const spec = `  targetNamespace: helm-values
  releaseName: mine
  valuesFrom:
  - {kind: ConfigMap, name: base}
  - {kind: Secret, name: private, valuesKey: key, targetPath: token}
  - {kind: ConfigMap, name: missing, optional: true}
  - {kind: ConfigMap, name: base, valuesKey: other, targetPath: size.big}
  values: {color: orange}
  commonMetadata: {labels: {team: a}, annotations: {note: b}}
  postRenderers:
  - kustomize:
      patches:
      - {target: {kind: ConfigMap}, patch: "- {op: add, path: /data/patched, value: \"yes\"}"}
`
	h.apply(helmReleaseOf("helm-values", "1.x", spec))
	defer h.dropHelm("helm-values", "web")
	h.helmRelease("helm-values", "web", "to be installed", releasedAs(1, "1.0.0"))
	live := h.waitLive("v1", "ConfigMap", "helm-values", "mine-config", field("orange", "data", "color"))
	for path, want := range map[string]string{"data big": "a,b", "data token": "t0ken", "data patched": "yes", "metadata labels team": "a",
		"metadata annotations note": "b", "metadata labels helm.toolkit.fluxcd.io/name": "web", "metadata labels app.kubernetes.io/managed-by": "Helm"} {
		if err := field(want, strings.Split(path, " ")...)(live); err != nil {
			t.Error(err)
		}
	}
	// A reference that changes is seen when it is looked again.
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: private, namespace: helm-values}\nstringData: {key: n3w}\n")
	h.request("HelmRelease", "helm-values", "web", "v2")
	h.helmRelease("helm-values", "web", "to be upgraded", releasedAs(2, "1.0.0"))
	h.waitLive("v1", "ConfigMap", "helm-values", "mine-config", field("n3w", "data", "token"))
	// One that is labelled for it is seen at once.
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: private, namespace: helm-values, labels: {reconcile.fluxcd.io/watch: Enabled}}\nstringData: {key: n3west}\n")
	h.helmRelease("helm-values", "web", "to be upgraded by event", releasedAs(3, "1.0.0"))
	h.waitLive("v1", "ConfigMap", "helm-values", "mine-config", field("n3west", "data", "token"))
	// Another name is another release, and the former one goes.
	h.apply(helmReleaseOf("helm-values", "1.x", strings.Replace(spec, "releaseName: mine", "releaseName: yours", 1)))
	h.waitLive("v1", "ConfigMap", "helm-values", "yours-config", nil)
	h.waitGone("v1", "ConfigMap", "helm-values", "mine-config")
	h.helmRelease("helm-values", "web", "to be moved", releasedAs(1, "1.0.0"))
}

// TestHelmReleaseDependsOn waits for another one, by event.
func TestHelmReleaseDependsOn(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-dep")
	host := newHelmHost(t)
	host.publish("1.0.0", nil)
	h.apply(helmRepositoryOf("helm-dep", host.URL))
	h.apply(helmReleaseOf("helm-dep", "1.x", "  dependsOn: [{name: base}]\n"))
	defer h.dropHelm("helm-dep", "web")
	h.helmRelease("helm-dep", "web", "to wait", helmSays("DependencyNotReady", "helm-dep/base"))
	h.apply(strings.Replace(helmReleaseOf("helm-dep", "1.x", ""), "name: web, namespace", "name: base, namespace", 1))
	defer h.dropHelm("helm-dep", "base")
	h.helmRelease("helm-dep", "web", "to follow", releasedAs(1, "1.0.0"))
}

// TestHelmReleaseFromGit takes a chart out of a GitRepository, with values
// files.
func TestHelmReleaseFromGit(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-git")
	files := map[string]string{}
	for name, text := range webChart("1.0.0", nil) {
		files["charts/"+name] = text
	}
	repo := h.repo("helm-git", files)
	h.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: code, namespace: helm-git}\nspec: {interval: 1h, url: \"" + h.url + "helm-git.git\", ref: {branch: main}}\n")
	text := strings.Replace(helmReleaseOf("helm-git", "1.x", ""), "{chart: web, version: \"1.x\", sourceRef: {kind: HelmRepository, name: charts}}",
		"{chart: ./charts/web, reconcileStrategy: Revision, valuesFiles: [charts/web/values.yaml, charts/web/blue.yaml], sourceRef: {kind: GitRepository, name: code}}", 1)
	h.apply(text)
	defer h.dropHelm("helm-git", "web")
	h.helmRelease("helm-git", "web", "to be installed", releasedAs(1, "1.0.0+"+repo.Head()[:12]))
	h.waitLive("v1", "ConfigMap", "helm-git", "web-config", field("blue", "data", "color"))
	second := h.push(repo, map[string]string{"charts/web/blue.yaml": "color: navy\n"})
	h.helmRelease("helm-git", "web", "to be upgraded", releasedAs(2, "1.0.0+"+second[:12]))
	h.waitLive("v1", "ConfigMap", "helm-git", "web-config", field("navy", "data", "color"))
}

// TestHelmReleaseBesideHelm: a release that somebody has rolled back is
// brought back, unless the HelmRelease is suspended.
func TestHelmReleaseForcesAndSuspends(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-force")
	host := newHelmHost(t)
	host.publish("1.0.0", nil)
	h.apply(helmRepositoryOf("helm-force", host.URL))
	h.apply(helmReleaseOf("helm-force", "1.x", ""))
	defer h.dropHelm("helm-force", "web")
	h.helmRelease("helm-force", "web", "to be installed", releasedAs(1, "1.0.0"))
	u, err := h.live("helm.toolkit.fluxcd.io/v2", "HelmRelease", "helm-force", "web")
	if err != nil {
		t.Fatal(err)
	}
	u.SetAnnotations(map[string]string{"reconcile.fluxcd.io/requestedAt": "f1", "reconcile.fluxcd.io/forceAt": "f1"})
	if err := h.kube.Update(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	hr := h.helmRelease("helm-force", "web", "to be forced", releasedAs(2, "1.0.0"))
	if hr.Status.LastHandledForceAt != "f1" {
		t.Errorf("handled %q", hr.Status.LastHandledForceAt)
	}
	h.apply(helmReleaseOf("helm-force", "1.x", "  suspend: true\n  values: {color: pink}\n"))
	h.apply(strings.Replace(helmReleaseOf("helm-force", "1.x", ""), "name: web, namespace", "name: other, namespace", 1))
	defer h.dropHelm("helm-force", "other")
	h.helmRelease("helm-force", "other", "to be installed", releasedAs(1, "1.0.0"))
	if hr := h.helmRelease("helm-force", "web", "to be there", func(*helmv2.HelmRelease) bool { return true }); hr.Status.History.Latest().Version != 2 {
		t.Errorf("suspended, it was released: %s", digestible(hr.Status))
	}
	h.apply(helmReleaseOf("helm-force", "1.x", "  suspend: false\n  values: {color: pink}\n"))
	h.helmRelease("helm-force", "web", "to resume", releasedAs(3, "1.0.0"))
}

func TestHelmReleaseBadInput(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-bad")
	host := newHelmHost(t)
	host.publish("1.0.0", map[string]string{"templates/bad.yaml": "{{ required \"who is it\" .Values.who }}\n"})
	h.apply(helmRepositoryOf("helm-bad", host.URL))
	good := helmReleaseOf("helm-bad", "1.x", "  values: {who: \"kind: {}\"}\n")
	for name, c := range map[string]struct {
		find, replace, reason string
		says                  []string
	}{
		"unknown field":      {"  interval: 1h", "  interval: 1h\n  colour: red", "InvalidSpec", []string{"spec.colour", "unknown field"}},
		"other cluster":      {"  interval: 1h", "  interval: 1h\n  kubeConfig: {secretRef: {name: x}}", "KubeConfigError", []string{"spec.kubeConfig", "Secret helm-bad/x is not there"}},
		"no such chart":      {"chart: web,", "chart: ghost,", "SourceNotReady", []string{"ghost"}},
		"no such version":    {`version: "1.x"`, `version: "9.x"`, "SourceNotReady", []string{"9.x"}},
		"no such repository": {"name: charts}", "name: ghost}", "SourceNotReady", []string{"ghost", "is not there"}},
		"no such values":     {"  interval: 1h", "  interval: 1h\n  valuesFrom: [{kind: Secret, name: ghost}]", "ValuesError", []string{"spec.valuesFrom[0]", "ghost"}},
		"template fails":     {"who: \"kind: {}\"", "who: \"\"", "InstallFailed", []string{"templates/bad.yaml", "who is it"}},
		"no permission":      {"  interval: 1h", "  interval: 1h\n  serviceAccountName: nobody", "GetLastReleaseFailed", []string{"system:serviceaccount:helm-bad:nobody", "forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			bad := strings.Replace(good, c.find, c.replace, 1)
			if bad == good {
				t.Fatalf("%q is not in\n%s", c.find, good)
			}
			h.apply(bad)
			defer h.dropHelm("helm-bad", "web")
			h.helmRelease("helm-bad", "web", "to say what is wrong", helmSays(c.reason, c.says...))
		})
	}
}

// TestHelmReleaseKeepsSecrets: what comes from a Secret is in no message,
// though the API server quotes it.
func TestHelmReleaseKeepsSecrets(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-private")
	host := newHelmHost(t)
	host.publish("1.0.0", map[string]string{"templates/quota.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Values.token | quote }}}\n"})
	h.apply(helmRepositoryOf("helm-private", host.URL))
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: private, namespace: helm-private}\nstringData: {values.yaml: \"token: Tr0ub4dor\\n\"}\n")
	h.apply(helmReleaseOf("helm-private", "1.x", "  valuesFrom: [{kind: Secret, name: private}]\n"))
	defer h.dropHelm("helm-private", "web")
	hr := h.helmRelease("helm-private", "web", "to fail", helmSays("InstallFailed", "[redacted]", "Invalid value"))
	if text := fmt.Sprint(hr.Status); strings.Contains(text, "Tr0ub4dor") {
		t.Errorf("it is in the status: %s", digestible(hr.Status))
	}
	list, err := cluster.Client.EventsV1().Events("helm-private").List(t.Context(), listAll)
	if err != nil || len(list.Items) == 0 || strings.Contains(fmt.Sprint(list.Items), "Tr0ub4dor") {
		t.Errorf("%d events, %v", len(list.Items), err)
	}
}
