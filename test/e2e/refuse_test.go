package e2e

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is refused, from the outside: by git, by the command line, by the plain
// protocol. Each refusal is one clear sentence, and costs the others nothing.

// permitReading lets deliveries of a namespace read the repositories of
// namespace default.
func (i *instance) permitReading(t *testing.T, namespace string) {
	t.Helper()
	i.kubectl(t, "create", "rolebinding", "fairway-read-by-"+namespace, "-n", "default",
		"--clusterrole=fairway-reader", "--serviceaccount="+namespace+":default")
}

// A tenant reads its own repositories. Another's it reads when the condition's
// own command was given, and no more when that was taken back. The namespaces
// of Flux and Argo CD read all.
func TestTenants(t *testing.T) {
	url := publicGitURL(t)
	for _, ns := range []string{"tenant-a", "tenant-b"} {
		shared.kubectl(t, "create", "namespace", ns)
	}
	work := shared.repository(t, "tenant-a/private", map[string]string{"app/cm.yaml": configMap("private", "one")})
	source := func(namespace, name string) string {
		return fmt.Sprintf(`---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: %s, namespace: %s}
spec: {interval: 2s, url: %s/tenant-a/private.git, ref: {branch: main}}
`, name, namespace, url)
	}
	shared.apply(t, source("tenant-a", "own")+source("flux-system", "tenants-central")+source("tenant-b", "others")+`---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: others, namespace: tenant-b}
spec: {interval: 1m, prune: true, path: ./app, targetNamespace: tenant-b, sourceRef: {kind: GitRepository, name: others}}
`)
	ready := func(namespace, name, field string) []string {
		return []string{"get", "gitrepositories.source.toolkit.fluxcd.io", name, "-n", namespace, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].` + field + `}`}
	}
	value := []string{"get", "configmap", "private", "-n", "tenant-b", "-o", "jsonpath={.data.key}"}
	shared.want(t, "True", ready("tenant-a", "own", "status")...)
	shared.want(t, "True", ready("flux-system", "tenants-central", "status")...)
	shared.want(t, "AccessDenied", ready("tenant-b", "others", "reason")...)
	message := shared.kubectl(t, ready("tenant-b", "others", "message")...)
	if !strings.Contains(message, "namespace tenant-b may not read repository tenant-a/private") {
		t.Errorf("the condition says %q", message)
	}
	if out, err := shared.run(t.Context(), append([]string{"kubectl"}, value...)...); err == nil {
		t.Errorf("it was delivered: %s", out)
	}
	_, grant, found := strings.Cut(message, "grant it with: kubectl ")
	if !found {
		t.Fatalf("the condition names no grant: %q", message)
	}
	shared.kubectl(t, strings.Fields(strings.TrimSuffix(grant, ")"))...)
	shared.want(t, "one", value...)

	shared.kubectl(t, "delete", "rolebinding", "fairway-read-by-tenant-b", "-n", "tenant-a")
	shared.want(t, "AccessDenied", ready("tenant-b", "others", "reason")...)
	shared.push(t, work, map[string]string{"app/cm.yaml": configMap("private", "two")})
	own := shared.git(t, work, "rev-parse", "HEAD")
	shared.want(t, "main@sha1:"+own, "get", "gitrepositories.source.toolkit.fluxcd.io", "own", "-n", "tenant-a", "-o", "jsonpath={.status.artifact.revision}")
	if got := shared.kubectl(t, value...); got != "one" {
		t.Errorf("what was applied has become %q", got)
	}
}

// An Application outside of the control plane's namespace needs its project's
// permission, and that of who owns the repository.
func TestTenantApplication(t *testing.T) {
	const ns = "tenant-apps"
	shared.kubectl(t, "create", "namespace", ns)
	shared.repository(t, "tenant-apps-source", map[string]string{"app/cm.yaml": configMap("c", "one")})
	manifest := strings.Replace(application("outside", publicGitURL(t)+"/tenant-apps-source.git", "app", ns), "namespace: argocd", "namespace: "+ns, 1)
	shared.apply(t, `apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: tenant-apps, namespace: argocd}
