package fleet_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/fleet"
)

const token = "a-token-that-nobody-may-see"

func secret(server, config string) map[string][]byte {
	return map[string][]byte{"name": []byte("prod"), "server": []byte(server), "config": []byte(config)}
}

func TestSecretOfArgoCD(t *testing.T) {
	c, err := fleet.FromSecret(map[string][]byte{
		"name": []byte("prod-eu"), "server": []byte("https://eu.example.com/"), "namespaces": []byte("shop, pay,shop"),
		"config": []byte(`{"bearerToken":"` + token + `","tlsClientConfig":{"insecure":true,"serverName":"kubernetes"}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "prod-eu" || c.Server != "https://eu.example.com" || fmt.Sprint(c.Namespaces) != "[pay shop]" || c.ClusterScoped {
		t.Errorf("read as %+v", c)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(form, c); strings.Contains(text, token) {
			t.Errorf("%s shows the token: %s", form, text)
		}
	}
	if text, err := json.Marshal(c); err != nil || strings.Contains(string(text), token) {
		t.Errorf("JSON shows the token: %s, %v", text, err)
	}
	same, err := fleet.FromSecret(map[string][]byte{
		"name": []byte("another name"), "server": []byte("https://eu.example.com"), "namespaces": []byte("pay,shop"),
		"config": []byte(`{"tlsClientConfig":{"serverName":"kubernetes","insecure":true},"bearerToken":"` + token + `"}`),
	})
	if err != nil || same.Digest() != c.Digest() {
		t.Errorf("the same address and credential have another digest: %v", err)
	}
	other, err := fleet.FromSecret(secret("https://eu.example.com", `{"bearerToken":"another"}`))
	if err != nil || other.Digest() == c.Digest() {
		t.Errorf("another credential has the same digest: %v", err)
	}
}

func TestSecretIsRefusedByName(t *testing.T) {
	for _, c := range []struct{ server, config, field string }{
		{"https://x", `{"awsAuthConfig":{"clusterName":"` + token + `"}}`, "config.awsAuthConfig"},
		{"https://x", `{"execProviderConfig":{"command":"` + token + `"}}`, "config.execProviderConfig"},
		{"https://x", `{"bearerTokn":"` + token + `"}`, `"bearerTokn"`},
		{"https://x", `{"bearerToken":{"a":"` + token + `"}}`, "bearerToken"},
		{"https://x", `{"bearerToken":"` + token, "config"},
		{"https://x", `{"tlsClientConfig":{"insecure":true,"caData":"YQ=="}}`, "tlsClientConfig"},
		{"https://x", `{"tlsClientConfig":{"certData":"YQ=="}}`, "tlsClientConfig"},
		{"https://x", `{"tlsClientConfig":{"certData":"YQ==","keyData":"YQ=="}}`, "config"},
		{"https://x", `{"bearerToken":"` + token + `","username":"u"}`, "config"},
		{"https://x", `{"proxyUrl":"nowhere"}`, "config.proxyUrl"},
		{"http://x", `{"bearerToken":"` + token + `"}`, "server"},
		{"https://user:" + token + "@x", `{}`, "server"},
		{"https://x/?a=" + token, `{}`, "server"},
		{"", `{}`, "server"},
		{"file:///etc", `{}`, "server"},
	} {
		_, err := fleet.FromSecret(secret(c.server, c.config))
		var wrong *fleet.FieldError
		if !errors.As(err, &wrong) {
			t.Errorf("%s %s: %v", c.server, c.config, err)
			continue
		}
		if !strings.Contains(err.Error(), c.field) || strings.Contains(err.Error(), token) {
			t.Errorf("%s %s: %v", c.server, c.config, err)
		}
	}
}

const kubeconfig = `apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "https://eu.example.com"%s}}]
users: [{name: u, user: {%s}}]
`

func TestKubeconfig(t *testing.T) {
	c, err := fleet.FromKubeconfig("shop/eu", fmt.Appendf(nil, kubeconfig, "", "token: "+token))
	if err != nil || c.Server != "https://eu.example.com" || c.Name != "shop/eu" {
		t.Fatalf("%v, %v", c, err)
	}
	for field, text := range map[string]string{
		"users.exec":                     fmt.Sprintf(kubeconfig, "", "exec: {apiVersion: client.authentication.k8s.io/v1, command: "+token+", interactiveMode: Never}"),
		"users.auth-provider":            fmt.Sprintf(kubeconfig, "", "auth-provider: {name: gcp}"),
		"users.tokenFile":                fmt.Sprintf(kubeconfig, "", "tokenFile: /var/run/token"),
		"users.client-certificate":       fmt.Sprintf(kubeconfig, "", "client-certificate: /etc/crt"),
		"users.client-key":               fmt.Sprintf(kubeconfig, "", "client-key: /etc/key"),
		"clusters.certificate-authority": fmt.Sprintf(kubeconfig, ", certificate-authority: /etc/ca", "token: t"),
		"current-context":                "apiVersion: v1\nkind: Config\n",
		"kubeconfig":                     "token: [" + token,
	} {
		_, err := fleet.FromKubeconfig("x", []byte(text))
		var wrong *fleet.FieldError
		if !errors.As(err, &wrong) || wrong.Field != field || strings.Contains(err.Error(), token) {
			t.Errorf("want %s, got %v", field, err)
		}
	}
}

func FuzzFromSecret(f *testing.F) {
	f.Add("prod", "https://x", `{"bearerToken":"t","tlsClientConfig":{"insecure":true}}`, "a,b", "true")
	f.Add("", "", "", "", "")
	f.Fuzz(func(t *testing.T, name, server, config, namespaces, all string) {
		c, err := fleet.FromSecret(map[string][]byte{
			"name": []byte(name), "server": []byte(server), "config": []byte(config), "namespaces": []byte(namespaces), "clusterResources": []byte(all),
		})
		if err == nil && (c.Digest() == "" || c.Name == "" || c.Server == "") {
			t.Errorf("read as %+v", c)
		}
	})
}

func FuzzFromKubeconfig(f *testing.F) {
	f.Add(fmt.Sprintf(kubeconfig, "", "token: t"))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := fleet.FromKubeconfig("x", []byte(text))
		if err == nil && c.Digest() == "" {
			t.Errorf("read as %+v", c)
		}
	})
}
