package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestPodRunsOnASimulatedNode(t *testing.T) {
	pods := shared.client.CoreV1().Pods("default")
	_, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "example.com/web"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod to run", func() bool {
		pod, err := pods.Get(t.Context(), "web", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning && pod.Status.PodIP != ""
	})
	if err := pods.Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod to go", func() bool {
		_, err := pods.Get(t.Context(), "web", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}

func TestSimulatedNodesAreTaintedWhileThereIsARealOne(t *testing.T) {
	nodes := shared.client.CoreV1().Nodes()
	tainted := func(want bool) func() bool {
		return func() bool {
			list, err := nodes.List(t.Context(), metav1.ListOptions{LabelSelector: "type=kwok"})
			if err != nil || len(list.Items) != 2 {
				return false
			}
			for _, node := range list.Items {
				has := false
				for _, taint := range node.Spec.Taints {
					has = has || taint.ToString() == "kwok.x-k8s.io/node=fake:NoSchedule"
				}
				if has != want {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "two nodes without a taint", tainted(false))
	if _, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "real"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the taint", tainted(true))
	// By hand it does not go for long.
	if _, err := nodes.Patch(t.Context(), "kwok-0", types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the taint to come back", tainted(true))
	if err := nodes.Delete(t.Context(), "real", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the taint to go", tainted(false))
}

func TestSimulatedNodesFollowTheFlags(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		args    []string
		nodes   int
		tainted int
	}{
		{[]string{"--kwok-nodes=3", "--kwok-taint=always"}, 3, 3},
		{[]string{"--kwok-nodes=1", "--kwok-taint=never"}, 1, 0},
		{[]string{"--kwok-nodes=0"}, 0, 0},
	} {
		i := startTestInstance(t, dir, test.args...)
		eventually(t, "the nodes of "+test.args[0], func() bool {
			list, err := i.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
			tainted := 0
			for _, node := range list.Items {
				tainted += len(node.Spec.Taints)
			}
			return err == nil && len(list.Items) == test.nodes && tainted == test.tainted
		})
		i.kill()
	}
}

func TestServiceAccountTokensLastUpToAYear(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, test := range []struct{ asked, want time.Duration }{
		{time.Hour, time.Hour},
		{90 * 24 * time.Hour, 90 * 24 * time.Hour},
		{year, year},
		{2 * year, year},
	} {
		seconds := int64(test.asked.Seconds())
		before := time.Now()
		answer, err := shared.client.CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "default",
			&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		got := answer.Status.ExpirationTimestamp.Sub(before)
		if got < test.want-time.Minute || got > test.want+time.Minute {
			t.Errorf("asked for %s, got %s, want %s", test.asked, got, test.want)
		}
		review, err := shared.client.AuthenticationV1().TokenReviews().Create(t.Context(),
			&authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: answer.Status.Token}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if user := review.Status.User.Username; !review.Status.Authenticated || user != "system:serviceaccount:default:default" {
			t.Errorf("the token is reviewed as %q: %s", user, review.Status.Error)
		}
	}
}

func TestNobodyMayDoAnything(t *testing.T) {
	anonymous, err := kubernetes.NewForConfig(rest.AnonymousClientConfig(shared.config))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anonymous.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("an anonymous list of namespaces: %v", err)
	}
	if _, err := anonymous.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(t.Context()); err != nil {
		t.Errorf("an anonymous look at readiness: %v", err)
	}
	wrong := rest.AnonymousClientConfig(shared.config)
	wrong.BearerToken = "wrong"
	stranger, err := kubernetes.NewForConfig(wrong)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("a wrong token: %v", err)
	}
}

func TestNodesMayDoWhatNodesDo(t *testing.T) {
	config := rest.CopyConfig(shared.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:node:kwok-0", Groups: []string{"system:nodes"}}
	node, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	review, err := node.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: "default", Verb: "get", Resource: "secrets", Name: "no-pod-of-this-node-uses-it"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if review.Status.Allowed {
		t.Error("a node may read a secret that no pod of it uses: the Node authorizer is not there")
	}
	label := []byte(`{"metadata":{"labels":{"touched":"yes"}}}`)
	if _, err := node.CoreV1().Nodes().Patch(t.Context(), "kwok-0", types.MergePatchType, label, metav1.PatchOptions{}); err != nil {
		t.Errorf("a node labels itself: %v", err)
	}
	if _, err := node.CoreV1().Nodes().Patch(t.Context(), "kwok-1", types.MergePatchType, label, metav1.PatchOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a node labels another: %v", err)
	}
}

func TestServingCertificateIsGoodForEveryName(t *testing.T) {
	ca, err := os.ReadFile(shared.ready.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	server, err := url.Parse(shared.ready.Server)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.2"} {
		for _, name := range []string{"127.0.0.1", "::1", "127.0.0.2", "192.0.2.77", "10.96.0.1", "localhost",
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"} {
			conn, err := tls.Dial("tcp", net.JoinHostPort(address, server.Port()), &tls.Config{RootCAs: roots, ServerName: name})
			if err != nil {
				t.Errorf("as %s at %s: %v", name, address, err)
				continue
			}
			conn.Close()
		}
	}
}

func TestPodsAreToldWhereTheServerIs(t *testing.T) {
	// The first address that is not loopback is the Service's one endpoint.
	eventually(t, "the endpoint of the Service kubernetes", func() bool {
		slice, err := shared.client.DiscoveryV1().EndpointSlices("default").Get(t.Context(), "kubernetes", metav1.GetOptions{})
		return err == nil && len(slice.Endpoints) == 1 && slice.Endpoints[0].Addresses[0] == "192.0.2.77"
	})
}
