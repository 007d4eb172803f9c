package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	argo "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/fleet"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// otherCluster is a second cluster, and the house that knows it.
func otherCluster(t *testing.T) *testkit.Cluster {
	t.Helper()
	return testkit.StartCluster(t, testkit.ClusterOptions{KwokNodes: -1})
}

// secretOf is the Secret of a cluster, with the credential of cfg.
func secretOf(t *testing.T, name string, cfg *rest.Config) *corev1.Secret {
	t.Helper()
	tls := map[string]any{"caData": cfg.CAData}
	if cfg.BearerToken == "" {
		tls["certData"], tls["keyData"] = cfg.CertData, cfg.KeyData
	}
	config, err := json.Marshal(map[string]any{"bearerToken": cfg.BearerToken, "tlsClientConfig": tls})
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "argocd", Name: "cluster-" + name, Labels: map[string]string{labelSecretType: secretCluster}},
		Data:       map[string][]byte{"name": []byte(name), "server": []byte(cfg.Host), "config": config},
	}
}

// know makes, or replaces, the Secret of a cluster.
func (h *house) know(s *corev1.Secret) {
	h.t.Helper()
	err := h.kube.Create(h.t.Context(), s.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		err = h.kube.Update(h.t.Context(), s.DeepCopy())
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// inside is the value of a ConfigMap in another cluster.
func inside(t *testing.T, c *testkit.Cluster, namespace, name, want string) {
	t.Helper()
	testkit.Eventually(t, "ConfigMap "+name+" of the other cluster", func() error {
		m, err := c.Client.CoreV1().ConfigMaps(namespace).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if m.Data["key"] != want {
			return fmt.Errorf("key is %q, want %q", m.Data["key"], want)
		}
		return nil
	})
}

func conditionSays(a *argo.Application, kind string, words ...string) bool {
	for _, c := range a.Status.Conditions {
		if c.Type != kind {
			continue
		}
		all := true
		for _, w := range words {
			all = all && strings.Contains(c.Message, w)
		}
		if all {
			return true
		}
	}
	return false
}

func TestApplicationInAnotherCluster(t *testing.T) {
	h := newHouse(t)
	eu := otherCluster(t)
	r := h.repo("far", map[string]string{"app/cm.yaml": configMap("settings", "one")})
	to := func(name, dest string) string {
		return strings.Replace(h.application(name, "far", "app", "far", automated), "server: https://kubernetes.default.svc", dest, 1)
	}
	h.apply(to("far-eu", "name: eu"))
	h.waitApp("far-eu", "knows no such cluster", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionInvalidSpecError, "spec.destination.name", `no cluster "eu" is known`) && a.Status.Sync.Status == argo.SyncUnknown
	})

	// The Secret alone brings it out.
	h.know(secretOf(t, "eu", eu.Config))
	inside(t, eu, "far", "settings", "one")
	h.waitApp("far-eu", "is in sync", healthy)
	if _, err := h.live("v1", "ConfigMap", "far", "settings"); !apierrors.IsNotFound(err) {
		t.Fatalf("it is in the home cluster too: %v", err)
	}
	h.apply(to("near", "server: https://kubernetes.default.svc"))
	h.waitApp("near", "is in sync", healthy)

	// Drift is healed over there.
	m, err := eu.Client.CoreV1().ConfigMaps("far").Get(t.Context(), "settings", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.Data["key"] = "by hand"
	if _, err := eu.Client.CoreV1().ConfigMaps("far").Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	inside(t, eu, "far", "settings", "one")

	// It goes away: that is said, and the other one is delivered to.
	if err := eu.Kill(); err != nil {
		t.Fatal(err)
	}
	h.push(r, map[string]string{"app/cm.yaml": configMap("settings", "two")})
	h.waitLive("v1", "ConfigMap", "far", "settings", field("two", "data", "key"))
	h.waitApp("far-eu", "is away", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionComparisonError, `cluster "eu"`, "is away since") && a.Status.Sync.Status == argo.SyncUnknown && a.Status.Health.Status == "Unknown"
	})
	known, err := h.engine.clusters.known(t.Context())
	if err != nil || len(known) != 1 || h.engine.stages.Fleet.Connection(known[0].cluster).Phase != fleet.Away {
		t.Errorf("the cluster is not known to be away: %v", err)
	}

	// It is back: what was committed meanwhile is brought out at once.
	if err := eu.Restart(); err != nil {
		t.Fatal(err)
	}
	inside(t, eu, "far", "settings", "two")
	h.waitApp("far-eu", "is back", func(a *argo.Application) bool { return healthy(a) && len(a.Status.Conditions) == 0 })

	// Deleted, its objects go there.
	h.apply(strings.Replace(to("far-eu", "name: eu"), "metadata:\n", "metadata:\n  finalizers: [resources-finalizer.argocd.argoproj.io]\n", 1))
	h.delete(appObject("far-eu"))
	if _, err := eu.Client.CoreV1().ConfigMaps("far").Get(t.Context(), "settings", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its ConfigMap is still there: %v", err)
	}
	h.delete(appObject("near"))
	h.delete(secretOf(t, "eu", eu.Config))
	testkit.Eventually(t, "the end of the connection", func() error {
		if h.engine.stages.Fleet.Size() != 0 {
			return errors.New("a connection is kept that nobody needs")
		}
		return nil
	})
}
