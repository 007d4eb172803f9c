package controller

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// keyring is a real gpg with its own directory.
type keyring struct {
	testing.TB
	dir string
}

func newKeyring(tb testing.TB) *keyring {
	tb.Helper()
	if _, err := exec.LookPath("gpg"); err != nil {
		tb.Fatal("the test needs gpg")
	}
	dir, err := os.MkdirTemp("", "keys") // a socket's path is short
	if err != nil {
		tb.Fatal(err)
	}
	k := &keyring{tb, dir}
	tb.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--homedir", dir, "--kill", "all")
		_ = cmd.Run() // it may not run
		os.RemoveAll(dir)
	})
	script := fmt.Sprintf("#!/bin/sh\nexec gpg --homedir %s --batch --quiet --passphrase '' \"$@\"\n", dir)
	if err := os.WriteFile(k.program(), []byte(script), 0o700); err != nil {
		tb.Fatal(err)
	}
	return k
}

func (k *keyring) program() string { return filepath.Join(k.dir, "gpg") }

func (k *keyring) gpg(args ...string) string {
	k.Helper()
	out, err := exec.CommandContext(k.Context(), k.program(), args...).Output()
	if err != nil {
		k.Fatalf("gpg %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// key makes a key and returns its fingerprint and public part.
func (k *keyring) key(name string) (fingerprint, public string) {
	k.Helper()
	k.gpg("--quick-generate-key", name+" <"+name+"@example.com>", "ed25519", "sign")
	for line := range strings.SplitSeq(k.gpg("--with-colons", "--list-keys", name), "\n") {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9], k.gpg("--armor", "--export", f[9])
		}
	}
	k.Fatal("the key is not there")
	return "", ""
}

// pushSigned commits the files, signed with the key, and pushes.
func (h *house) pushSigned(r *testkit.Repo, k *keyring, key string, files map[string]string) string {
	h.t.Helper()
	r.Commit("change", files)
	r.Git("-c", "gpg.program="+k.program(), "commit", "-q", "--amend", "--no-edit", "-S"+key)
	r.Git("push", "-q", "origin", "HEAD:main")
	return r.Head()
}

func keysObject(kind, namespace, name, field string, keys map[string]string) string {
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name, "namespace": namespace}, field: keys,
	})
	if err != nil {
		panic(err) // plain data always encode
	}
	return string(text)
}

func (h *house) repository(namespace, name, what string, check func(*sourcev1.GitRepository) error) {
	h.t.Helper()
	testkit.Eventually(h.t, "GitRepository "+name+" "+what, func() error {
		g := &sourcev1.GitRepository{}
		if err := h.kube.Get(h.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, g); err != nil {
			return err
		}
		return check(g)
	})
}

func verifiedIs(status, reason, says string) func(*sourcev1.GitRepository) error {
	return func(g *sourcev1.GitRepository) error {
		c := apimeta.FindStatusCondition(g.Status.Conditions, sourcev1.SourceVerifiedCondition)
		if c == nil || string(c.Status) != status || c.Reason != reason || !strings.Contains(c.Message, says) {
			return fmt.Errorf("conditions: %v", g.Status.Conditions)
		}
		return nil
	}
}

