package controller

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"github.com/fairway-cd/fairway/internal/secrets/sealed"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// kubeseal is the real one, with the certificate that the house serves.
type kubeseal struct {
	t    testing.TB
	path string
	url  string
}

func (h *house) kubeseal() *kubeseal {
	h.t.Helper()
	mux := http.NewServeMux()
	for pattern, handler := range h.engine.SealedRoutes() {
		mux.Handle(pattern, handler)
	}
	server := httptest.NewServer(mux)
	h.t.Cleanup(server.Close)
	return &kubeseal{h.t, testkit.Oracle(h.t, "kubeseal"), server.URL}
}

// seal seals a manifest, which comes out in YAML.
func (k *kubeseal) seal(manifest string, args ...string) string {
	k.t.Helper()
	cmd := exec.Command(k.path, append([]string{"--cert", k.url + "/v1/cert.pem", "--format", "yaml"}, args...)...)
	cmd.Env, cmd.Stdin = []string{"HOME=" + k.t.TempDir()}, strings.NewReader(manifest)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		k.t.Fatalf("kubeseal %v: %v: %s", args, err, errs.String())
	}
	return out.String()
}

// post sends a SealedSecret to a route, as kubeseal does through the proxy.
func (k *kubeseal) post(path, text string) (int, string) {
	k.t.Helper()
	body, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		k.t.Fatal(err)
	}
	answer, err := http.Post(k.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	defer answer.Body.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(answer.Body); err != nil {
		k.t.Fatal(err)
	}
	return answer.StatusCode, out.String()
}

func secretManifest(namespace, name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s, labels: {app: shop}}\nstringData: {password: %s}\n", name, namespace, value)
}

// synced wants the condition Synced.
func condition(status corev1.ConditionStatus, says ...string) func(*unstructured.Unstructured) error {
	return func(u *unstructured.Unstructured) error {
		var s v1alpha1.SealedSecret
		text, err := json.Marshal(u.Object)
		if err == nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil || s.Status == nil || len(s.Status.Conditions) != 1 || s.Status.ObservedGeneration != u.GetGeneration() {
			return fmt.Errorf("no status of this generation: %v", u.Object["status"])
		}
		c := s.Status.Conditions[0]
		if c.Type != v1alpha1.SealedSecretSynced || c.Status != status {
			return fmt.Errorf("condition %+v", c)
		}
		for _, what := range says {
			if !strings.Contains(c.Message, what) {
				return fmt.Errorf("message %q, want %q", c.Message, what)
			}
		}
		return nil
	}
}

const sealedVersion = "bitnami.com/v1alpha1"

func TestUnseals(t *testing.T) {
	h := newHouse(t)
	h.namespace("sealed")
	k := h.kubeseal()
	text := k.seal(secretManifest("sealed", "db", canary))
	ss := h.apply(text)[0]
	h.waitLive(sealedVersion, "SealedSecret", "sealed", "db", condition(corev1.ConditionTrue))
	live := h.waitLive("v1", "Secret", "sealed", "db", secretIs("password", canary))
	if owner := metav1.GetControllerOf(live); owner == nil || owner.Kind != "SealedSecret" || owner.UID != ss.GetUID() {
		t.Errorf("the owner is %v", owner)
	}
	if live.GetLabels()["app"] != "shop" {
		t.Errorf("the template's labels are lost: %v", live.GetLabels())
	}
	h.silent(ss, canary)

	// Somebody changes it, and somebody deletes it.
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: sealed}\nstringData: {password: other}\n")
	h.waitLive("v1", "Secret", "sealed", "db", secretIs("password", canary))
	h.delete(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "sealed", Name: "db"}})
	h.waitLive("v1", "Secret", "sealed", "db", secretIs("password", canary))

	// It goes with its SealedSecret.
	h.delete(ss)
	h.waitGone("v1", "Secret", "sealed", "db")
}

