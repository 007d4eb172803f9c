package shards

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// A replica's metrics are for who has a token, so off loopback they are served
// with TLS.
func TestReplicasAreServedWithTLSOffLoopback(t *testing.T) {
	port := freePort()
	replica := startReplica(t, "listening", "--namespace", cluster.Namespace(t), "--listen", ":"+port)
	ca := filepath.Join(filepath.Dir(replica.log), "data", "tls", "ca.crt")
	client := &http.Client{Transport: &http.Transport{}}
	testkit.Eventually(t, "the replica to answer", func() error {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
		_, err = ask(t, client, "https://127.0.0.1:"+port+"/healthz", "", http.StatusOK)
		return err
	})
	defer client.CloseIdleConnections()
	if _, err := ask(t, client, "https://localhost:"+port+"/metrics", "", http.StatusUnauthorized); err != nil {
		t.Error(err)
	}
	token := scraper(t)
	got, err := ask(t, client, "https://127.0.0.1:"+port+"/metrics", token, http.StatusOK)
	if err != nil || !strings.Contains(got, "\nfairway_shards ") {
		t.Errorf("%v: %.200s", err, got)
	}
	if got, err := ask(t, client, "http://127.0.0.1:"+port+"/healthz", "", http.StatusBadRequest); err != nil || !strings.Contains(got, "HTTPS") {
		t.Errorf("without TLS: %v: %.200s", err, got)
	}
	var unknown *tls.CertificateVerificationError
	if _, err := ask(t, &http.Client{Transport: &http.Transport{}}, "https://127.0.0.1:"+port+"/healthz", "", http.StatusOK); !errors.As(err, &unknown) {
		t.Errorf("who does not know the authority: %v", err)
	}
}

// On loopback nobody listens in.
func TestReplicasAreServedPlainOnLoopback(t *testing.T) {
	port := freePort()
	startReplica(t, "local", "--namespace", cluster.Namespace(t), "--listen", "127.0.0.1:"+port)
	testkit.Eventually(t, "the replica to answer", func() error {
		_, err := ask(t, http.DefaultClient, "http://127.0.0.1:"+port+"/healthz", "", http.StatusOK)
		return err
	})
	got, err := ask(t, http.DefaultClient, "http://127.0.0.1:"+port+"/metrics", scraper(t), http.StatusOK)
	if err != nil || !strings.Contains(got, "\nfairway_shards ") {
		t.Errorf("%v: %.200s", err, got)
	}
}

// ask returns what is answered, and an error where that is not with status.
func ask(t *testing.T, client *http.Client, url, token string, status int) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != status {
		err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
	}
	return string(body), err
}

// scraper is the token of somebody who may read metrics.
func scraper(t *testing.T) string {
	t.Helper()
	namespace := cluster.Namespace(t)
	_, err := cluster.Client.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "scraper-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "default"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := cluster.Client.CoreV1().ServiceAccounts(namespace).CreateToken(t.Context(), "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

func freePort() string { return fmt.Sprint(testkit.FreePort()) }
