package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	kustomizev1 "github.com/fluxcd/kustomize-controller/api/v1"
	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// pushManifests pushes what flux push artifact does.
func pushManifests(t testing.TB, ref string, files map[string]string) v1.Hash {
	t.Helper()
	return pushArtifact(t, ref, "application/vnd.cncf.flux.config.v1+json", "application/vnd.cncf.flux.content.v1.tar+gzip", tgz(t, files))
}

// TestOCIRepository resolves each kind of reference, and says what is wrong
// with what it cannot resolve.
func TestOCIRepository(t *testing.T) {
	h := newHouse(t)
	h.namespace("oci")
	host := helmRegistry(t)
	digests := map[string]v1.Hash{}
	for _, tag := range []string{"1.0.0", "1.1.0", "1.2.0-rc.1", "latest"} {
		digests[tag] = pushManifests(t, host+"/manifests/app:"+tag, map[string]string{"a.yaml": configMap("a", tag)})
	}
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: plain, namespace: oci}\nstringData: {username: me}\n")
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: docker, namespace: oci}\ntype: kubernetes.io/dockerconfigjson\n" +
		"stringData: {.dockerconfigjson: '{\"auths\":{\"" + host + "\":{\"auth\":\"bWU6c2VjcmV0\"}}}'}\n")
	for name, c := range map[string]struct {
		spec, tag, reason string
		says              []string
	}{
		"default":          {``, "latest", "", nil},
		"tag":              {`ref: {tag: 1.0.0}`, "1.0.0", "", nil},
		"semver":           {`ref: {semver: ">=1.0.0"}`, "1.1.0", "", nil},
		"filter":           {`ref: {semver: ">=1.0.0-0", semverFilter: ".*-rc.*"}`, "1.2.0-rc.1", "", nil},
		"digest":           {`ref: {digest: "` + digests["1.0.0"].String() + `"}`, "1.0.0", "", nil},
		"layer":            {`layerSelector: {mediaType: application/vnd.cncf.flux.content.v1.tar+gzip, operation: copy}`, "latest", "", nil},
		"secret":           {`secretRef: {name: docker}`, "latest", "", nil},
		"no such tag":      {`ref: {tag: v9}`, "", "OCIArtifactPullFailed", []string{"v9"}},
		"no such range":    {`ref: {semver: 9.x}`, "", "OCIArtifactPullFailed", []string{"none of its 4 tags"}},
		"no such layer":    {`layerSelector: {mediaType: text/none}`, "", "OCIArtifactPullFailed", []string{"text/none"}},
		"wrong secret":     {`secretRef: {name: plain}`, "", "AuthenticationFailed", []string{"oci/plain", "dockerconfigjson"}},
		"no such secret":   {`secretRef: {name: ghost}`, "", "AuthenticationFailed", []string{"ghost"}},
		"signature":        {`verify: {provider: cosign}`, "", "URLInvalid", []string{"spec.verify"}},
		"cloud's identity": {`provider: aws`, "", "URLInvalid", []string{"spec.provider", "aws"}},
		"unknown field":    {`colour: red`, "", "URLInvalid", []string{"spec.colour", "unknown field"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			objs := h.apply(fmt.Sprintf("apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata: {name: o, namespace: oci}\nspec:\n  interval: 1h\n  insecure: true\n  url: oci://%s/manifests/app\n  %s\n", host, c.spec))
			defer h.delete(objs[0])
			testkit.Eventually(t, "the OCIRepository", func() error {
				o := &sourcev1.OCIRepository{}
				if err := h.kube.Get(t.Context(), types.NamespacedName{Namespace: "oci", Name: "o"}, o); err != nil {
					return err
				}
				ready := apimeta.FindStatusCondition(o.Status.Conditions, "Ready")
				if ready == nil {
					return errors.New("no condition yet")
				}
				if c.reason == "" {
					want := c.tag + "@" + digests[c.tag].String()
					if name == "digest" {
						want = digests[c.tag].String()
					}
					if ready.Status != metav1.ConditionTrue || o.Status.Artifact == nil || o.Status.Artifact.Revision != want {
						return fmt.Errorf("%+v, %+v, want %s", o.Status.Artifact, ready, want)
					}
					return nil
				}
				if ready.Status != metav1.ConditionFalse || ready.Reason != c.reason {
					return fmt.Errorf("%+v", ready)
				}
				for _, s := range c.says {
					if !strings.Contains(ready.Message, s) {
						return fmt.Errorf("%q does not say %q", ready.Message, s)
					}
				}
				return nil
			})
		})
	}
}

// TestKustomizationOfOCIRepository applies what an artifact has, and follows
// its tag.
func TestKustomizationOfOCIRepository(t *testing.T) {
	h := newHouse(t)
	h.namespace("oci-kustom")
	host := helmRegistry(t)
	first := pushManifests(t, host+"/manifests/app:latest", map[string]string{"deploy/a.yaml": configMap("a", "1"), "deploy/drafts/b.yaml": configMap("b", "1")})
	text := strings.Replace(h.fluxPair("oci-kustom", "app", "none", "./deploy", "  targetNamespace: oci-kustom\n"), "kind: GitRepository, name: app", "kind: OCIRepository, name: app", 1)
	_, kustomization, _ := strings.Cut(text, "---\n")
	h.apply(kustomization)
	defer h.dropFlux("oci-kustom", "app")
	h.kustomization("oci-kustom", "app", "to miss its source", notReady("ArtifactFailed", "OCIRepository/oci-kustom/app", "is not there"))
	h.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata: {name: app, namespace: oci-kustom}\n" +
		"spec: {interval: 1h, insecure: true, url: \"oci://" + host + "/manifests/app\", ignore: \"drafts/\"}\n")
	k := h.kustomization("oci-kustom", "app", "to be ready", readyAt("latest@"+first.String()))
	if len(k.Status.Inventory.Entries) != 1 {
		t.Errorf("the inventory is %v", k.Status.Inventory.Entries)
	}
	second := pushManifests(t, host+"/manifests/app:latest", map[string]string{"deploy/a.yaml": configMap("a", "2")})
	h.request("OCIRepository", "oci-kustom", "app", "again")
	h.waitLive("v1", "ConfigMap", "oci-kustom", "a", field("2", "data", "key"))
	h.kustomization("oci-kustom", "app", "to be at the second", readyAt(second.String()))

	// Held at the first, it goes back.
	u, err := h.live("kustomize.toolkit.fluxcd.io/v1", kustomizev1.KustomizationKind, "oci-kustom", "app")
	if err != nil {
		t.Fatal(err)
	}
	u.SetAnnotations(map[string]string{"fairway-cd.io/pinned-revision": first.String()})
	if err := h.kube.Update(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	h.waitLive("v1", "ConfigMap", "oci-kustom", "a", field("1", "data", "key"))
}
