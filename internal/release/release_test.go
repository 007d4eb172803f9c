package release_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	helmchart "helm.sh/helm/v4/pkg/chart/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/release"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/testkit"
)

var cluster *testkit.Cluster

func TestMain(m *testing.M) { testkit.RunWithCluster(m, &cluster, testkit.ClusterOptions{}) }

// chartOf renders the files of a chart as the engine does.
func chartOf(files map[string]string) release.Render {
	return func(ctx context.Context, asked release.RenderRequest) (*release.Rendered, error) {
		values, err := yaml.Marshal(asked.Values)
		if err != nil {
			return nil, err
		}
		result, err := render.NewEngine(render.Limits{}).Render(ctx, render.Request{
			Tree: memtree.New(files), Path: ".", Tool: render.Helm,
			Helm: render.HelmOptions{ReleaseName: asked.Name, Namespace: asked.Namespace, Values: string(values)},
			Release: &render.ReleaseOptions{Revision: asked.Revision, Upgrade: asked.Upgrade, Lookup: func(ctx context.Context, l render.Lookup) (map[string]any, error) {
				return asked.Lookup(ctx, l.APIVersion, l.Kind, l.Namespace, l.Name)
			}},
		})
		if err != nil {
			return nil, err
		}
		out := &release.Rendered{Chart: &helmchart.Chart{}, Notes: result.Release.Notes}
		if err := json.Unmarshal(result.Release.Chart, out.Chart); err != nil {
			return nil, err
		}
		for _, f := range result.Release.Files {
			out.Files = append(out.Files, release.File(f))
		}
		for _, f := range result.Release.CRDs {
			out.CRDs = append(out.CRDs, release.File(f))
		}
		return out, nil
	}
}

// web is a chart with a generated password that it keeps by looking it up, and
// text that looks like a template.
func web(version string) map[string]string {
	return map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: web\nversion: " + version + "\nappVersion: \"7\"\n",
		"values.yaml": "color: red\nfail: false\n",
		"templates/config.yaml": `apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-config}
data:
  color: {{ .Values.color }}
  revision: "{{ .Release.Revision }}"
  braces: "{{ "{{{ .NotOurs }}" }}"
`,
		"templates/secret.yaml": `{{- $old := lookup "v1" "Secret" .Release.Namespace (printf "%s-secret" .Release.Name) }}
apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-secret}
stringData:
  password: {{ if $old }}{{ $old.data.password | b64dec }}{{ else }}{{ randAlphaNum 12 }}{{ end }}
`,
		"templates/NOTES.txt": "It is {{ .Values.color }}.\n",
	}
}

