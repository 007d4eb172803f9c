package controller

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/secrets/sops"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// canary is the value of every Secret in these tests. Nothing that we write,
// but the Secret itself, holds it.
const canary = "canary-5e8c0f"

// vault is the real sops with a key, which is in the cluster too.
type vault struct {
	*testkit.Sops
	t              testing.TB
	key, recipient string
}

func newVault(t testing.TB) *vault {
	v := &vault{Sops: testkit.NewSops(t), t: t}
	v.key, v.recipient = v.AgeKey(t)
	return v
}

// secret is the Secret that holds the key.
func (v *vault) secret(namespace, name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ndata: {age.agekey: %s}\n",
		name, namespace, base64.StdEncoding.EncodeToString([]byte(v.key)))
}

// manifest is a Secret as it is in Git: encrypted, but for what names it.
func (v *vault) manifest(name, value string) string {
	text := fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\nstringData:\n  password: %s\n", name, value)
	return v.Encrypt(v.t, "yaml", text, "--age", v.recipient, "--encrypted-regex", "^(data|stringData)$")
}

func (v *vault) encrypt(format, text string) string {
	return v.Encrypt(v.t, format, text, "--age", v.recipient)
}

const decryptionSpec = "  decryption: {provider: sops, secretRef: {name: sops-age}}\n"

// secretIs wants a key of a Secret to have a value.
func secretIs(key, want string) func(*unstructured.Unstructured) error {
	return func(u *unstructured.Unstructured) error {
		got, _, _ := unstructured.NestedString(u.Object, "data", key)
		if plain, err := base64.StdEncoding.DecodeString(got); err != nil || string(plain) != want {
			return fmt.Errorf("%s is %q", key, got)
		}
		return nil
	}
}

// silent wants the value to be nowhere in what we say of the owner: its status
// and the events of its namespace.
func (h *house) silent(owner client.Object, value string) {
	h.t.Helper()
	check := func(what string, o any) {
		text, err := json.Marshal(o)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, form := range []string{value, base64.StdEncoding.EncodeToString([]byte(value))} {
			if strings.Contains(string(text), form) {
				h.t.Errorf("%s holds the value: %s", what, text)
			}
		}
	}
	if err := h.kube.Get(h.t.Context(), client.ObjectKeyFromObject(owner), owner); err != nil {
		h.t.Fatal(err)
	}
	check("the object", owner)
	var events eventsv1.EventList
	if err := h.kube.List(h.t.Context(), &events, client.InNamespace(owner.GetNamespace())); err != nil {
		h.t.Fatal(err)
	}
	check("an event", events)
}

// ask asks the HTTP API.
func (h *house) answer(path string) (int, string) {
	h.t.Helper()
	mux := http.NewServeMux()
	for pattern, handler := range h.engine.Routes() {
		mux.Handle(pattern, handler)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestDecryptsForAKustomization(t *testing.T) {
	h := newHouse(t)
	v := newVault(t)
	h.namespace("sops")
	h.apply(v.secret("sops", "sops-age"))
	repo := h.repo("sops/app", map[string]string{
		"app/kustomization.yaml": "namespace: sops\nresources: [db.yaml]\nsecretGenerator:\n- name: generated\n  envs: [app.env]\n  options: {disableNameSuffixHash: true}\n",
		"app/db.yaml":            v.manifest("db", canary),
		"app/app.env":            v.encrypt("dotenv", "TOKEN="+canary+"\n"),
	})
	h.apply(h.fluxPair("sops", "app", "sops/app", "app", decryptionSpec))
	k := h.kustomization("sops", "app", "is ready", readyAt(""))
	h.waitLive("v1", "Secret", "sops", "db", secretIs("password", canary))
	h.waitLive("v1", "Secret", "sops", "generated", secretIs("TOKEN", canary))
	h.silent(k, canary)
	for _, what := range []string{"manifests", "diff"} {
		code, body := h.answer("/api/v1/kustomizations/sops/app/" + what)
		if code != http.StatusOK || strings.Contains(body, canary) || strings.Contains(body, base64.StdEncoding.EncodeToString([]byte(canary))) {
			t.Errorf("%s: %d %s", what, code, body)
		}
	}

	// A change of the value arrives, and its difference does not show it.
	commit := h.push(repo, map[string]string{"app/db.yaml": v.manifest("db", canary+"-2")})
	h.kustomization("sops", "app", "has the new value", readyAt(commit))
	h.waitLive("v1", "Secret", "sops", "db", secretIs("password", canary+"-2"))
	h.silent(k, canary)

	// A key that the file is not encrypted to.
	other := newVault(t)
	h.push(repo, map[string]string{"app/db.yaml": other.manifest("db", canary)})
	h.kustomization("sops", "app", "has no key for it", notReady("BuildFailed", "Secret sops/db cannot be decrypted", other.recipient))
	h.silent(k, canary)
	h.waitLive("v1", "Secret", "sops", "db", secretIs("password", canary+"-2"))

	// The key is added, and nothing else changes.
	h.apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: sops-age, namespace: sops, labels: {reconcile.fluxcd.io/watch: Enabled}}\ndata: {age.agekey: %s, other.agekey: %s}\n",
		base64.StdEncoding.EncodeToString([]byte(v.key)), base64.StdEncoding.EncodeToString([]byte(other.key))))
	h.kustomization("sops", "app", "is ready again", readyAt(""))
	h.waitLive("v1", "Secret", "sops", "db", secretIs("password", canary))
}

