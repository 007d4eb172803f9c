package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// sealer is the real kubeseal, which knows a kubeconfig and nothing else.
type sealer struct {
	path, kubeconfig string
}

func newSealer(t *testing.T, kubeconfig string) *sealer {
	return &sealer{testkit.Oracle(t, "kubeseal"), kubeconfig}
}

func (s *sealer) run(t *testing.T, in string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), s.path, args...)
	cmd.Env = []string{"KUBECONFIG=" + s.kubeconfig, "HOME=" + t.TempDir()}
	cmd.Stdin = strings.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubeseal %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

func (s *sealer) must(t *testing.T, in string, args ...string) string {
	t.Helper()
	out, err := s.run(t, in, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kubeconfigOf is a kubeconfig of the shared cluster for who has the token; ""
// is nobody.
func kubeconfigOf(t *testing.T, token string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(shared.status(t).Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for name := range config.AuthInfos {
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The real kubeseal finds us as it finds sealed-secrets' own controller, for
// whoever the cluster knows; what it seals goes through Git into the cluster.
func TestKubesealFindsUsByItself(t *testing.T) {
	shared.kubectl(t, "create", "namespace", "sealing")
	shared.kubectl(t, "create", "serviceaccount", "dev", "-n", "sealing")
	token := shared.kubectl(t, "create", "token", "dev", "-n", "sealing")
	secret := func(name, value string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: sealing}\nstringData: {password: %s}\n", name, value)
	}
	operator := newSealer(t, shared.status(t).Kubeconfig)
	dev := newSealer(t, kubeconfigOf(t, token))
	certificate := strings.TrimSpace(shared.must(t, "secrets", "cert"))
	for who, s := range map[string]*sealer{"the operator": operator, "somebody without a role": dev} {
		if got := strings.TrimSpace(s.must(t, "", "--fetch-cert")); got != certificate {
			t.Errorf("%s gets another certificate: %s", who, got)
		}
		sealed := s.must(t, secret("db", secretCanary), "--format", "yaml")
		s.must(t, sealed, "--validate")
		again := s.must(t, sealed, "--re-encrypt", "--format", "yaml")
		if strings.Contains(again, secretCanary) || encryptedPassword(t, again) == encryptedPassword(t, sealed) {
			t.Errorf("%s: it is not encrypted again: %s", who, again)
		}
		s.must(t, again, "--validate")
		moved := strings.ReplaceAll(sealed, "name: db", "name: other")
		if _, err := s.run(t, moved, "--validate"); err == nil || !strings.Contains(err.Error(), "unable to decrypt sealed secret: other") {
			t.Errorf("%s: one that does not open is valid: %v", who, err)
		}
	}
	if _, err := newSealer(t, kubeconfigOf(t, "")).run(t, "", "--fetch-cert"); err == nil {
		t.Error("the API server lets nobody in particular through")
	}

	dir := shared.repository(t, "sealing", map[string]string{"deploy/db.yaml": operator.must(t, secret("db", secretCanary), "--format", "yaml")})
	shared.apply(t, fmt.Sprintf(`apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: sealing, namespace: argocd}
spec:
  project: default
  source: {repoURL: %s/sealing.git, targetRevision: main, path: deploy}
  destination: {server: https://kubernetes.default.svc, namespace: sealing}
  syncPolicy: {automated: {}}
`, publicGitURL(t)))
	password := func(want string) {
		t.Helper()
		shared.want(t, base64.StdEncoding.EncodeToString([]byte(want)), "get", "secret", "db", "-n", "sealing", "-o", "jsonpath={.data.password}")
	}
	password(secretCanary)
	shared.want(t, "Synced Healthy", "get", "application", "sealing", "-n", "argocd", "-o", "jsonpath={.status.sync.status} {.status.health.status}")
	shared.push(t, dir, map[string]string{"deploy/db.yaml": dev.must(t, secret("db", secretCanary+"2"))})
	password(secretCanary + "2")
}

// encryptedPassword is the line with the value.
func encryptedPassword(t *testing.T, sealed string) string {
	t.Helper()
	for line := range strings.Lines(sealed) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && name == "password" {
			return value
		}
	}
	t.Fatalf("there is no password in %s", sealed)
	return ""
}

// Who installs sealed-secrets' own controller has its Service; when that goes,
// ours is back.
func TestTheSealingServiceMayBeAnothers(t *testing.T) {
	const service = "service/sealed-secrets-controller"
	const selector = "jsonpath={.spec.selector}"
	shared.want(t, "", "get", service, "-n", "kube-system", "-o", selector)
	// As `kubectl apply` of its manifests does it.
	shared.apply(t, `apiVersion: v1
kind: Service
metadata: {name: sealed-secrets-controller, namespace: kube-system}
spec:
  type: ClusterIP
  selector: {name: sealed-secrets-controller}
  ports: [{name: http, port: 8080, targetPort: 8080}]
`)
	shared.want(t, `{"name":"sealed-secrets-controller"}`, "get", service, "-n", "kube-system", "-o", selector)
	s := newSealer(t, shared.status(t).Kubeconfig)
	eventually(t, func() string {
		if _, err := s.run(t, "", "--fetch-cert"); err == nil || !strings.Contains(err.Error(), "no endpoints available") {
			return fmt.Sprintf("what is another's is answered by us: %v", err)
		}
		return ""
	})
	shared.kubectl(t, "delete", service, "-n", "kube-system")
	shared.want(t, "None", "get", service, "-n", "kube-system", "-o", "jsonpath={.spec.clusterIP}")
	shared.want(t, "", "get", service, "-n", "kube-system", "-o", selector)
	eventually(t, func() string {
		if got, err := s.run(t, "", "--fetch-cert"); err != nil || !strings.Contains(got, "BEGIN CERTIFICATE") {
			return fmt.Sprintf("ours does not answer: %v %s", err, got)
		}
		return ""
	})
}
