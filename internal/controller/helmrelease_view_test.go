package controller

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// states are a diff's, each with its object, and all of it in one text.
func states(t *testing.T, d *Diff) ([]string, string) {
	t.Helper()
	var out []string
	for _, i := range d.Items {
		out = append(out, fmt.Sprintf("%s %s/%s", i.State, i.Ref.Kind, i.Ref.Name))
	}
	slices.Sort(out)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return out, string(text)
}

// A diff of a HelmRelease is what an upgrade would do to the cluster, and what
// somebody has done to it. Looking changes nothing.
func TestHelmReleaseDiff(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-diff")
	host := newHelmHost(t)
	object := func(kind, name, field string) string {
		return "apiVersion: v1\nkind: " + kind + "\nmetadata: {name: " + name + "}\n" + field + "\n"
	}
	host.publish("1.0.0", map[string]string{
		"templates/gone.yaml":   object("ConfigMap", "gone", "data: {a: b}"),
		"templates/kept.yaml":   strings.Replace(object("ConfigMap", "kept", "data: {a: b}"), "{name: kept}", "{name: kept, annotations: {helm.sh/resource-policy: keep}}", 1),
		"templates/secret.yaml": object("Secret", "secret", "stringData: {a: {{ .Values.token | quote }}}"),
		"templates/hook.yaml":   strings.Replace(object("ConfigMap", "hook", "data: {a: b}"), "{name: hook}", "{name: hook, annotations: {helm.sh/hook: pre-install}}", 1),
	})
	host.publish("0.9.0", nil)
	second := func() {
		host.publish("2.0.0", map[string]string{
			"templates/secret.yaml": object("Secret", "secret", "stringData: {a: {{ .Values.token | quote }}, b: new}"),
			"templates/new.yaml":    object("ConfigMap", "new", "data: {revision: \"{{ .Release.Revision }}\"}"),
			"templates/other.yaml":  "apiVersion: example.com/v1\nkind: Unknown\nmetadata: {name: other}\n",
		})
	}
	h.apply(helmRepositoryOf("helm-diff", host.URL))
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: private, namespace: helm-diff}\nstringData: {key: t0kenOfMine}\n")
	const values = "  valuesFrom: [{kind: Secret, name: private, valuesKey: key, targetPath: token}]\n  driftDetection: {mode: disabled, ignore: [{paths: [/data/version], target: {kind: ConfigMap, name: web-config}}]}\n"
	h.apply(helmReleaseOf("helm-diff", ">=1.0.0", values))
	defer h.dropHelm("helm-diff", "web")
	h.helmRelease("helm-diff", "web", "to be installed", releasedAs(1, "1.0.0"))
	owner := helmOwner(types.NamespacedName{Namespace: "helm-diff", Name: "web"})
	diff := func() ([]string, string) {
		t.Helper()
		d, err := h.engine.diffRelease(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		return states(t, d)
	}
	if got, text := diff(); len(got) != 0 {
		t.Fatalf("just installed, and different: %v %s", got, text)
	}

	// What somebody changes is seen, but for what is to be ignored.
	change := func(name string, change func(*corev1.ConfigMap)) {
		t.Helper()
		m := &corev1.ConfigMap{}
		if err := h.kube.Get(t.Context(), types.NamespacedName{Namespace: "helm-diff", Name: name}, m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if err := h.kube.Update(t.Context(), m, client.FieldOwner("kubectl-edit")); err != nil {
			t.Fatal(err)
		}
	}
	change("web-config", func(m *corev1.ConfigMap) { m.Data["version"] = "by hand" })
	if got, text := diff(); len(got) != 0 {
		t.Errorf("what is ignored is different: %v %s", got, text)
	}
	change("web-config", func(m *corev1.ConfigMap) { m.Data["color"] = "by hand" })
	if err := h.kube.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "helm-diff", Name: "gone"}}); err != nil {
		t.Fatal(err)
	}
	got, text := diff()
	if want := []string{"Missing ConfigMap/gone", "Modified ConfigMap/web-config"}; !slices.Equal(got, want) {
		t.Errorf("after changes by hand %v, want %v", got, want)
	}
	if strings.Contains(text, "t0kenOfMine") || !strings.Contains(text, "by hand") || !strings.Contains(text, "red") {
		t.Errorf("the diff is %s", text)
	}

	// Another version, which is not to be released yet.
	h.apply(helmReleaseOf("helm-diff", ">=1.0.0", values+"  suspend: true\n"))
	second()
	h.request("HelmRepository", "helm-diff", "charts", "second")
	testkit.Eventually(t, "the HelmChart to be of the other version", func() error {
		if says := h.chartSays("helm-diff/helm-diff-web"); !strings.Contains(says, "2.0.0") {
			return errors.New(says)
		}
		return nil
	})
	got, text = diff()
	want := []string{"Failed Unknown/other", "Missing ConfigMap/new", "Modified ConfigMap/web-config", "Modified Secret/secret"}
	if !slices.Equal(got, want) {
		t.Errorf("of another version %v, want %v", got, want)
	}
	for _, secret := range []string{"t0kenOfMine", base64.StdEncoding.EncodeToString([]byte("t0kenOfMine")), base64.StdEncoding.EncodeToString([]byte("new"))} {
		if strings.Contains(text, secret) {
			t.Errorf("the diff tells %q: %s", secret, text)
		}
	}
	if !strings.Contains(text, `"revision":"2"`) {
		t.Errorf("it is not rendered as the next revision: %s", text)
	}
	objects, err := h.engine.manifestsOfRelease(t.Context(), owner)
	if err != nil || len(objects) != 4 {
		t.Fatalf("%d manifests, %v", len(objects), err)
	}
	shown, err := json.Marshal(objects)
	if err != nil || strings.Contains(string(shown), "t0kenOfMine") || strings.Contains(string(shown), `"kind":"ConfigMap","metadata":{"name":"hook"`) {
		t.Errorf("the manifests are %s, %v", shown, err)
	}
	list, err := cluster.Client.CoreV1().Secrets("helm-diff").List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("looking has made revisions: %d, %v", len(list.Items), err)
	}

	// The spec asks for another chart, and nobody follows.
	h.apply(helmReleaseOf("helm-diff", "0.9.0", values+"  suspend: true\n"))
	if _, err := h.engine.diffRelease(t.Context(), owner); err == nil || !strings.Contains(err.Error(), "suspended") {
		t.Errorf("of a chart that nobody follows: %v", err)
	}

	// One that is not there, or has no chart.
	if _, err := h.engine.diffRelease(t.Context(), helmOwner(types.NamespacedName{Namespace: "helm-diff", Name: "none"})); !errors.As(err, new(*NotFoundError)) {
		t.Errorf("one that is not there: %v", err)
	}
	h.apply(strings.Replace(helmReleaseOf("helm-diff", "7.0.0", "  suspend: true\n"), "name: web, namespace", "name: late, namespace", 1))
	defer h.dropHelm("helm-diff", "late")
	_, err = h.engine.diffRelease(t.Context(), helmOwner(types.NamespacedName{Namespace: "helm-diff", Name: "late"}))
	if err == nil || !strings.Contains(err.Error(), "HelmChart") {
		t.Errorf("one without a chart: %v", err)
	}
	if _, err := h.live("source.toolkit.fluxcd.io/v1", "HelmChart", "helm-diff", "helm-diff-late"); err == nil {
		t.Error("looking has made a HelmChart")
	}
}