spec: {sourceNamespaces: [tenant-apps], sourceRepos: ["*"], destinations: [{server: "*", namespace: tenant-apps}], clusterResourceWhitelist: [{group: "", kind: Namespace}]}
---
`+strings.Replace(manifest, "project: default", "project: tenant-apps", 1))
	eventually(t, func() string {
		got := shared.kubectl(t, "get", "application", "outside", "-n", ns, "-o", "jsonpath={.status.conditions[*].message}")
		if !strings.Contains(got, "namespace tenant-apps may not read repository default/tenant-apps-source") {
			return "its conditions are " + got
		}
		return ""
	})
	shared.permitReading(t, ns)
	shared.want(t, "one", "get", "configmap", "c", "-n", ns, "-o", "jsonpath={.data.key}")
}

// A repository's own limits: the refusal is one line of git's report.
func TestPushOverTheLimit(t *testing.T) {
	work := shared.repository(t, "refuse-limits", map[string]string{"a.yaml": configMap("a", "one")})
	shared.kubectl(t, "patch", "repositories.fairway-cd.io", "refuse-limits", "--type=merge", "-p", `{"spec":{"limits":{"pushSize":"64Ki","refs":2}}}`)
	object := []string{"get", "repositories.fairway-cd.io", "refuse-limits", "-o"}
	generation := shared.kubectl(t, append(object, "jsonpath={.metadata.generation}")...)
	shared.want(t, generation, append(object, "jsonpath={.status.observedGeneration}")...)
	noise := make([]byte, 256<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	shared.commit(t, work, map[string]string{"noise": string(noise)})
	const line = " ! [remote rejected] HEAD -> main (the push is larger than this repository's limit of 64 KiB)"
	_, err := shared.exec(t.Context(), work, "git", "push", "-q", "origin", "HEAD:main")
	if err == nil || !strings.Contains(err.Error(), line) || strings.Contains(err.Error(), "unpack") || strings.Contains(err.Error(), "fatal") {
		t.Errorf("want the line %q and no other reason: %v", line, err)
	}
	shared.git(t, work, "reset", "-q", "--hard", "HEAD~1")
	shared.git(t, work, "push", "-q", "origin", "HEAD:refs/heads/second")
	_, err = shared.exec(t.Context(), work, "git", "push", "-q", "origin", "HEAD:refs/heads/third")
	if err == nil || !strings.Contains(err.Error(), "the repository would have 3 references, the limit is 2") {
		t.Errorf("a reference too many: %v", err)
	}
	if _, err := shared.run(t.Context(), "kubectl", "patch", "repositories.fairway-cd.io", "refuse-limits", "--type=merge", "-p", `{"spec":{"limits":{"pushSize":"-1"}}}`); err == nil || !strings.Contains(err.Error(), "want more than 0") {
		t.Errorf("a negative limit: %v", err)
	}
}

// Somebody else's server that wants a password: what is wrong with it is said,
// and the password is not.
func TestExternalCredentials(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	bare := filepath.Join(root, "locked.git")
	shared.git(t, root, "init", "-q", "--bare", "-b", "main", bare)
	work := t.TempDir()
	shared.git(t, work, "init", "-q", "-b", "main")
	shared.git(t, work, "remote", "add", "origin", bare)
	shared.push(t, work, map[string]string{"app/cm.yaml": configMap("c", "one")})
	backend := &cgi.Handler{Path: git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name != "ada" || password != "right-s3cret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="locked"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	url := server.URL + "/locked.git"
	secret := func(password string) string {
		return fmt.Sprintf(`apiVersion: v1
kind: Secret
metadata: {name: refuse-locked, namespace: argocd, labels: {argocd.argoproj.io/secret-type: repository}}
stringData: {url: %q, username: ada, password: %q}
---
apiVersion: v1
kind: Secret
metadata: {name: refuse-locked, namespace: flux-system}
stringData: {username: ada, password: %[2]q}
`, url, password)
	}
	t.Cleanup(func() {
		// While its repository is away, what the application could be rolled
		// back to is not known, and so no garbage is collected.
		_, _ = shared.run(context.Background(), "kubectl", "delete", "application", "refuse-locked", "-n", "argocd", "--ignore-not-found")
		_, _ = shared.run(context.Background(), "kubectl", "delete", "gitrepositories.source.toolkit.fluxcd.io", "-n", "flux-system", "refuse-locked", "refuse-revision", "--ignore-not-found")
		for _, ns := range []string{"argocd", "flux-system"} {
			_, _ = shared.run(context.Background(), "kubectl", "delete", "secret", "refuse-locked", "-n", ns, "--ignore-not-found")
		}
	})
	source := func(name, ref string) string {
		return fmt.Sprintf(`---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: %s, namespace: flux-system}