// Only what is signed by somebody who is trusted is brought out; what was
// brought out before stays.
func TestGitRepositoryVerify(t *testing.T) {
	h, k := newHouse(t), newKeyring(t)
	h.namespace("verify")
	alice, public := k.key("alice")
	mallory, _ := k.key("mallory")
	repo := h.repo("verify", map[string]string{"app/a.yaml": configMap("a", "1")})
	pair := h.fluxPair("verify", "verify", "verify", "./app", "  targetNamespace: verify\n")
	h.apply(strings.Replace(pair, "ref: {branch: main}}", "ref: {branch: main}, verify: {mode: HEAD, secretRef: {name: keys}}}", 1))
	defer h.dropFlux("verify", "verify")
	h.repository("verify", "verify", "to have no keys", verifiedIs("False", "VerificationError", "Secret verify/keys is not there"))
	h.apply(keysObject("Secret", "verify", "keys", "stringData", map[string]string{"alice.asc": public, "README": "no key"}))

	first := h.pushSigned(repo, k, alice, map[string]string{"app/a.yaml": configMap("a", "2")})
	h.kustomization("verify", "verify", "to be at the signed commit", readyAt(first))
	h.repository("verify", "verify", "to be verified", verifiedIs("True", "Succeeded", first))
	h.push(repo, map[string]string{"app/a.yaml": configMap("a", "3")})
	h.repository("verify", "verify", "not to be signed", verifiedIs("False", "VerificationError", "the commit is not signed"))
	h.pushSigned(repo, k, mallory, map[string]string{"app/a.yaml": configMap("a", "4")})
	h.repository("verify", "verify", "to be signed by a stranger", verifiedIs("False", "VerificationError", "does not count"))
	h.waitLive("v1", "ConfigMap", "verify", "a", field("2", "data", "key"))
	last := h.pushSigned(repo, k, alice, map[string]string{"app/a.yaml": configMap("a", "5")})
	h.kustomization("verify", "verify", "to be at the next signed commit", readyAt(last))

	// A tag is verified as itself, and not as another one of its key.
	sign := []string{"-c", "gpg.program=" + k.program(), "tag", "-u", alice, "-m", "release"}
	repo.Git(append(sign, "v1")...)
	repo.Git("tag", "v2", "v1")
	repo.Git("push", "-q", "origin", "v1", "v2")
	tagged := func(tag string) {
		t.Helper()
		h.apply(strings.Replace(pair, "ref: {branch: main}}", "ref: {tag: "+tag+"}, verify: {mode: TagAndHEAD, secretRef: {name: keys}}}", 1))
	}
	tagged("v2")
	h.repository("verify", "verify", "to have a copied tag", verifiedIs("False", "VerificationError", `the signed tag is "v1"`))
	tagged("v1")
	h.repository("verify", "verify", "to have its tag verified", verifiedIs("True", "Succeeded", "v1@sha1:"))

	// A pin does not lead around it.
	h.apply(strings.Replace(pair, "ref: {branch: main}}", "ref: {branch: main}, verify: {secretRef: {name: keys}}}", 1))
	unsigned := repo.Git("rev-list", "--max-parents=0", "HEAD")
	h.apply("apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: verify, namespace: verify, annotations: {" + AnnotationPinnedRevision + ": " + unsigned + "}}\n" +
		"spec: {interval: 1h, path: ./app, prune: true, targetNamespace: verify, sourceRef: {kind: GitRepository, name: verify}}\n")
	h.kustomization("verify", "verify", "not to be pinned to an unsigned commit", notReady("ArtifactFailed", "is not signed"))
}

