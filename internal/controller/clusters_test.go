package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// written is the version of a ConfigMap in another cluster.
func (h *house) written(c *testkit.Cluster, namespace, name string) string {
	h.t.Helper()
	m, err := c.Client.CoreV1().ConfigMaps(namespace).Get(h.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return m.ResourceVersion
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
	dir := t.TempDir()
	h := startHouse(t, dir)
	t.Cleanup(func() { h.stop() })
	eu := otherCluster(t)
	r := h.repo("far", map[string]string{"app/cm.yaml": configMap("settings", "one")})
	if err := h.store.Rules().Add(gitRule("https://github.com/myorg/far", "far")); err != nil {
		t.Fatal(err)
	}
	to := func(name, dest string) string {
		text := strings.ReplaceAll(h.application(name, "far", "app", "far", automated), h.url, "https://github.com/myorg/")
		return strings.Replace(text, "server: https://kubernetes.default.svc", dest, 1)
	}
	h.apply(to("far-eu", "name: eu"))
	h.waitApp("far-eu", "knows no such cluster", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionInvalidSpecError, "spec.destination.name", `no cluster "eu" is known`) && a.Status.Sync.Status == argo.SyncUnknown
	})

	// What has delivered nothing can go, wherever it was for.
	h.apply(strings.Replace(to("far-typo", "name: ue"), "metadata:\n", "metadata:\n  finalizers: [resources-finalizer.argocd.argoproj.io]\n", 1))
	h.waitApp("far-typo", "knows no such cluster", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionInvalidSpecError, `no cluster "ue" is known`)
	})
	h.delete(appObject("far-typo"))

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
		return conditionSays(a, argo.ConditionClusterAwayError, `cluster "eu"`, "is away since") && a.Status.Sync.Status == argo.SyncUnknown && a.Status.Health.Status == "Unknown"
	})
	known, err := h.engine.clusters.known(t.Context())
	if err != nil || len(known) != 1 || h.engine.stages.Fleet.Connection(known[0].cluster).Phase != fleet.Away {
		t.Errorf("the cluster is not known to be away: %v", err)
	}

	// What Git has can be looked at meanwhile, and the cluster not.
	if objects, err := h.engine.Manifests(t.Context(), argoOwner("far-eu"), ""); err != nil || len(objects) != 1 {
		t.Errorf("the manifests are %v, %v", objects, err)
	}
	if live, err := h.engine.Live(t.Context(), argoOwner("far-eu")); err != nil || live.Cluster != "eu" || !strings.Contains(live.Away, "is away since") || len(live.Objects) != 1 {
		t.Errorf("what is live is %+v, %v", live, err)
	}

	// It is back: what was committed meanwhile is brought out at once.
	if err := eu.Restart(); err != nil {
		t.Fatal(err)
	}
	inside(t, eu, "far", "settings", "two")
	h.waitApp("far-eu", "is back", func(a *argo.Application) bool { return healthy(a) && len(a.Status.Conditions) == 0 })

	// After a restart nothing is written where nothing has changed.
	before := h.written(eu, "far", "settings")
	h.stop()
	h = startHouse(t, dir)
	t.Cleanup(func() { h.stop() })
	m, err = eu.Client.CoreV1().ConfigMaps("far").Get(t.Context(), "settings", metav1.GetOptions{})
	if err != nil || m.ResourceVersion != before {
		t.Errorf("the restart has written: %v", err)
	}
	m.Data["key"] = "by hand again"
	if _, err := eu.Client.CoreV1().ConfigMaps("far").Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	inside(t, eu, "far", "settings", "two")

	// Deleted, its objects go there.
	h.apply(strings.Replace(to("far-eu", "name: eu"), "metadata:\n", "metadata:\n  finalizers: [resources-finalizer.argocd.argoproj.io]\n", 1))
	h.waitApp("far-eu", "is in sync", healthy)
	if err := eu.Kill(); err != nil {
		t.Fatal(err)
	}
	h.waitApp("far-eu", "is away again", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionClusterAwayError, "is away since")
	})
	if err := h.kube.Delete(t.Context(), appObject("far-eu")); err != nil {
		t.Fatal(err)
	}
	h.waitApp("far-eu", "is held", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionDeletionError, "still there", "is away since", "--cascade=false")
	})
	if err := eu.Restart(); err != nil {
		t.Fatal(err)
	}
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

// restricted is a credential of the cluster that may do nothing.
func restricted(t *testing.T, c *testkit.Cluster, name string) *rest.Config {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if _, err := c.Client.CoreV1().ServiceAccounts("default").Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := c.Client.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := rest.AnonymousClientConfig(c.Config)
	cfg.BearerToken = token.Status.Token
	return cfg
}