func TestWhatDoesNotDecrypt(t *testing.T) {
	h := newHouse(t)
	v := newVault(t)
	h.namespace("sops-bad")
	h.apply(v.secret("sops-bad", "sops-age") + "---\n" +
		"apiVersion: v1\nkind: Secret\nmetadata: {name: no-keys, namespace: sops-bad}\ndata: {identity: aGk=, sops.aws-kms: aGk=}\n---\n" +
		"apiVersion: v1\nkind: Secret\nmetadata: {name: torn, namespace: sops-bad}\nstringData: {x.agekey: " + canary + "}\n")
	good := v.manifest("db", canary)
	env := v.encrypt("dotenv", "TOKEN="+canary+"\nUSER=me\n")
	generator := "namespace: sops-bad\nsecretGenerator:\n- name: g\n  envs: [app.env]\n"
	for name, c := range map[string]struct {
		files  map[string]string
		spec   string
		reason string
		says   []string
	}{
		"service-account": {nil, "  decryption: {provider: sops, serviceAccountName: a, secretRef: {name: sops-age}}\n", "InvalidSpec", []string{"spec.decryption.serviceAccountName"}},
		"no-secret-ref":   {nil, "  decryption: {provider: sops}\n", "InvalidSpec", []string{"spec.decryption.secretRef"}},
		"missing":         {nil, "  decryption: {provider: sops, secretRef: {name: nowhere}}\n", "BuildFailed", []string{"Secret sops-bad/nowhere is not there"}},
		"no-keys":         {nil, "  decryption: {provider: sops, secretRef: {name: no-keys}}\n", "BuildFailed", []string{"no entry *.agekey or *.asc"}},
		"torn":            {nil, "  decryption: {provider: sops, secretRef: {name: torn}}\n", "BuildFailed", []string{`"x.agekey" is no age key file`}},
		"not-asked-for":   {nil, "", "BuildFailed", []string{"it is encrypted by sops, and no keys are given", "spec.decryption"}},
		"moved": {map[string]string{"db.yaml": strings.Replace(good, "password:", "passw0rd:", 1)}, decryptionSpec, "BuildFailed",
			[]string{"Secret sops-bad/db cannot be decrypted", "stringData.passw0rd"}},
		"mac": {map[string]string{"kustomization.yaml": generator, "app.env": strings.Replace(env, "USER=", "USEX=", 1)}, decryptionSpec, "BuildFailed",
			[]string{"app.env: it cannot be decrypted", "USEX"}},
		"removed": {map[string]string{"kustomization.yaml": generator, "app.env": env[strings.Index(env, "\n")+1:]}, decryptionSpec, "BuildFailed",
			[]string{"app.env: it cannot be decrypted", "MAC does not match"}},
		"huge": {map[string]string{"kustomization.yaml": generator, "app.env": env + "#" + strings.Repeat("x", 6<<20)}, decryptionSpec, "BuildFailed",
			[]string{"app.env: it cannot be decrypted", "limit"}},
		// What opens is not what the API server takes: its answer quotes values.
		"invalid": {map[string]string{"db.yaml": v.Encrypt(t, "yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ndata:\n  password: "+canary+"!\n",
			"--age", v.recipient, "--encrypted-regex", "^(data|stringData)$")}, decryptionSpec, "ReconciliationFailed", []string{"db"}},
		"invalid-key": {map[string]string{"db.yaml": v.Encrypt(t, "yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: "+canary+"\n  x/y: "+canary+"\n",
			"--age", v.recipient, "--encrypted-regex", "^(data|stringData)$")}, decryptionSpec, "ReconciliationFailed", []string{"db"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			files := map[string]string{}
			if c.files == nil {
				files["app/db.yaml"] = good
			}
			for f, text := range c.files {
				files["app/"+f] = text
			}
			h.repo("sops-bad/"+name, files)
			h.apply(h.fluxPair("sops-bad", name, "sops-bad/"+name, "app", "  targetNamespace: sops-bad\n"+c.spec))
			k := h.kustomization("sops-bad", name, "is refused", notReady(c.reason, c.says...))
			h.silent(k, canary)
			_, body := h.answer("/api/v1/kustomizations/sops-bad/" + name + "/diff")
			if strings.Contains(body, canary) {
				t.Errorf("the difference holds the value: %s", body)
			}
			h.delete(&kustomizev1.Kustomization{ObjectMeta: k.ObjectMeta})
		})
	}
}

