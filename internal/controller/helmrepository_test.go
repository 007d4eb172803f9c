package controller

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	sourcev1 "github.com/fluxcd/source-controller/api/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairway-cd/fairway/internal/testkit"
)

func TestHelmRepository(t *testing.T) {
	h := newHouse(t)
	h.namespace("helm-repo")
	host := newHelmHost(t)
	host.publish("1.0.0", nil)
	secure := httptest.NewTLSServer(host)
	defer secure.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: good, namespace: helm-repo}\nstringData: {username: me, password: s3cret}\n")
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: bad, namespace: helm-repo}\nstringData: {username: me, password: wrong}\n")
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: empty, namespace: helm-repo}\nstringData: {x: \"y\"}\n")
	h.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: ca, namespace: helm-repo}\nstringData: {ca.crt: \"" + strings.ReplaceAll(ca, "\n", "\\n") + "\"}\n")
	for name, c := range map[string]struct {
		spec, reason string
		says         []string
	}{
		"good":           {"url: " + host.URL + "\n  secretRef: {name: good}", "", nil},
		"over TLS":       {"url: " + secure.URL + "\n  secretRef: {name: good}\n  certSecretRef: {name: ca}", "", nil},
		"wrong password": {"url: " + host.URL + "\n  secretRef: {name: bad}", "IndexationFailed", []string{"no permission", "401"}},
		"no such secret": {"url: " + host.URL + "\n  secretRef: {name: ghost}", "AuthenticationFailed", []string{"helm-repo/ghost", "not there"}},
		"empty secret":   {"url: " + host.URL + "\n  secretRef: {name: empty}", "AuthenticationFailed", []string{"helm-repo/empty", "username"}},
		"unknown CA":     {"url: " + secure.URL + "\n  secretRef: {name: good}", "IndexationFailed", []string{"certificate"}},
		"no index":       {"url: " + host.URL + "/nowhere\n  secretRef: {name: good}", "IndexationFailed", []string{"index.yaml", "not found"}},
		"password in it": {"url: http://me:s3cret@localhost", "URLInvalid", []string{"spec.url", "spec.secretRef"}},
		"unknown field":  {"url: " + host.URL + "\n  colour: red", "URLInvalid", []string{"spec.colour"}},
		"access rules":   {"url: " + host.URL + "\n  accessFrom: {namespaceSelectors: [{matchLabels: {a: b}}]}", "URLInvalid", []string{"spec.accessFrom"}},
		"wrong provider": {"url: " + host.URL + "\n  provider: aws", "URLInvalid", []string{"spec.provider"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			objs := h.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: r, namespace: helm-repo}\nspec:\n  interval: 1h\n  " + c.spec + "\n")
			defer h.delete(objs[0])
			testkit.Eventually(t, "the HelmRepository", func() error {
				r := &sourcev1.HelmRepository{}
				if err := h.kube.Get(t.Context(), types.NamespacedName{Namespace: "helm-repo", Name: "r"}, r); err != nil {
					return err
				}
				ready := apimeta.FindStatusCondition(r.Status.Conditions, "Ready")
				if ready == nil {
					return errors.New("no condition yet")
				}
				if strings.Contains(fmt.Sprint(r.Status), "s3cret") {
					t.Error("the password is in the status")
				}
				if c.reason == "" {
					if ready.Status != metav1.ConditionTrue || r.Status.Artifact == nil || r.Status.Artifact.Revision != r.Status.Artifact.Digest || *r.Status.Artifact.Size == 0 {
						return fmt.Errorf("%+v, %+v", r.Status.Artifact, ready)
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

func TestDockerAuth(t *testing.T) {
	const config = `{"auths":{
		"https://index.docker.io/v1/":{"username":"hub","password":"h"},
		"registry.example.com:5000":{"auth":"bWU6cGE6c3M="},
		"broken.example.com":{"auth":"%%"}}}`
	for host, want := range map[string]Auth{
		"docker.io":                 {Username: "hub", Password: "h"},
		"registry-1.docker.io":      {Username: "hub", Password: "h"},
		"registry.example.com:5000": {Username: "me", Password: "pa:ss"},
	} {
		if got, err := dockerAuth([]byte(config), host); err != nil || got.Username != want.Username || got.Password != want.Password {
			t.Errorf("%s: %+v, %v", host, got, err)
		}
	}
	for _, host := range []string{"registry.example.com", "evil-registry.example.com:5000", "broken.example.com"} {
		if got, err := dockerAuth([]byte(config), host); err == nil {
			t.Errorf("%s gets %+v", host, got)
		}
	}
	if _, err := dockerAuth([]byte("s3cret"), "x"); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("what is no JSON: %v", err)
	}
}