// permit makes namespaces, and permits the account everything in them.
func permit(t *testing.T, c *testkit.Cluster, account string, namespaces ...string) {
	t.Helper()
	for _, ns := range namespaces {
		if _, err := c.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: account}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}}}
		if _, err := c.Client.RbacV1().Roles(ns).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: account}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: account}}}
		if _, err := c.Client.RbacV1().RoleBindings(ns).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCredentialOfAnotherCluster(t *testing.T) {
	h := newHouse(t)
	us := otherCluster(t)
	h.repo("credential", map[string]string{"app/cm.yaml": configMap("settings", "one"), "app/cm2.yaml": configMap("settings2", "two")})
	nobody := restricted(t, us, "nobody")
	h.know(secretOf(t, "us", nobody))
	h.apply(strings.Replace(h.application("credential", "credential", "app", "default", automated), "server: https://kubernetes.default.svc", "server: "+us.Config.Host, 1))
	app := h.waitApp("credential", "says that it is not permitted", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionComparisonError, `cluster "us"`, "does not permit", "system:serviceaccount:default:nobody") ||
			conditionSays(a, argo.ConditionSyncError, `cluster "us"`, "does not permit", "system:serviceaccount:default:nobody")
	})
	text, err := json.Marshal(app)
	if err != nil || strings.Contains(string(text), nobody.BearerToken) {
		t.Fatalf("the token is in the Application: %v", err)
	}

	// A token that the cluster does not know: it is away, and why is said.
	unknown := rest.CopyConfig(nobody)
	unknown.BearerToken = "not-a-token"
	h.know(secretOf(t, "us", unknown))
	h.waitApp("credential", "is not let in", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionClusterAwayError, `cluster "us"`, "does not accept the credential")
	})

	// The Secret is rotated to one that may: it is taken up.
	h.know(secretOf(t, "us", us.Config))
	inside(t, us, "default", "settings", "one")
	h.waitApp("credential", "is in sync", func(a *argo.Application) bool { return healthy(a) && len(a.Status.Conditions) == 0 })
	if n := h.engine.stages.Fleet.Size(); n != 1 {
		t.Errorf("there are %d connections, want the new one alone", n)
	}

	// A Secret that is gone while something is there holds the deletion, and
	// says how to let go.
	h.apply(strings.Replace(strings.Replace(h.application("credential", "credential", "app", "default", automated), "server: https://kubernetes.default.svc", "server: "+us.Config.Host, 1),
		"metadata:\n", "metadata:\n  finalizers: [resources-finalizer.argocd.argoproj.io]\n", 1))
	h.delete(secretOf(t, "us", us.Config))
	h.waitApp("credential", "knows its cluster no more", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionInvalidSpecError, "no cluster")
	})
	if err := h.kube.Delete(t.Context(), appObject("credential")); err != nil {
		t.Fatal(err)
	}
	h.waitApp("credential", "is held", func(a *argo.Application) bool {
		return conditionSays(a, argo.ConditionDeletionError, "still there", "no cluster", "--cascade=false")
	})
	h.know(secretOf(t, "us", us.Config))
	testkit.Eventually(t, "the end of the Application", func() error {
		_, err := h.app("credential")
		if err == nil {
			return errors.New("it is still there")
		}
		return client.IgnoreNotFound(err)
	})
	if _, err := us.Client.CoreV1().ConfigMaps("default").Get(t.Context(), "settings", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its ConfigMap is still there: %v", err)
	}
	h.delete(secretOf(t, "us", us.Config))
}

