package sealed

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bitnami-labs/sealed-secrets/pkg/apis/sealedsecrets/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

// canary is the value that no answer and no error may hold.
const canary = "canary-1f0c"

const testBits = 2048

func newKey(t testing.TB) *corev1.Secret {
	t.Helper()
	s, err := NewKey(t.Context(), "kube-system", testBits)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func readKeys(t testing.TB, secrets ...*corev1.Secret) *Keys {
	t.Helper()
	var list []corev1.Secret
	for _, s := range secrets {
		list = append(list, *s)
	}
	k, err := ReadKeys(list)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sealedBy seals a Secret as kubeseal does, with its library.
func sealedBy(t testing.TB, k *Keys, values map[string][]byte) *v1alpha1.SealedSecret {
	t.Helper()
	s, err := v1alpha1.NewSealedSecret(scheme.Codecs, k.list[0].public, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}, Data: values,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: Kind}
	return s
}

func inProcess(ctx context.Context, _ string, input []byte) ([]byte, error) {
	return RunProgram(ctx, input)
}

func TestUnsealsAsTheLibraryDoes(t *testing.T) {
	keys := readKeys(t, newKey(t), newKey(t))
	s := sealedBy(t, keys, map[string][]byte{"password": []byte(canary), "raw": {0, 255}})
	s.UID = "1"
	immutable := true
	s.Spec.Template.Type, s.Spec.Template.Immutable = "example.com/a", &immutable
	s.Spec.Template.Labels = map[string]string{"a": "b"}
	s.Spec.Template.Data = map[string]string{"conf": "p={{ .password | upper | quote }}{{ range $i, $e := until 3 }}{{ $i }}{{ end }}"}
	have, err := Unseal(t.Context(), s, keys, FillBy(inProcess))
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.Unseal(scheme.Codecs, keys.private)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(have)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Fatalf("have %s\nwant %s", a, b)
	}
	s.Spec.Template.Annotations = map[string]string{v1alpha1.SealedSecretSkipSetOwnerReferencesAnnotation: "true"}
	if have, err = Unseal(t.Context(), s, keys, FillBy(inProcess)); err != nil || len(have.OwnerReferences) != 0 {
		t.Fatalf("%v %v", have.OwnerReferences, err)
	}
}

func TestWhatDoesNotUnseal(t *testing.T) {
	keys := readKeys(t, newKey(t))
	for name, c := range map[string]struct {
		change func(*v1alpha1.SealedSecret)
		says   string
	}{
		"another name":    {func(s *v1alpha1.SealedSecret) { s.Name = "x" }, "spec.encryptedData.password: no key opens it"},
		"no base64":       {func(s *v1alpha1.SealedSecret) { s.Spec.EncryptedData["password"] = canary + "!" }, "it is not base64"},
		"short":           {func(s *v1alpha1.SealedSecret) { s.Spec.EncryptedData["password"] = "AA==" }, "no key opens it"},
		"the old form":    {func(s *v1alpha1.SealedSecret) { s.Spec.Data = []byte(canary) }, "spec.data"},
		"too many":        {func(s *v1alpha1.SealedSecret) { many(s, maxValues+1) }, "the limit is 1000"},
		"many problems":   {func(s *v1alpha1.SealedSecret) { many(s, 100) }, "and 90 more"},
		"no template":     {func(s *v1alpha1.SealedSecret) { s.Spec.Template.Data = map[string]string{"x": "{{ " + canary} }, "spec.template.data.x is no template"},
		"a failing one":   {func(s *v1alpha1.SealedSecret) { s.Spec.Template.Data = map[string]string{"x": "{{ fail .password }}"} }, "spec.template.data.x cannot be filled in"},
		"the environment": {func(s *v1alpha1.SealedSecret) { s.Spec.Template.Data = map[string]string{"x": `{{ env "HOME" }}`} }, "is no template"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sealedBy(t, keys, map[string][]byte{"password": []byte(canary)})
			c.change(s)
			_, err := Unseal(t.Context(), s, keys, FillBy(inProcess))
			var wrong *Error
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), canary) {
				t.Fatalf("%v, want %q", err, c.says)
			}
		})
	}
	if _, err := Unseal(t.Context(), sealedBy(t, keys, map[string][]byte{"a": nil}), &Keys{}, nil); err == nil {
		t.Fatal("it opens without a key")
	}
}

func many(s *v1alpha1.SealedSecret, n int) {
	s.Spec.EncryptedData = map[string]string{}
	for i := range n {
		s.Spec.EncryptedData[strings.Repeat("k", i+1)] = "!"
	}
}