func TestScopes(t *testing.T) {
	h := newHouse(t)
	h.namespace("scope-a")
	h.namespace("scope-b")
	k := h.kubeseal()
	for _, c := range []struct {
		scope                 string
		otherName, otherSpace corev1.ConditionStatus
	}{
		{"strict", corev1.ConditionFalse, corev1.ConditionFalse},
		{"namespace-wide", corev1.ConditionTrue, corev1.ConditionFalse},
		{"cluster-wide", corev1.ConditionTrue, corev1.ConditionTrue},
	} {
		text := k.seal(secretManifest("scope-a", "x-"+c.scope, canary), "--scope", c.scope)
		u := func(namespace, name string) string {
			var o map[string]any
			if err := yaml.Unmarshal([]byte(text), &o); err != nil {
				t.Fatal(err)
			}
			for _, path := range [][]string{{"metadata"}, {"spec", "template", "metadata"}} {
				if err := errors.Join(unstructured.SetNestedField(o, name, append(path, "name")...), unstructured.SetNestedField(o, namespace, append(path, "namespace")...)); err != nil {
					t.Fatal(err)
				}
			}
			out, err := yaml.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			return string(out)
		}
		for _, at := range []struct {
			namespace, name string
			want            corev1.ConditionStatus
		}{
			{"scope-a", "x-" + c.scope, corev1.ConditionTrue}, {"scope-a", "y-" + c.scope, c.otherName}, {"scope-b", "x-" + c.scope, c.otherSpace},
		} {
			h.apply(u(at.namespace, at.name))
			h.waitLive(sealedVersion, "SealedSecret", at.namespace, at.name, condition(at.want))
			status, _ := k.post("/v1/verify", u(at.namespace, at.name))
			if want := map[corev1.ConditionStatus]int{corev1.ConditionTrue: http.StatusOK, corev1.ConditionFalse: http.StatusConflict}[at.want]; status != want {
				t.Errorf("%s: verify %s/%s: %d", c.scope, at.namespace, at.name, status)
			}
		}
	}
}

func TestTemplatesAndManaged(t *testing.T) {
	h := newHouse(t)
	h.namespace("sealed-tpl")
	k := h.kubeseal()
	text := k.seal(secretManifest("sealed-tpl", "conf", canary))
	withTemplate := func(template string) string {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedStringMap(o, map[string]string{"app.conf": template}, "spec", "template", "data"); err != nil {
			t.Fatal(err)
		}
		out, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	ss := h.apply(withTemplate("url=db://me:{{ .password | upper }}@db\n"))[0]
	h.waitLive("v1", "Secret", "sealed-tpl", "conf", secretIs("app.conf", "url=db://me:"+strings.ToUpper(canary)+"@db\n"))
	for _, broken := range []string{"{{ fail .password }}", "{{ .password | nothing }}", "{{ env \"HOME\" }}", "{{ index .password 999 }}"} {
		h.apply(withTemplate(broken))
		h.waitLive(sealedVersion, "SealedSecret", "sealed-tpl", "conf", condition(corev1.ConditionFalse, "spec.template.data.app.conf"))
		h.silent(ss, canary)
	}

	// A Secret that is somebody's is left alone, until he says otherwise.
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: theirs, namespace: sealed-tpl}\nstringData: {password: theirs, more: x}\n")
	h.apply(k.seal(secretManifest("sealed-tpl", "theirs", canary)))
	h.waitLive(sealedVersion, "SealedSecret", "sealed-tpl", "theirs", condition(corev1.ConditionFalse, "already exists and is not managed by SealedSecret"))
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: theirs, namespace: sealed-tpl, labels: {" + labelUnsealed + `: "true"}, annotations: {sealedsecrets.bitnami.com/patch: "true"}}` + "\nstringData: {password: theirs, more: x}\n")
	h.waitLive("v1", "Secret", "sealed-tpl", "theirs", secretIs("password", canary))
	h.waitLive("v1", "Secret", "sealed-tpl", "theirs", secretIs("more", "x"))

	// What is immutable is not changed.
	immutable := strings.Replace(k.seal(secretManifest("sealed-tpl", "fixed", canary)), "  template:\n", "  template:\n    immutable: true\n", 1)
	h.apply(immutable)
	h.waitLive("v1", "Secret", "sealed-tpl", "fixed", secretIs("password", canary))
	fixed := h.apply(strings.Replace(k.seal(secretManifest("sealed-tpl", "fixed", canary+"2")), "  template:\n", "  template:\n    immutable: true\n", 1))[0]
	h.waitLive(sealedVersion, "SealedSecret", "sealed-tpl", "fixed", condition(corev1.ConditionFalse, "is immutable"))
	h.silent(fixed, canary)

	// What the API server refuses is not quoted.
	bad := h.apply(strings.Replace(k.seal(secretManifest("sealed-tpl", "tls", canary)), "  template:\n", "  template:\n    type: kubernetes.io/tls\n", 1))[0]
	h.waitLive(sealedVersion, "SealedSecret", "sealed-tpl", "tls", condition(corev1.ConditionFalse, `create Secret "tls": Invalid (data[tls.crt], data[tls.key])`))
	h.silent(bad, canary)
}

// TestTheirKeys: a key set that a team already has opens what was sealed with
// it, old and new, and a renewed key seals.
func TestTheirKeys(t *testing.T) {
	h := newHouse(t)
	h.namespace("sealed-keys")
	k := h.kubeseal()
	old := k.seal(secretManifest("sealed-keys", "old", canary))
	// A key of another cluster: what is sealed with it does not open, until it
	// is here.
	theirs, err := sealed.NewKey(t.Context(), sealingNamespace, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, theirs.Data[corev1.TLSCertKey], 0o600); err != nil {
		t.Fatal(err)
	}
	h.apply(k.seal(secretManifest("sealed-keys", "theirs", canary), "--cert", file))
	h.waitLive(sealedVersion, "SealedSecret", "sealed-keys", "theirs", condition(corev1.ConditionFalse, "spec.encryptedData.password: no key opens it"))
	if err := h.kube.Create(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.kube.Delete(context.Background(), theirs) })
	h.waitLive("v1", "Secret", "sealed-keys", "theirs", secretIs("password", canary))

	// The newest is theirs now: it seals, and what was sealed before still opens.
	status, rotated := k.post("/v1/rotate", old)
	if status != http.StatusOK || strings.Contains(rotated, canary) {
		t.Fatalf("rotate: %d %s", status, rotated)
	}
	h.apply(rotated)
	h.waitLive("v1", "Secret", "sealed-keys", "old", secretIs("password", canary))

	// After 30 days there is another.
	before := h.sealingKeys()
	if err := h.engine.sealed.keys.renewAt(t.Context(), time.Now().Add(29*24*time.Hour)); err != nil || h.sealingKeys() != before {
		t.Fatalf("renewed too early: %v", err)
	}
	h.engine.sealed.keys.bits = 2048
	if err := h.engine.sealed.keys.renewAt(t.Context(), time.Now().Add(sealed.RenewPeriod+time.Hour)); err != nil || h.sealingKeys() != before+1 {
		t.Fatalf("not renewed: %v", err)
	}
	h.apply(k.seal(secretManifest("sealed-keys", "new", canary)))
	h.waitLive("v1", "Secret", "sealed-keys", "new", secretIs("password", canary))
}

