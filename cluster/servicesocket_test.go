package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// serveBeside listens at a socket in the shared cluster's directory and answers
// with what it was asked. The path by way of an open directory is a short one.
func serveBeside(t *testing.T, name string) *http.Server {
	t.Helper()
	dir, err := os.Open(shared.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	l, err := net.Listen("unix", filepath.Join(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), name))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the directory is closed by then
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/conflict" {
			w.WriteHeader(http.StatusConflict)
		}
		fmt.Fprintf(w, "%s %s %s %q %v", r.Method, r.Host, r.URL, body, r.Header)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
		os.Remove(filepath.Join(shared.dir, name))
	})
	return server
}

func TestAServiceIsServedFromBesideTheCluster(t *testing.T) {
	services := shared.client.CoreV1().Services("default")
	// Without a selector a headless Service is dual-stack where nothing is said,
	// and could not be given one here.
	family := corev1.IPFamilyPolicySingleStack
	_, err := services.Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "beside"},
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, IPFamilyPolicy: &family,
			Ports: []corev1.ServicePort{{Name: "http", Port: 8080}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	api := shared.client.CoreV1().RESTClient()
	const proxy = "/api/v1/namespaces/default/services/"
	get := func(path string) (string, error) {
		answer := api.Get().RequestURI(proxy+path).SetHeader("Cookie", "a=b").SetHeader("Impersonate-User", "system:admin").
			SetHeader("Impersonate-Group", "system:masters").SetHeader("X-Remote-User", "me").Do(t.Context())
		body, _ := answer.Raw()
		return string(body), answer.Error() // which reads the API's own errors
	}
	// Nobody listens there yet.
	eventually(t, "the Service to be known", func() bool {
		_, err = get("beside/proxy/a")
		return err != nil && strings.Contains(err.Error(), "served from beside the cluster")
	})
	if !apierrors.IsServiceUnavailable(err) {
		t.Errorf("nobody serves it: %v", err)
	}
	server := serveBeside(t, "beside.sock")
	for _, name := range []string{"beside", "beside:", "beside:http", "beside:8080", "http:beside:", "http:beside:http"} {
		got, err := get(name + "/proxy/v1/cert.pem?a=b")
		if err != nil || !strings.HasPrefix(got, `GET beside.default /v1/cert.pem?a=b "" `) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		for _, secret := range []string{"Authorization", "Cookie", "Impersonate", "Remote", "Forwarded"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s: a header goes on: %s", name, got)
			}
		}
	}
	got, err := api.Post().AbsPath(proxy + "http:beside:http/proxy/v1/verify").Body([]byte("sealed")).DoRaw(t.Context())
	if err != nil || !strings.HasPrefix(string(got), `POST beside.default /v1/verify "sealed" `) {
		t.Errorf("a body: %q, %v", got, err)
	}
	if _, err := get("beside/proxy/conflict"); !apierrors.IsConflict(err) {
		t.Errorf("a refusal comes back as %v", err)
	}
	// Encrypted is not what is served there, and other Services are not it.
	if got, err := get("https:beside:http/proxy/"); !apierrors.IsServiceUnavailable(err) && !apierrors.IsNotFound(err) {
		t.Errorf("with TLS: %q, %v", got, err)
	}
	if got, err := get("kubernetes/proxy/"); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("another Service: %q, %v", got, err)
	}
	askAsOthers(t, proxy+"http:beside:http/proxy/v1/cert.pem")

	// With a selector it is a Service like any other: of pods.
	if _, err := services.Patch(t.Context(), "beside", types.MergePatchType, []byte(`{"spec":{"selector":{"app":"none"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pods' turn", func() bool {
		_, err := get("beside/proxy/")
		return apierrors.IsServiceUnavailable(err) && !strings.Contains(err.Error(), "beside the cluster")
	})
	server.Close()
	if err := services.Delete(t.Context(), "beside", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// askAsOthers asks as somebody who may not, and as somebody who may just that.
func askAsOthers(t *testing.T, path string) {
	t.Helper()
	anonymous, err := kubernetes.NewForConfig(rest.AnonymousClientConfig(shared.config))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anonymous.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(t.Context()); !apierrors.IsForbidden(err) {
		t.Errorf("nobody: %v", err)
	}
	config := rest.CopyConfig(shared.config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "dev", Groups: []string{"system:authenticated"}}
	dev, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		_, err := dev.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(t.Context())
		return err
	}
	if err := ask(); !apierrors.IsForbidden(err) {
		t.Errorf("somebody without a role: %v", err)
	}
	rbac := shared.client.RbacV1()
	_, err = rbac.Roles("default").Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "beside"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"services/proxy"}, ResourceNames: []string{"http:beside:http"}, Verbs: []string{"get"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = rbac.RoleBindings("default").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "beside"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "beside"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, Name: "dev"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the role", func() bool { return ask() == nil })
	if _, err := dev.CoreV1().RESTClient().Post().AbsPath(path).DoRaw(t.Context()); !apierrors.IsForbidden(err) {
		t.Errorf("a verb that the role has not: %v", err)
	}
}