func TestDecryptsForAProject(t *testing.T) {
	h := newHouse(t)
	v := newVault(t)
	h.namespace("argocd")
	h.namespace("sops-argo")
	h.apply(v.secret("argocd", "sops-keys"))
	h.repo("sops/argo", map[string]string{"app/db.yaml": v.manifest("db", canary)})
	project := `apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata:
  name: with-sops
  namespace: argocd
  annotations: {%s}
spec:
  sourceRepos: ["*"]
  destinations: [{server: "*", namespace: "*"}]
`
	h.apply(fmt.Sprintf(project, ""))
	h.apply(strings.Replace(h.application("sops", "sops/argo", "app", "sops-argo", automated), "project: default", "project: with-sops", 1))
	h.waitApp("sops", "is refused", func(a *argo.Application) bool {
		return strings.Contains(describe(a), "it is encrypted by sops") && a.Status.Sync.Status == argo.SyncUnknown
	})
	h.apply(fmt.Sprintf(project, annotationDecryption+": sops-keys"))
	h.waitApp("sops", "is synced", synced)
	h.waitLive("v1", "Secret", "sops-argo", "db", secretIs("password", canary))
	h.silent(appObject("sops"), canary)
	h.delete(appObject("sops"))
}

// TestEncryptedForOthers: what an annotation leaves encrypted stays so.
func TestEncryptedForOthers(t *testing.T) {
	v := newVault(t)
	o := &unstructured.Unstructured{}
	if err := o.UnmarshalJSON([]byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a","annotations":{"kustomize.toolkit.fluxcd.io/decrypt":"disabled"}},"sops":{"mac":"x"}}`)); err != nil {
		t.Fatal(err)
	}
	var s corev1.Secret
	s.Data = map[string][]byte{"x.agekey": []byte(v.key)}
	for _, c := range []decryption{{}, {keys: keysOf(t, s)}} {
		objects := []*unstructured.Unstructured{o}
		if err := c.decrypt(objects); err != nil || objects[0] != o {
			t.Fatal(err)
		}
	}
	// Another kind may be encrypted for an operator that decrypts it.
	o.SetKind("SopsSecret")
	o.SetAnnotations(nil)
	if err := (&decryption{}).decrypt([]*unstructured.Unstructured{o}); err != nil {
		t.Fatal(err)
	}
	// A Secret's value may be an encrypted file.
	file := base64.StdEncoding.EncodeToString([]byte(v.encrypt("yaml", "a: "+canary+"\n")))
	objects := []*unstructured.Unstructured{{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "data": map[string]any{"f.yaml": file, "g": "aGk="}}}}
	if err := (&decryption{keys: keysOf(t, s)}).decrypt(objects); err != nil {
		t.Fatal(err)
	}
	if err := secretIs("f.yaml", "a: "+canary+"\n")(objects[0]); err != nil {
		t.Fatal(err)
	}
	var wrong *DecryptError
	objects[0].Object["data"] = map[string]any{"f.yaml": base64.StdEncoding.EncodeToString([]byte("mac: ENC["))}
	if err := (&decryption{keys: keysOf(t, s)}).decrypt(objects); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "data.f.yaml") {
		t.Fatal(err)
	}
}

