package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// What a HelmRelease in another cluster has been is known there alone: the
// images of its revisions stay, and while that cluster is away all do.
func TestGarbageCollectionWithAnotherCluster(t *testing.T) {
	ensureNamespace(t, "gc-far")
	far := testkit.StartCluster(t, testkit.ClusterOptions{})
	if _, err := far.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "gc-far"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	first, second, never := makeImage(t, "gc-far/app:first"), makeImage(t, "gc-far/app:second"), makeImage(t, "gc-far/app:never")
	shared.repository(t, "gc-far", map[string]string{
		"web/Chart.yaml":         "apiVersion: v2\nname: web\nversion: 1.0.0\n",
		"web/templates/web.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {image: \"{{ .Values.image }}\"}\n",
	})
	shared.kubectl(t, "create", "rolebinding", "fairway-read-by-gc-far", "-n", "default", "--clusterrole=fairway-reader", "--serviceaccount=gc-far:default")
	shared.kubectl(t, "create", "secret", "generic", "far", "-n", "gc-far", "--from-file=value="+far.Kubeconfig)
	release := func(image string) {
		t.Helper()
		shared.apply(t, fmt.Sprintf(`apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: web, namespace: gc-far}
spec: {interval: 1h, url: %s/gc-far.git, ref: {branch: main}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: web, namespace: gc-far}
spec:
  interval: 1h
  kubeConfig: {secretRef: {name: far}}
  chart: {spec: {chart: ./web, sourceRef: {kind: GitRepository, name: web}}}
  values: {image: %q}
`, publicGitURL(t), image))
		eventually(t, func() string {
			live, err := far.Client.CoreV1().ConfigMaps("gc-far").Get(t.Context(), "web", metav1.GetOptions{})
			if err != nil || live.Data["image"] != image {
				return fmt.Sprintf("it has %q, want %q: %v; %s", live.Data["image"], image, err,
					shared.kubectl(t, "get", "helmrelease", "web", "-n", "gc-far", "-o", "jsonpath={.status.conditions}"))
			}
			return ""
		})
	}
	release(first.ref)
	release(second.ref)
	shared.want(t, "True", "get", "helmrelease", "web", "-n", "gc-far", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)

	shared.must(t, "image", "delete", "gc-far/app:first", "gc-far/app:second", "gc-far/app:never")
	registry := filepath.Join(shared.data, "registry", "docker")
	collect := func() string {
		t.Helper()
		age(t, registry, 48*time.Hour)
		return shared.must(t, "image", "collect", "-o", "json")
	}
	there := func(i pushedImage) bool {
		t.Helper()
		_, err := os.Stat(blobFile(i.digest))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return err == nil
	}

	if err := far.Kill(); err != nil {
		t.Fatal(err)
	}
	if gone := collect(); strings.Contains(gone, "sha256:") {
		t.Errorf("collected while nobody knows what is needed: %s", gone)
	}
	if err := far.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() string {
		if collect(); there(never) {
			return "what nobody needs is still there"
		}
		return ""
	})
	if !there(first) || !there(second) {
		t.Errorf("a revision's image is gone: first %v, second %v", there(first), there(second))
	}

	shared.kubectl(t, "delete", "helmrelease", "web", "-n", "gc-far")
	if collect(); there(first) || there(second) {
		t.Errorf("what nobody needs any more stays: first %v, second %v", there(first), there(second))
	}
}