// A project's signatureKeys are held, with the keys of Argo CD's ConfigMap.
func TestSignatureKeys(t *testing.T) {
	h, k := newHouse(t), newKeyring(t)
	h.namespace("argocd")
	alice, alicePublic := k.key("alice")
	bob, bobPublic := k.key("bob")
	repo := h.repo("signed", map[string]string{"app/a.yaml": configMap("a", "1")})
	h.apply(keysObject("ConfigMap", "argocd", argoKeys, "data", map[string]string{alice[24:]: alicePublic, bob[24:]: bobPublic}))
	h.apply(windows("signed") + "  signatureKeys: [{keyID: '" + alice[24:] + "'}]\n")
	h.apply(strings.Replace(h.application("signed", "signed", "app", "signed", automated), "project: default", "project: signed", 1))
	defer h.delete(appObject("signed"))
	refused := func(says string) func(*argo.Application) bool {
		return func(a *argo.Application) bool {
			return a.Status.Sync.Status == argo.SyncUnknown && len(a.Status.Conditions) > 0 && strings.Contains(a.Status.Conditions[0].Message, says)
		}
	}
	h.waitApp("signed", "not to be synced unsigned", refused("the commit is not signed"))
	h.pushSigned(repo, k, bob, map[string]string{"app/a.yaml": configMap("a", "2")})
	h.waitApp("signed", "not to be synced with another known key", refused("none of the project's spec.signatureKeys"))
	first := h.pushSigned(repo, k, alice, map[string]string{"app/a.yaml": configMap("a", "3")})
	h.waitApp("signed", "to be synced", func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == first })
	second := h.pushSigned(repo, k, alice, map[string]string{"app/a.yaml": configMap("a", "4")})
	h.waitApp("signed", "to be at the second revision", func(a *argo.Application) bool { return healthy(a) && a.Status.Sync.Revision == second })

	// A rollback cannot sign, and so it pins.
	result, err := h.engine.Rollback(t.Context(), RollbackRequest{
		Owner: core.Owner{Dialect: core.ArgoCD, Kind: argo.ApplicationKind, Namespace: "argocd", Name: "signed"}, User: core.User{Name: "alice"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Parts) != 1 || !result.Parts[0].Pinned {
		t.Errorf("rolled back as %+v", result)
	}
	h.waitLive("v1", "ConfigMap", "signed", "a", field("3", "data", "key"))
}

// Other repositories are part of the tree, and their changes are brought out;
// what sparseCheckout does not name is not there.
func TestIncludeAndSparseCheckout(t *testing.T) {
	h := newHouse(t)
	h.namespace("include")
	base := h.repo("include-base", map[string]string{"deploy/b.yaml": configMap("b", "1"), "README.md": "x"})
	repo := h.repo("include", map[string]string{
		"app/kustomization.yaml": "resources: [a.yaml, ../vendor/base]\n", "app/a.yaml": configMap("a", "1"),
		"vendor/base/kustomization.yaml": "resources: [nowhere.yaml]\n", "other/c.yaml": configMap("c", "1"),
	})
	pair := h.fluxPair("include", "include", "include", "./app", "  targetNamespace: include\n")
	h.apply(strings.Replace(pair, "ref: {branch: main}}", "ref: {branch: main}, sparseCheckout: [./app, vendor], include: [{repository: {name: base}, fromPath: deploy, toPath: ./vendor/base}]}", 1))
	defer h.dropFlux("include", "include")
	h.repository("include", "include", "to wait for what it includes", func(g *sourcev1.GitRepository) error {
		if c := apimeta.FindStatusCondition(g.Status.Conditions, "Ready"); c == nil || c.Reason != "IncludeUnavailable" {
			return fmt.Errorf("conditions: %v", g.Status.Conditions)
		}
		return nil
	})
	h.push(base, map[string]string{"deploy/kustomization.yaml": "resources: [b.yaml]\n"})
	h.apply(fmt.Sprintf("apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: base, namespace: include}\nspec: {interval: 1h, url: %q, ref: {branch: main}}\n", h.url+"include-base.git"))
	h.waitLive("v1", "ConfigMap", "include", "a", field("1", "data", "key"))
	h.waitLive("v1", "ConfigMap", "include", "b", field("1", "data", "key"))
	h.push(base, map[string]string{"deploy/b.yaml": configMap("b", "2")})
	h.waitLive("v1", "ConfigMap", "include", "b", field("2", "data", "key"))
	h.push(repo, map[string]string{"app/a.yaml": configMap("a", "2")})
	h.waitLive("v1", "ConfigMap", "include", "a", field("2", "data", "key"))

	h.apply("apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: outside, namespace: include}\n" +
		"spec: {interval: 1h, path: ./other, prune: true, targetNamespace: include, sourceRef: {kind: GitRepository, name: include}}\n")
	defer h.dropFlux("include", "outside")
	h.kustomization("include", "outside", "not to find what was left out", notReady("ArtifactFailed"))
	h.apply(strings.Replace(pair, "ref: {branch: main}}", "ref: {branch: main}, sparseCheckout: [nowhere]}", 1))
	h.repository("include", "include", "not to have the directory", func(g *sourcev1.GitRepository) error {
		if c := apimeta.FindStatusCondition(g.Status.Conditions, "Ready"); c == nil || !strings.Contains(c.Message, "spec.sparseCheckout") {
			return fmt.Errorf("conditions: %v", g.Status.Conditions)
		}
		return nil
	})
}