func keysOf(t *testing.T, s corev1.Secret) *sops.Keys {
	t.Helper()
	keys, err := sops.ParseKeys(s.Data)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestSecretsInClear: a policy refuses them, says which, and does not say what
// they hold.
func TestSecretsInClear(t *testing.T) {
	h := newHouse(t)
	v := newVault(t)
	policy := func(value string) {
		h.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: clear, annotations: {" + annotationClear + ": " + value + "}}\n")
	}
	policy("permit")
	h.apply(v.secret("clear", "sops-age"))
	clear := "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: " + canary + "}\n"
	repo := h.repo("clear/app", map[string]string{"app/db.yaml": clear})
	h.apply(h.fluxPair("clear", "app", "clear/app", "app", "  targetNamespace: clear\n"+decryptionSpec))
	k := h.kustomization("clear", "app", "is permitted", readyAt(""))
	policy("refuse")
	h.kustomization("clear", "app", "is refused", notReady(reasonClear, "Secret clear/db has values in clear in Git", "namespace clear"))
	h.silent(k, canary)
	policy("Refuse")
	h.kustomization("clear", "app", "is refused by a value that is none", notReady(reasonClear, "neither"))
	policy("refuse")
	commit := h.push(repo, map[string]string{"app/db.yaml": v.manifest("db", canary)})
	h.kustomization("clear", "app", "is encrypted", readyAt(commit))
	h.push(repo, map[string]string{"app/more.yaml": strings.Replace(clear, "name: db", "name: more", 1)})
	h.kustomization("clear", "app", "is refused for another", notReady(reasonClear, "Secret clear/more has values in clear"))
	if _, err := h.live("v1", "Secret", "clear", "more"); err == nil {
		t.Error("the Secret was applied")
	}
	h.silent(k, canary)

	h.namespace("argocd")
	h.apply(`apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: strict, namespace: argocd, annotations: {` + annotationClear + `: refuse}}
spec:
  sourceRepos: ["*"]
  destinations: [{server: "*", namespace: "*"}]
`)
	h.repo("clear/argo", map[string]string{"app/db.yaml": clear + "---\n" + strings.Replace(clear, "name: db", "name: two", 1)})
	h.apply(strings.Replace(h.application("in-clear", "clear/argo", "app", "clear", automated), "project: default", "project: strict", 1))
	h.waitApp("in-clear", "is refused", func(a *argo.Application) bool {
		for _, c := range a.Status.Conditions {
			if strings.Contains(c.Message, `Secret db, Secret two have values in clear in Git, which project "strict" does not permit`) {
				return true
			}
		}
		return false
	})
	h.silent(appObject("in-clear"), canary)
	h.delete(appObject("in-clear"))
}

// TestPrivateValuesOfOtherKinds: what is encrypted in other kinds than Secret
// is not shown either, though the API server quotes it.
func TestPrivateValuesOfOtherKinds(t *testing.T) {
	h := newHouse(t)
	v := newVault(t)
	h.namespace("private")
	h.apply(v.secret("private", "sops-age"))
	encrypt := func(manifest string) string {
		return v.Encrypt(t, "yaml", manifest, "--age", v.recipient, "--encrypted-regex", "^(data|spec)$")
	}
	config := func(value string) string {
		return encrypt("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: conf\n  namespace: private\ndata:\n  url: db://me:" + value + "@db\n")
	}
	repo := h.repo("private/app", map[string]string{"app/conf.yaml": config(canary)})
	h.apply(h.fluxPair("private", "app", "private/app", "app", decryptionSpec))
	k := h.kustomization("private", "app", "is ready", readyAt(""))
	h.waitLive("v1", "ConfigMap", "private", "conf", field("db://me:"+canary+"@db", "data", "url"))
	h.silent(k, canary)
	hidden := func(what string) {
		t.Helper()
		code, body := h.answer("/api/v1/kustomizations/private/app/" + what)
		if code != http.StatusOK || strings.Contains(body, canary) || !strings.Contains(body, "conf") {
			t.Errorf("%s: %d %s", what, code, body)
		}
	}
	hidden("manifests")
	h.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: conf, namespace: private}\ndata: {url: \"" + canary + " of somebody\"}\n")
	h.waitLive("v1", "ConfigMap", "private", "conf", field("db://me:"+canary+"@db", "data", "url"))

	// A new value, and an object that the API server refuses with its values.
	h.push(repo, map[string]string{
		"app/conf.yaml": config(canary + "-2"),
		"app/service.yaml": encrypt("apiVersion: v1\nkind: Service\nmetadata:\n  name: refused\n  namespace: private\nspec:\n  type: " + canary +
			"-type\n  clusterIP: " + canary + "\n  ports:\n  - port: 1\n"),
	})
	h.kustomization("private", "app", "is refused", func(k *kustomizev1.Kustomization) bool {
		return notReady("ReconciliationFailed", "refused", hiddenValue)(k)
	})
	h.silent(k, canary)
	hidden("diff")
	hidden("manifests")

	h.namespace("argocd")
	h.apply(v.secret("argocd", "private-keys"))
	h.apply("apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: private, namespace: argocd, annotations: {" + annotationDecryption + ": private-keys}}\n" +
		"spec: {sourceRepos: [\"*\"], destinations: [{server: \"*\", namespace: \"*\"}]}\n")
	h.namespace("private-argo")
	h.apply(strings.Replace(h.application("private", "private/app", "app", "private-argo", automated), "project: default", "project: private", 1))
	h.waitApp("private", "is refused", func(a *argo.Application) bool {
		return a.Status.OperationState != nil && strings.Contains(a.Status.OperationState.Message, hiddenValue)
	})
	h.silent(appObject("private"), canary)
	code, body := h.answer("/api/v1/applications/argocd/private/diff")
	if code != http.StatusOK || strings.Contains(body, canary) {
		t.Errorf("diff: %d %s", code, body)
	}
	h.delete(appObject("private"))
}