func TestReadKeys(t *testing.T) {
	good, other := newKey(t), newKey(t)
	for name, c := range map[string]struct {
		key, cert []byte
		says      string
	}{
		"no key":        {[]byte(canary), good.Data[corev1.TLSCertKey], "tls.key is no private key"},
		"no cert":       {good.Data[corev1.TLSPrivateKeyKey], []byte(canary), "tls.crt is no certificate"},
		"another cert":  {good.Data[corev1.TLSPrivateKeyKey], other.Data[corev1.TLSCertKey], "tls.crt is not of tls.key"},
		"nothing there": {nil, nil, "tls.key is no private key"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good.DeepCopy()
			bad.Name = "bad"
			bad.Data = map[string][]byte{corev1.TLSPrivateKeyKey: c.key, corev1.TLSCertKey: c.cert}
			k, err := ReadKeys([]corev1.Secret{*bad, *good})
			if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), canary) {
				t.Fatalf("%v, want %q", err, c.says)
			}
			if len(k.list) != 1 {
				t.Fatalf("the good one is not read: %d", len(k.list))
			}
		})
	}
}

// TestReseal: what an old key has sealed is sealed with the newest, and opens
// with it alone.
func TestReseal(t *testing.T) {
	older, newer := newKey(t), newKey(t)
	s := sealedBy(t, readKeys(t, older), map[string][]byte{"password": []byte(canary)})
	s.Spec.Template.Data = map[string]string{"conf": "p={{ .password }}"}
	both := readKeys(t, older, newer)
	both.list[0].public = &readKeys(t, newer).private[fingerprintOf(t, readKeys(t, newer))].PublicKey // made within the same second
	out, err := Reseal(s, both)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unseal(t.Context(), out, readKeys(t, newer), FillBy(inProcess))
	if err != nil || string(got.Data["conf"]) != "p="+canary || out.Spec.Template.Data["conf"] != "p={{ .password }}" {
		t.Fatalf("%v %v", got, err)
	}
}

func fingerprintOf(t *testing.T, k *Keys) string {
	t.Helper()
	for name := range k.private {
		return name
	}
	t.Fatal("no key")
	return ""
}

func TestRoutes(t *testing.T) {
	keys := readKeys(t, newKey(t))
	broken := errors.New(canary)
	var err error
	mux := http.NewServeMux()
	for pattern, h := range Routes(func(context.Context) (*Keys, error) { return keys, err }) {
		mux.Handle(pattern, h)
	}
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w
	}
	if w := ask("GET", "/v1/cert.pem", ""); w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("cert: %d %s", w.Code, w.Body)
	}
	good, _ := json.Marshal(sealedBy(t, keys, map[string][]byte{"password": []byte(canary)}))
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{"/v1/verify", string(good), http.StatusOK},
		{"/v1/rotate", string(good), http.StatusOK},
		{"/v1/verify", strings.Replace(string(good), `"name":"db"`, `"name":"x"`, 1), http.StatusConflict},
		{"/v1/rotate", strings.Replace(string(good), `"name":"db"`, `"name":"x"`, 1), http.StatusConflict},
		{"/v1/verify", "{}", http.StatusBadRequest},
		{"/v1/verify", `{"kind":"SealedSecret","spec":{"encryptedData":{"a":"` + strings.Repeat("a", maxBody) + `"}}}`, http.StatusRequestEntityTooLarge},
	} {
		if w := ask("POST", c.path, c.body); w.Code != c.want || strings.Contains(w.Body.String(), canary) {
			t.Errorf("%s: %d %s, want %d", c.path, w.Code, w.Body, c.want)
		}
	}
	err = broken
	if w := ask("GET", "/v1/cert.pem", ""); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), canary) {
		t.Errorf("without keys: %d %s", w.Code, w.Body)
	}
}

// FuzzUnseal: what is not sealed to our key does not open, and nothing panics.
func FuzzUnseal(f *testing.F) {
	keys := readKeys(f, newKey(f))
	sealed, err := base64.StdEncoding.DecodeString(sealedBy(f, keys, map[string][]byte{"a": []byte(canary)}).Spec.EncryptedData["a"])
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, "")
	f.Add([]byte{1, 0, 5}, "{{ .a }}")
	f.Add(sealed[:len(sealed)-1], "{{ range }}")
	f.Fuzz(func(t *testing.T, value []byte, template string) {
		s := sealedBy(t, keys, nil)
		s.Spec.EncryptedData = map[string]string{"a": base64.StdEncoding.EncodeToString(value)}
		if _, err := Unseal(t.Context(), s, keys, FillBy(inProcess)); err == nil {
			t.Fatalf("%x opened", value)
		}
	})
}