func namespace(t *testing.T, name string) {
	t.Helper()
	_, err := cluster.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

func open(t *testing.T, name, ns string) *release.Release {
	t.Helper()
	c, err := release.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Release(t.Context(), release.Target{Name: name, Namespace: ns, Storage: ns})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// helm runs the real command on the package's cluster.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin/oracle/helm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		t.Fatal("bin/oracle/helm is not built: make oracle")
	}
	cmd := exec.Command(bin, append(args, "--kubeconfig", cluster.Kubeconfig)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func data(t *testing.T, ns, name, key string) string {
	t.Helper()
	m, err := cluster.Client.CoreV1().ConfigMaps(ns).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return m.Data[key]
}

func password(t *testing.T, ns string) string {
	t.Helper()
	s, err := cluster.Client.CoreV1().Secrets(ns).Get(t.Context(), "web-secret", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(s.Data["password"])
}

func madeOf(rec *release.Record) string { return fmt.Sprint(release.MadeOf(rec)) }

var short = release.Options{Source: "src", Timeout: 20 * time.Second, TakeOwnership: true}

// TestBesideHelm installs, upgrades and rolls back in turns with the real
// command: each finds what the other has recorded.
func TestBesideHelm(t *testing.T) {
	namespace(t, "beside")
	r := open(t, "web", "beside")
	if last, err := r.Last(t.Context()); last != nil || err != nil {
		t.Fatalf("the last revision is %+v, %v", last, err)
	}
	rec, err := r.Install(t.Context(), chartOf(web("1.0.0")), map[string]any{"color": "blue"}, short)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Version != 1 || rec.Info.Status != "deployed" || len(rec.Chart.Templates) != 3 || madeOf(rec) != "srctrue" {
		t.Errorf("the record is %d %s, %d templates, made of %s", rec.Version, rec.Info.Status, len(rec.Chart.Templates), madeOf(rec))
	}
	if got := data(t, "beside", "web-config", "braces"); got != "{{{ .NotOurs }}" {
		t.Errorf("braces are %q", got)
	}
	first := password(t, "beside")
	rec, err = r.Upgrade(t.Context(), chartOf(web("1.1.0")), map[string]any{"color": "green"}, false, short)
	if err != nil || rec.Version != 2 {
		t.Fatalf("upgrade: %+v, %v", rec, err)
	}
	if got := data(t, "beside", "web-config", "revision"); got != "2" {
		t.Errorf("the templates were told revision %q", got)
	}
	if first == "" || password(t, "beside") != first {
		t.Errorf("the password was %q and is %q", first, password(t, "beside"))
	}

	if out := helm(t, "list", "-n", "beside"); !strings.Contains(out, "web-1.1.0") || !strings.Contains(out, "deployed") {
		t.Errorf("helm list: %s", out)
	}
	if out := helm(t, "get", "values", "web", "-n", "beside", "--all"); !strings.Contains(out, "color: green") || !strings.Contains(out, "fail: false") {
		t.Errorf("helm get values: %s", out)
	}
	if out := helm(t, "get", "manifest", "web", "-n", "beside"); !strings.Contains(out, "# Source: web/templates/config.yaml") {
		t.Errorf("helm get manifest: %s", out)
	}
	if out := helm(t, "get", "notes", "web", "-n", "beside"); !strings.Contains(out, "It is green.") {
		t.Errorf("helm get notes: %s", out)
	}
	helm(t, "rollback", "web", "1", "-n", "beside", "--wait")
	if got := data(t, "beside", "web-config", "color"); got != "blue" {
		t.Errorf("after helm rollback the color is %q", got)
	}
	if rec, err = r.Last(t.Context()); err != nil || rec.Version != 3 || strings.HasSuffix(madeOf(rec), "true") {
		t.Fatalf("after helm rollback: %d, made of %s, %v", rec.Version, madeOf(rec), err)
	}
	if rec, err = r.Rollback(t.Context(), 2, short); err != nil || rec.Version != 4 || data(t, "beside", "web-config", "color") != "green" {
		t.Fatalf("roll back to 2: %+v, %v", rec, err)
	}
	if out := helm(t, "history", "web", "-n", "beside"); strings.Count(out, "\n") < 5 {
		t.Errorf("helm history: %s", out)
	}
	if err := r.Uninstall(t.Context(), short); err != nil {
		t.Fatal(err)
	}
	if out := helm(t, "list", "-n", "beside"); strings.Contains(out, "web") {
		t.Errorf("helm list after the uninstallation: %s", out)
	}
	if err := r.Uninstall(t.Context(), short); err != nil {
		t.Errorf("uninstall again: %v", err)
	}
}

// TestFailures: what fails is in the record, and what died is unlocked.
func TestFailures(t *testing.T) {
	namespace(t, "failures")
	r := open(t, "bad", "failures")
	files := map[string]string{
		"Chart.yaml":       "apiVersion: v2\nname: bad\nversion: 1.0.0\n",
		"templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}\n",
	}
	rec, err := r.Install(t.Context(), chartOf(files), nil, short)
	if err == nil || rec == nil || rec.Info.Status != "failed" {
		t.Fatalf("install into nowhere: %+v, %v", rec, err)
	}
	files["templates/a.yaml"] = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  selector: {matchLabels: {a: a}}\n" +
		"  template:\n    metadata: {labels: {a: a}}\n    spec: {nodeName: none, containers: [{name: a, image: a}]}\n"
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for ctx.Err() == nil {
			if d, err := cluster.Client.AppsV1().Deployments("failures").Get(ctx, "a", metav1.GetOptions{}); err == nil && d != nil {
				cancel() // it waits for the Deployment
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	rec, err = r.Upgrade(ctx, chartOf(files), nil, false, release.Options{Timeout: time.Minute})
	if err == nil || rec.Version != 2 || rec.Info.Status != "failed" {
		t.Fatalf("an upgrade that was ended: %+v, %v", rec.Info, err)
	}
	rec.Info.Status = "pending-upgrade"
	if err := r.Unlock(rec); err != nil {
		t.Fatal(err)
	}
	if rec, err = r.Last(t.Context()); err != nil || rec.Info.Status != "failed" || !strings.Contains(rec.Info.Description, "pending-upgrade") {
		t.Errorf("unlocked: %+v, %v", rec.Info, err)
	}
}

// TestDrift finds what was changed and removed, leaves out what is ignored,
// and puts the rest right.
// What is kept of all releases can be read, hooks and old revisions included.
func TestManifests(t *testing.T) {
	namespace(t, "manifests")
	r := open(t, "web", "manifests")
	files := web("1.0.0")
	files["templates/hook.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hook, annotations: {helm.sh/hook: test}}\ndata: {image: hook-of-old}\n"
	if _, err := r.Install(t.Context(), chartOf(files), map[string]any{"color": "old-color"}, release.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Upgrade(t.Context(), chartOf(web("1.1.0")), map[string]any{"color": "new-color"}, false, release.Options{}); err != nil {
		t.Fatal(err)
	}
	c, err := release.New(cluster.Config)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	if err := c.Manifests(t.Context(), func(m string) { all.WriteString(m) }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"old-color", "new-color", "hook-of-old"} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("%s is not among the manifests", want)
		}
	}
}

// What a failed upgrade has made goes with the next good one, unless it is to
// be kept or is somebody else's by now.
func TestSweep(t *testing.T) {
	namespace(t, "sweep")
	r := open(t, "web", "sweep")
	if _, err := r.Install(t.Context(), chartOf(web("1.0.0")), nil, release.Options{}); err != nil {
		t.Fatal(err)
	}
	object := func(name, annotations string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, annotations: {%s}}\n", name, annotations)
	}
	bad := web("1.1.0")
	bad["templates/more.yaml"] = object("left", "") + "---\n" + object("kept", "helm.sh/resource-policy: keep") + "---\n" + object("taken", "")
	bad["templates/never.yaml"] = "apiVersion: v1\nkind: Pod\nmetadata: {name: never}\nspec: {nodeSelector: {no: where}, containers: [{name: a, image: a}]}\n"
	if rec, err := r.Upgrade(t.Context(), chartOf(bad), nil, false, release.Options{Timeout: time.Second}); err == nil {
		t.Fatalf("the upgrade did not fail: %+v", rec.Info)
	}
	configs := cluster.Client.CoreV1().ConfigMaps("sweep")
	taken, err := configs.Get(t.Context(), "taken", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	taken.Annotations["meta.helm.sh/release-name"] = "other"
	if _, err := configs.Update(t.Context(), taken, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	rec, err := r.Upgrade(t.Context(), chartOf(web("1.2.0")), nil, false, release.Options{})
	if err != nil {
		t.Fatal(err)
	}
	swept, err := r.Sweep(t.Context(), rec)
	if got := fmt.Sprint(swept); err != nil || got != "[ConfigMap sweep/left Pod sweep/never]" && got != "[Pod sweep/never ConfigMap sweep/left]" {
		t.Errorf("swept %s: %v", got, err)
	}
	if swept, err := r.Sweep(t.Context(), rec); err != nil || len(swept) > 0 {
		t.Errorf("swept again %v: %v", swept, err)
	}
	for _, name := range []string{"kept", "taken", "web-config"} {
		if _, err := configs.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func TestDrift(t *testing.T) {
	namespace(t, "drift")
	r := open(t, "web", "drift")
	rec, err := r.Install(t.Context(), chartOf(web("1.0.0")), nil, short)
	if err != nil {
		t.Fatal(err)
	}
	diff := func(ignore ...release.Ignore) string {
		t.Helper()
		found, err := r.Diff(t.Context(), rec, ignore)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(found)
	}
	if got := diff(); got != "[]" {
		t.Fatalf("just installed: %s", got)
	}
	maps := cluster.Client.CoreV1().ConfigMaps("drift")
	m, err := maps.Get(t.Context(), "web-config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.Data["color"], m.Data["more"] = "by hand", "welcome"
	if _, err := maps.Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Client.CoreV1().Secrets("drift").Delete(t.Context(), "web-secret", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := diff(); !strings.Contains(got, "ConfigMap drift/web-config changed") || !strings.Contains(got, "Secret drift/web-secret removed") {
		t.Errorf("found %s", got)
	}
	color := release.Ignore{Paths: []string{"/data/color"}, Target: &types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: "ConfigMap"}}}}
	found, err := r.Diff(t.Context(), rec, []release.Ignore{color})
	if err != nil || len(found) != 1 || !found[0].Removed {
		t.Errorf("with the color ignored: %v, %v", found, err)
	}
	if err := r.Correct(t.Context(), found); err != nil {
		t.Fatal(err)
	}
	if got := diff(color); got != "[]" {
		t.Errorf("corrected: %s", got)
	}
	if got := data(t, "drift", "web-config", "color"); got != "by hand" {
		t.Errorf("an ignored field was put right: %q", got)
	}
	if found, err = r.Diff(t.Context(), rec, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Correct(t.Context(), found); err != nil || data(t, "drift", "web-config", "color") != "red" || data(t, "drift", "web-config", "more") != "welcome" {
		t.Errorf("corrected: %v", err)
	}
	refs, err := r.Inventory(t.Context(), rec)
	if err != nil || len(refs) != 2 {
		t.Errorf("the inventory is %v, %v", refs, err)
	}
}
