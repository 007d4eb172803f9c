package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// secretCanary is the value that Secrets of these tests have. Only the cluster
// holds it.
const secretCanary = "canary-b41d0e7c"

// TestSecretsStaySecret brings out Secrets by sops and by kubeseal, breaks them
// in each way that makes somebody say something about them, and looks for
// their value in everything that is said and written.
func TestSecretsStaySecret(t *testing.T) {
	sops := testkit.NewSops(t)
	key, recipient := sops.AgeKey(t)
	_, stranger := sops.AgeKey(t)
	encrypt := func(format, text string, args ...string) string {
		return sops.Encrypt(t, format, text, append([]string{"--age", recipient}, args...)...)
	}
	secret := func(name, more string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\nstringData:\n  password: %s\n%s", name, secretCanary, more)
	}
	data := []string{"--encrypted-regex", "^(data|stringData)$"}
	shared.kubectl(t, "create", "namespace", "secrets")
	shared.apply(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: sops-age, namespace: secrets}\ndata: {age.agekey: "+base64.StdEncoding.EncodeToString([]byte(key))+"}\n")

	kustomize := "namespace: secrets\nresources: [%s]\n"
	trees := map[string]map[string]string{
		"good": {
			"kustomization.yaml": fmt.Sprintf(kustomize, "db.yaml") + "secretGenerator:\n- name: env\n  envs: [app.env]\n- name: file\n  files: [app.yaml]\n",
			"db.yaml":            encrypt("yaml", secret("db", ""), data...),
			"app.env":            encrypt("dotenv", "TOKEN="+secretCanary+"\n"),
			"app.yaml":           encrypt("yaml", "token: "+secretCanary+"\n"),
		},
		"stranger": {"kustomization.yaml": fmt.Sprintf(kustomize, "db.yaml"), "db.yaml": sops.Encrypt(t, "yaml", secret("db", ""), append(data, "--age", stranger)...)},
		"refused":  {"kustomization.yaml": fmt.Sprintf(kustomize, "db.yaml"), "db.yaml": encrypt("yaml", secret("bad", "  x/y: "+secretCanary+"\n"), data...)},
		"tls":      {"kustomization.yaml": fmt.Sprintf(kustomize, "db.yaml"), "db.yaml": encrypt("yaml", secret("tls", "type: kubernetes.io/tls\n"), data...)},
		"patch": {
			"kustomization.yaml": fmt.Sprintf(kustomize, "cm.yaml") + "patches:\n- path: patch.yaml\n",
			"cm.yaml":            configMap("cm", "a"),
			"patch.yaml":         encrypt("yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: other\ndata:\n  x: "+secretCanary+"\n", data...),
		},
		"variables": {"kustomization.yaml": fmt.Sprintf(kustomize, "db.yaml"), "db.yaml": encrypt("yaml", secret("vars", "  more: a${"+strings.ReplaceAll(secretCanary, "-", "_")+"}b\n"), data...)},
		"service": {"kustomization.yaml": fmt.Sprintf(kustomize, "s.yaml"), "s.yaml": encrypt("yaml",
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: s\nspec:\n  clusterIP: "+secretCanary+"\n  ports:\n  - port: 1\n", "--encrypted-regex", "^spec$")},
	}
	names := []string{"good"}
	for name, files := range trees {
		tree := map[string]string{}
		for f, text := range files {
			tree["deploy/"+f] = text
		}
		repo := "secrets/" + name
		shared.repository(t, repo, tree)
		extra := ""
		if name == "variables" {
			extra = "\n  postBuild: {substitute: {a: b}}"
		}
		shared.apply(t, fmt.Sprintf(`apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: %[1]s, namespace: secrets}
spec: {interval: 1h, url: %[2]s/%[3]s.git, ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: %[1]s, namespace: secrets}
spec:
  sourceRef: {kind: GitRepository, name: %[1]s}
  path: deploy
  interval: 1h
  retryInterval: 1h
  prune: true
  decryption: {provider: sops, secretRef: {name: sops-age}}%[4]s
`, name, publicGitURL(t), repo, extra))
		if name != "good" {
			names = append(names, name)
		}
	}
	const ready = `jsonpath={.status.conditions[?(@.type=="Ready")].status}`
	for _, name := range names {
		want := "False"
		if name == "good" {
			want = "True"
		}
		shared.want(t, want, "get", "kustomization", name, "-n", "secrets", "-o", ready)
	}
	value := func(name, key string) {
		t.Helper()
		shared.want(t, base64.StdEncoding.EncodeToString([]byte(secretCanary)), "get", "secret", name, "-n", "secrets", "-o", "jsonpath={.data."+key+"}")
	}
	value("db", "password")

	// kubeseal, with nothing but where the certificate is.
	seal := exec.Command(testkit.Oracle(t, "kubeseal"), "--format", "yaml")
	seal.Env = append(os.Environ(), "SEALED_SECRETS_CERT="+strings.TrimSpace(shared.must(t, "secrets", "cert", "--url")))
	seal.Stdin = strings.NewReader(strings.Replace(secret("sealed", ""), "metadata:\n", "metadata:\n  namespace: secrets\n", 1))
	var errs bytes.Buffer
	seal.Stderr = &errs
	sealed, err := seal.Output()
	if err != nil {
		t.Fatalf("kubeseal: %v: %s", err, errs.String())
	}
	file := filepath.Join(t.TempDir(), "sealed.yaml")
	if err := os.WriteFile(file, sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := shared.must(t, "secrets", "verify", file); !strings.Contains(out, "It opens") {
		t.Error(out)
	}
	rotated := shared.must(t, "secrets", "rotate", file)
	if err := os.WriteFile(file, []byte(rotated), 0o600); err != nil {
		t.Fatal(err)
	}
	shared.apply(t, rotated)
	value("sealed", "password")
	shared.apply(t, strings.ReplaceAll(string(sealed), "name: sealed", "name: elsewhere"))
	shared.want(t, "False", "get", "sealedsecret", "elsewhere", "-n", "secrets", "-o", "jsonpath={.status.conditions[0].status}")
	shared.apply(t, strings.Replace(string(sealed), "  template:\n", "  template:\n    data: {x: '{{ fail .password }}'}\n", 1))
	shared.want(t, "False", "get", "sealedsecret", "sealed", "-n", "secrets", "-o", "jsonpath={.status.conditions[0].status}")

	said := map[string]string{
		"Kustomizations":   shared.kubectl(t, "get", "kustomization", "-n", "secrets", "-o", "json"),
		"SealedSecrets":    shared.kubectl(t, "get", "sealedsecret", "-n", "secrets", "-o", "json"),
		"events":           shared.kubectl(t, "get", "events", "-A", "-o", "json"),
		"rotated":          rotated,
		"the sealed value": string(sealed),
	}
	shared.kubectl(t, "create", "serviceaccount", "reader", "-n", "secrets")
	shared.kubectl(t, "create", "clusterrolebinding", "secrets-reader", "--clusterrole=cluster-admin", "--serviceaccount=secrets:reader")
	t.Cleanup(func() {
		_, _ = shared.run(context.Background(), "kubectl", "delete", "clusterrolebinding", "secrets-reader")
	})
	token := shared.kubectl(t, "create", "token", "reader", "-n", "secrets", "--audience=fairway")
	for _, name := range names {
		for _, what := range []string{"manifests", "diff"} {
			answer := ask(t, token, "kustomizations/secrets/"+name+"/"+what)
			var body bytes.Buffer
			if _, err := body.ReadFrom(answer.Body); err != nil {
				t.Fatal(err)
			}
			said[what+" of "+name] = answer.Status + " " + body.String()
		}
	}
	if manifests := said["manifests of good"]; !strings.Contains(manifests, "200 OK") || !strings.Contains(manifests, `"db"`) {
		t.Errorf("the manifests are not shown: %s", manifests)
	}
	said["the list of deliveries"] = asked(t, token, "deliveries?name=good", 200)
	forms := []string{secretCanary, base64.StdEncoding.EncodeToString([]byte(secretCanary)), strings.ReplaceAll(secretCanary, "-", "_")}
	for what, text := range said {
		for _, form := range forms {
			if strings.Contains(text, form) {
				t.Errorf("%s: the value is in it: %s", what, text)
			}
		}
	}
	onDisk(t, shared.data, forms)
}

// onDisk looks for the forms in all files below dir, but for the cluster's own
// datastore, which holds the Secrets.
func onDisk(t *testing.T, dir string, forms []string) {
	t.Helper()
	looked := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && !os.IsNotExist(err):
			return err
		case err != nil || d.IsDir() && d.Name() == "etcd":
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(p)
		if os.IsNotExist(err) {
			return nil // on its way
		}
		looked++
		for _, form := range forms {
			if bytes.Contains(content, []byte(form)) {
				at := bytes.Index(content, []byte(form))
				t.Errorf("%s holds the value: …%s", p, content[max(0, at-300):at+len(form)])
			}
		}
		return err
	})
	if err != nil || looked == 0 {
		t.Fatalf("looked into %d files: %v", looked, err)
	}
}