func (h *house) sealingKeys() int {
	h.t.Helper()
	var list corev1.SecretList
	if err := h.kube.List(h.t.Context(), &list, client.InNamespace(sealingNamespace), client.MatchingLabels{sealed.LabelKey: sealed.LabelActive}); err != nil {
		h.t.Fatal(err)
	}
	return len(list.Items)
}

func TestSealedSecretsStandBack(t *testing.T) {
	h := newHouse(t)
	h.namespace("sealed-other")
	k := h.kubeseal()
	text := k.seal(secretManifest("sealed-other", "db", canary))
	h.engine.others.set(h.ctx, sealedSecretDialect, "Deployment kube-system/sealed-secrets-controller", true)
	h.apply(text)
	if _, err := h.engine.sealed.Reconcile(h.ctx, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "sealed-other", Name: "db"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.live("v1", "Secret", "sealed-other", "db"); err == nil {
		t.Fatal("the Secret was made beside another controller")
	}
	h.engine.others.set(h.ctx, sealedSecretDialect, "Deployment kube-system/sealed-secrets-controller", false)
	h.waitLive("v1", "Secret", "sealed-other", "db", secretIs("password", canary))
}

func TestSealedRoutesRefuse(t *testing.T) {
	h := newHouse(t)
	k := h.kubeseal()
	for _, body := range []string{"", "hi", "kind: Secret", "kind: SealedSecret\nspec: 1"} {
		if status, _ := k.post("/v1/verify", body); status != http.StatusBadRequest && status != http.StatusTooManyRequests {
			t.Errorf("%q: %d", body, status)
		}
	}
	status, answer := k.post("/v1/rotate", "kind: SealedSecret\nspec: {encryptedData: {a: "+base64.StdEncoding.EncodeToString([]byte(canary))+"}}")
	if status != http.StatusConflict || strings.Contains(answer, canary) {
		t.Errorf("%d %s", status, answer)
	}
	limited := false
	for range 30 {
		status, _ := k.post("/v1/verify", "hi")
		limited = limited || status == http.StatusTooManyRequests
	}
	if !limited {
		t.Error("there is no limit")
	}
}