spec: {interval: 2s, url: %q, ref: {%s}, secretRef: {name: refuse-locked}}
`, name, url, ref)
	}
	app := strings.Replace(application("refuse-locked", url, "app", "refuse-locked"), "metadata:", "metadata:\n  annotations: {argocd.argoproj.io/refresh: hard}", 1)
	shared.apply(t, app)
	says := func(want string, args ...string) {
		t.Helper()
		eventually(t, func() string {
			got := shared.kubectl(t, append(args, "-o", "jsonpath={.status.conditions[*].message}")...)
			if strings.Contains(got, "s3cret") {
				t.Fatalf("it shows a password: %s", got)
			}
			if !strings.Contains(got, want) {
				return fmt.Sprintf("%v says %q, want %q", args, got, want)
			}
			return ""
		})
	}
	application := []string{"get", "application", "refuse-locked", "-n", "argocd"}
	repository := []string{"get", "gitrepositories.source.toolkit.fluxcd.io", "-n", "flux-system"}
	says(url+" wants credentials, or does not exist", application...)
	shared.apply(t, secret("wrong-s3cret")+"---\n"+app+source("refuse-locked", "branch: main")+source("refuse-revision", "tag: v9.9"))
	says(url+" refused the credentials", application...)
	says(url+" refused the credentials", append(repository, "refuse-locked")...)
	shared.apply(t, secret("right-s3cret"))
	shared.want(t, "one", "get", "configmap", "c", "-n", "refuse-locked", "-o", "jsonpath={.data.key}")
	says("stored artifact for revision 'main@sha1:", append(repository, "refuse-locked")...)
	says(`has no revision "v9.9"`, append(repository, "refuse-revision")...)
}

// Tokens that are no more, or are not enough. An expired one is signed with
// the instance's own key: the cluster gives none that ends within ten minutes.
func TestTokensRefused(t *testing.T) {
	shared.repository(t, "refuse-tokens", map[string]string{"a.yaml": configMap("a", "one")})
	token := strings.TrimSpace(shared.must(t, "token", "create", "refuse-robot", "--can", "pull:refuse-tokens"))
	ask := func(token string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, publicGitURL(t)+"/refuse-tokens.git/info/refs?service=git-upload-pack", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("x", token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		said, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(said)
	}
	if code, said := ask(token); code != http.StatusOK {
		t.Fatalf("a good token: %d %s", code, said)
	}
	if code, said := ask(expired(t, token)); code != http.StatusUnauthorized || !strings.Contains(said, "the token expired") {
		t.Errorf("an expired token: %d %s", code, said)
	}
	with := func(token, name string) string {
		return strings.Replace(publicGitURL(t), "://", "://x:"+token+"@", 1) + "/" + name + ".git"
	}
	shared.repository(t, "refuse-others", map[string]string{"a.yaml": configMap("a", "one")})
	_, err := shared.exec(t.Context(), "", "git", "ls-remote", with(token, "refuse-others"))
	if err == nil || !strings.Contains(err.Error(), "may not get repositories.fairway-cd.io default/refuse-others") {
		t.Errorf("a token without permission: %v", err)
	}
	shared.must(t, "token", "revoke", "refuse-robot")
	eventually(t, func() string {
		code, said := ask(token)
		if code != http.StatusUnauthorized {
			return fmt.Sprintf("a revoked token: %d %s", code, said)
		}
		return ""
	})
}

// expired is the token as it was issued, but long ago.
func expired(t *testing.T, token string) string {
	t.Helper()
	data, err := os.ReadFile(findFile(t, shared.data, "service-account.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	var key any
	if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		if key, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			key, err = x509.ParseECPrivateKey(block.Bytes)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	ago := time.Now().Add(-time.Hour).Unix()
	claims["iat"], claims["nbf"], claims["exp"] = ago-600, ago-600, ago
	if payload, err = json.Marshal(claims); err != nil {
		t.Fatal(err)
	}
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	var signature []byte
	switch key := key.(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		var r, s *big.Int
		r, s, err = ecdsa.Sign(rand.Reader, key, sum[:])
		if err == nil {
			signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		}
	default:
		t.Fatalf("the cluster signs with a %T", key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func findFile(t *testing.T, dir, name string) string {
	t.Helper()
	var found string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name {
			found = path
		}
		return nil //nolint:nilerr // what vanishes meanwhile is not it
	})
	if err != nil || found == "" {
		t.Fatalf("no %s below %s: %v", name, dir, err)
	}
	return found
}
