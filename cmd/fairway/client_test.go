package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A kubeconfig's user is one for Fairway as far as there is a token of his;
// where there is none, the error says what there is, and what to do.
func TestKubeconfigAsCredential(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("FAIRWAY_DATA", filepath.Join(home, "none"))
	got := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		fmt.Fprint(w, "[]")
	}))
	defer server.Close()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(home, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plugin := func(name, status string) string {
		says := file(name+".json", `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":`+status+"}", 0o600)
		path := file(name, "#!/bin/sh\ncat "+says+"\n", 0o700)
		return fmt.Sprintf(`{"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":%q,"interactiveMode":"Never"}}`, path)
	}
	cert, key := keyPair(t)
	for name, c := range map[string]struct{ user, sent, says string }{
		"a token":                  {`{"token":"abc"}`, "Bearer abc", ""},
		"a token in a file":        {fmt.Sprintf(`{"tokenFile":%q}`, file("token", "from-file", 0o600)), "Bearer from-file", ""},
		"a program's token":        {plugin("token.sh", `{"token":"from-program"}`), "Bearer from-program", ""},
		"a program's certificate":  {plugin("cert.sh", fmt.Sprintf(`{"clientCertificateData":%q,"clientKeyData":%q}`, cert, key)), "", "a program that gives a client certificate and no token"},
		"a certificate":            {fmt.Sprintf(`{"client-certificate-data":%q,"client-key-data":%q}`, b64(cert), b64(key)), "", "a client certificate and no token"},
		"a password":               {`{"username":"u","password":"hunter2"}`, "", "a password and no token"},
		"nothing":                  {`{}`, "", "has no token"},
		"somebody else":            {`{"token":"abc","as":"admin"}`, "", "impersonates"},
		"a program that is absent": {`{"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":"/nowhere/plugin","interactiveMode":"Never"}}`, "", "/nowhere/plugin"},
	} {
		t.Run(name, func(t *testing.T) {
			path := file("config", `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}],
"users":[{"name":"u","user":`+c.user+`}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],"current-context":"x"}`, 0o600)
			got = ""
			var out, errOut bytes.Buffer
			code := run(t.Context(), []string{"repo", "list", "--server", server.URL, "--kubeconfig", path}, strings.NewReader(""), &out, &errOut)
			if got != c.sent {
				t.Errorf("the server got %q, want %q", got, c.sent)
			}
			if (code == 0) != (c.says == "") || !strings.Contains(errOut.String(), c.says) || strings.Contains(c.says, "no token") && !strings.Contains(errOut.String(), "hint: 'fairway login") {
				t.Errorf("exit %d: %s", code, errOut.String())
			}
			if strings.Contains(errOut.String(), "hunter2") {
				t.Error("the password is in the error")
			}
		})
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// keyPair is a client certificate that nobody has signed, in PEM.
func keyPair(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}))
}