// kubeconfigOf is a kubeconfig for cfg.
func kubeconfigOf(t *testing.T, cfg *rest.Config) []byte {
	t.Helper()
	text, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: cfg.Host, CertificateAuthorityData: cfg.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData, Token: cfg.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestKustomizationInAnotherCluster(t *testing.T) {
	h := newHouse(t)
	eu := otherCluster(t)
	h.namespace("far-flux")
	r := h.repo("far-flux", map[string]string{"app/cm.yaml": configMap("settings", "one")})
	h.apply(fmt.Sprintf(`apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: far, namespace: far-flux}
spec: {url: %sfar-flux.git, interval: 1h, ref: {branch: main}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: far, namespace: far-flux}
spec:
  sourceRef: {kind: GitRepository, name: far}
  path: app
  interval: 1h
  prune: true
  targetNamespace: default
  kubeConfig: {secretRef: {name: eu}}
`, h.url))
	says := func(words ...string) {
		t.Helper()
		testkit.Eventually(t, "the Kustomization to say "+strings.Join(words, " "), func() error {
			u, err := h.live("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "far-flux", "far")
			if err != nil {
				return err
			}
			conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
			text := fmt.Sprint(conditions)
			for _, w := range words {
				if !strings.Contains(text, w) {
					return errors.New(text)
				}
			}
			return nil
		})
	}
	says("KubeConfigError", "Secret far-flux/eu is not there")
	h.apply(`apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: typo, namespace: far-flux}
spec:
  sourceRef: {kind: GitRepository, name: far}
  interval: 1h
  prune: true
  kubeConfig: {secretRef: {name: ue}}
`)
	typo := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization"}}
	typo.SetNamespace("far-flux")
	typo.SetName("typo")
	h.waitLive("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "far-flux", "typo", func(u *unstructured.Unstructured) error {
		if len(u.GetFinalizers())+len(fmt.Sprint(u.Object["status"])) < 10 {
			return errors.New("nobody has seen it")
		}
		return nil
	})
	h.delete(typo)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "far-flux", Name: "eu"}, Data: map[string][]byte{"value.yaml": []byte(`{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
		"clusters": [{"name": "k", "cluster": {"server": "https://eu.example.com"}}],
		"users": [{"name": "u", "user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "reboot", "interactiveMode": "Never"}}}]}`)}}
	h.know(secret)
	says("KubeConfigError", "users.exec")
	secret.Data = map[string][]byte{"value": kubeconfigOf(t, eu.Config)}
	h.know(secret)
	inside(t, eu, "default", "settings", "one")
	says("ReconciliationSucceeded")

	if err := eu.Kill(); err != nil {
		t.Fatal(err)
	}
	says("ClusterAway", "is away since")
	h.push(r, map[string]string{"app/cm.yaml": configMap("settings", "two")})
	if err := eu.Restart(); err != nil {
		t.Fatal(err)
	}
	inside(t, eu, "default", "settings", "two")
	says("ReconciliationSucceeded")
	k := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization"}}
	k.SetNamespace("far-flux")
	k.SetName("far")
	h.delete(k)
	if _, err := eu.Client.CoreV1().ConfigMaps("default").Get(t.Context(), "settings", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("its ConfigMap is still there: %v", err)
	}
}

func TestHelmReleaseInAnotherCluster(t *testing.T) {
	h := newHouse(t)
	eu := otherCluster(t)
	h.namespace("helm-far")
	if _, err := eu.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "helm-far"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	host := newHelmHost(t)
	host.publish("1.0.0", nil)
	h.know(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "helm-far", Name: "eu"}, Data: map[string][]byte{"value": kubeconfigOf(t, eu.Config)}})
	h.apply(helmRepositoryOf("helm-far", host.URL))
	h.apply(helmReleaseOf("helm-far", "1.x", "  kubeConfig: {secretRef: {name: eu}}\n  driftDetection: {mode: enabled}\n  values: {color: green}\n"))
	h.helmRelease("helm-far", "web", "to be installed", releasedAs(1, "1.0.0"))
	color := func(want string) {
		t.Helper()
		testkit.Eventually(t, "the release in the other cluster", func() error {
			m, err := eu.Client.CoreV1().ConfigMaps("helm-far").Get(t.Context(), "web-config", metav1.GetOptions{})
			if err == nil && m.Data["color"] != want {
				err = fmt.Errorf("the color is %s, want %s", m.Data["color"], want)
			}
			return err
		})
	}
	color("green")
	if _, err := h.live("v1", "ConfigMap", "helm-far", "web-config"); !apierrors.IsNotFound(err) {
		t.Errorf("it is in the home cluster too: %v", err)
	}
	records, err := eu.Client.CoreV1().Secrets("helm-far").List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil || len(records.Items) != 1 {
		t.Errorf("Helm's record is not there: %v, %v", records, err)
	}
	m, err := eu.Client.CoreV1().ConfigMaps("helm-far").Get(t.Context(), "web-config", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.Data["color"] = "by hand"
	if _, err := eu.Client.CoreV1().ConfigMaps("helm-far").Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	color("green")

	if err := eu.Kill(); err != nil {
		t.Fatal(err)
	}
	h.helmRelease("helm-far", "web", "to be away", helmSays("ClusterAway", "is away since"))
	host.publish("1.1.0", nil)
	h.request("HelmRepository", "helm-far", "charts", "one")
	if err := eu.Restart(); err != nil {
		t.Fatal(err)
	}
	h.helmRelease("helm-far", "web", "to be upgraded", releasedAs(2, "1.1.0"))
	h.dropHelm("helm-far", "web")
	if _, err := eu.Client.CoreV1().ConfigMaps("helm-far").Get(t.Context(), "web-config", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the release is still there: %v", err)
	}
}
