package render_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairway-cd/fairway/internal/core/memtree"
	"github.com/fairway-cd/fairway/internal/render"
	"github.com/fairway-cd/fairway/internal/secrets/sops"
	"github.com/fairway-cd/fairway/internal/testkit"
)

// opener decrypts with keys of sops, as the controller has it do.
type opener struct{ *sops.Keys }

func (o opener) Decrypt(data []byte, name string) ([]byte, error) {
	format := sops.FormatOf(name)
	if !sops.Encrypted(data, format) {
		return data, nil
	}
	return sops.Decrypt(data, format, o.Keys)
}

func (o opener) Identity() string {
	digest := o.Digest()
	return hex.EncodeToString(digest[:])
}

// canaryValue is the plain text that must not be on disk or in an error.
const canaryValue = "canary-7d1f"

// encryptedTree is a kustomization whose generators read encrypted files, and
// the key to it.
func encryptedTree(t *testing.T) (map[string]string, opener) {
	t.Helper()
	s := testkit.NewSops(t)
	key, recipient := s.AgeKey(t)
	keys, err := sops.ParseKeys(map[string][]byte{"x.agekey": []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	enc := func(format, text string) string { return s.Encrypt(t, format, text, "--age", recipient) }
	return map[string]string{
		"app/kustomization.yaml": `resources: [cm.yaml, base]
secretGenerator:
- name: files
  files: [config.yaml, creds.json, plain.txt, token=token.encrypted, settings.ini]
- name: env
  envs: [db.env, other.encrypted]
configMapGenerator:
- name: public
  files: [public.yaml]
patches:
- path: patch.yaml
`,
		"app/cm.yaml":                 "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: b}\n",
		"app/config.yaml":             enc("yaml", "password: "+canaryValue+"\n"),
		"app/creds.json":              enc("json", `{"password":"`+canaryValue+`"}`),
		"app/plain.txt":               "in clear",
		"app/token.encrypted":         enc("binary", canaryValue+"\x00"),
		"app/settings.ini":            enc("ini", "[db]\npassword = "+canaryValue+"\n"),
		"app/db.env":                  enc("dotenv", "PASSWORD="+canaryValue+"\n"),
		"app/other.encrypted":         enc("dotenv", "OTHER="+canaryValue+"\n"),
		"app/public.yaml":             enc("yaml", "password: "+canaryValue+"\n"),
		"app/patch.yaml":              enc("yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {patched: "+canaryValue+"}\n"),
		"app/base/kustomization.yaml": "secretGenerator:\n- name: base\n  files: [../config.yaml]\n",
	}, opener{keys}
}

// renderers are the two ways to render.
func renderers(t *testing.T) map[string]render.Renderer {
	t.Helper()
	return map[string]render.Renderer{"in process": render.NewEngine(render.Limits{}), "in a worker": newPool(t, render.PoolOptions{Workers: 1})}
}

func TestDecryptsWhatGeneratorsRead(t *testing.T) {
	files, keys := encryptedTree(t)
	for name, r := range renderers(t) {
		t.Run(name, func(t *testing.T) {
			res, err := r.Render(t.Context(), render.Request{Tree: memtree.New(files), Path: "app", Decrypt: keys})
			if err != nil {
				t.Fatal(err)
			}
			if !res.Decrypted {
				t.Error("the result does not say that it was decrypted")
			}
			values := map[string]string{}
			for _, o := range res.Objects {
				data, _ := o.Object["data"].(map[string]any)
				for key, v := range data {
					text := v.(string)
					if o.GetKind() == "Secret" {
						plain, err := base64.StdEncoding.DecodeString(text)
						if err != nil {
							t.Fatal(err)
						}
						text = string(plain)
					}
					name, _, _ := strings.Cut(o.GetName(), "-")
					values[name+"/"+key] = text
				}
			}
			for key, want := range map[string]string{
				"files/config.yaml":  "password: " + canaryValue + "\n",
				"files/creds.json":   "{\n\t\"password\": \"" + canaryValue + "\"\n}\n",
				"files/plain.txt":    "in clear",
				"files/token":        canaryValue + "\x00",
				"files/settings.ini": "[db]\npassword = " + canaryValue + "\n",
				"env/PASSWORD":       canaryValue,
				"env/OTHER":          canaryValue,
				"base/config.yaml":   "password: " + canaryValue + "\n",
				"cm/patched":         canaryValue,
			} {
				if values[key] != want {
					t.Errorf("%s is %q, want %q", key, values[key], want)
				}
			}
			if !strings.Contains(values["public/public.yaml"], "ENC[") {
				t.Errorf("the ConfigMap's file was decrypted: %s", values["public/public.yaml"])
			}
			if len(res.ClearSecrets) != 1 || !strings.HasPrefix(res.ClearSecrets[0].Name, "files-") {
				t.Errorf("in clear: %v, want only that of plain.txt", res.ClearSecrets)
			}
		})
	}
}

func TestFilesThatDoNotDecrypt(t *testing.T) {
	files, keys := encryptedTree(t)
	_, others := encryptedTree(t)
	tampered := strings.Replace(files["app/config.yaml"], "password:", "passw0rd:", 1)
	// What opens, but is no patch, is quoted by kustomize.
	s := testkit.NewSops(t)
	key, recipient := s.AgeKey(t)
	theirs, err := sops.ParseKeys(map[string][]byte{"x.agekey": []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	broken := func(patch string) map[string]string {
		return map[string]string{
			"app/kustomization.yaml": "resources: [cm.yaml]\npatches: [{path: patch.env}]\n",
			"app/cm.yaml":            files["app/cm.yaml"], "app/patch.env": s.Encrypt(t, "dotenv", patch, "--age", recipient),
		}
	}
	for name, c := range map[string]struct {
		files  map[string]string
		keys   render.Decrypter
		reason render.Reason
		path   string
	}{
		"another key": {files, others, render.DecryptFailed, "app/base"},
		"tampered":    {with(files, "app/config.yaml", tampered), keys, render.DecryptFailed, "app/config.yaml"},
		"huge":        {with(files, "app/config.yaml", "mac: ENC["+strings.Repeat("x", sops.MaxBytes)), keys, render.DecryptFailed, "app/config.yaml"},
		"no patch":    {broken("A=" + canaryValue + "\n"), opener{theirs}, render.BuildFailed, ""},
		"no YAML":     {broken("A=[" + canaryValue + ": }\n"), opener{theirs}, render.BuildFailed, ""},
		"missing":     {with(files, "app/config.yaml", ""), keys, render.PathNotFound, ""},
	} {
		if c.files["app/config.yaml"] == "" {
			delete(c.files, "app/config.yaml")
		}
		for how, r := range renderers(t) {
			t.Run(name+" "+how, func(t *testing.T) {
				_, err := r.Render(t.Context(), render.Request{Tree: memtree.New(c.files), Path: "app", Decrypt: c.keys})
				var e *render.Error
				if !errors.As(err, &e) || e.Reason != c.reason || !strings.HasPrefix(e.Path, c.path) && !strings.HasPrefix(e.Path, "app/") {
					t.Fatalf("%v (%+v), want %s", err, e, c.reason)
				}
				if strings.Contains(err.Error()+e.Hint(), canaryValue) {
					t.Fatalf("the error holds the value: %v", err)
				}
			})
		}
	}
}

func with(files map[string]string, name, text string) map[string]string {
	out := map[string]string{name: text}
	for k, v := range files {
		if k != name {
			out[k] = v
		}
	}
	return out
}

// TestDecryptedStaysOffTheDisk: a decrypted result is remembered, but the disk
// does not know it, and another key does not find it.
func TestDecryptedStaysOffTheDisk(t *testing.T) {
	files, keys := encryptedTree(t)
	_, others := encryptedTree(t)
	dir := t.TempDir()
	c, err := render.NewCached(render.NewEngine(render.Limits{}), dir, render.CacheLimits{MaxDecryptedBytes: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	req := render.Request{Tree: memtree.New(files), Path: "app", Source: "s", Decrypt: keys}
	for i, cached := range []bool{false, true} {
		res, err := c.Render(t.Context(), req)
		if err != nil || res.Cached != cached || !res.Decrypted || len(res.ClearSecrets) != 1 {
			t.Fatalf("%d: cached %t, %v", i, res != nil && res.Cached, err)
		}
	}
	req.Decrypt = others
	if _, err := c.Render(t.Context(), req); err == nil {
		t.Fatal("who does not have the key has the result")
	}
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasPrefix(p, filepath.Join(dir, "object")) {
			t.Errorf("objects are on the disk: %s", p)
		}
		content, err := os.ReadFile(p)
		if strings.Contains(string(content), canaryValue) {
			t.Errorf("%s holds the value", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// The oldest goes where there is no more room.
	forgotten := func() bool {
		res, err := c.Render(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return !res.Cached
	}
	req.Decrypt = keys
	for i := range 100 {
		req.Kustomize.NamePrefix = fmt.Sprintf("p%d-", i)
		if !forgotten() {
			t.Fatal("another request had the same result")
		}
	}
	if forgotten() {
		t.Error("the newest is forgotten")
	}
	req.Kustomize.NamePrefix = ""
	if !forgotten() {
		t.Error("the oldest of 100 results is still there, in 16 KiB")
	}
}

func TestClearSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		manifest string
		clear    bool
	}{
		"data":            {"kind: Secret\ndata: {a: aGk=}", true},
		"stringData":      {"kind: Secret\nstringData: {a: hi}", true},
		"no base64":       {"kind: Secret\ndata: {a: '%'}", true},
		"not a mapping":   {"kind: Secret\ndata: hi", true},
		"a number":        {"kind: Secret\ndata: {a: 1}", true},
		"partly variable": {"kind: Secret\nstringData: {a: 'x${b}'}", true},
		"a default":       {"kind: Secret\nstringData: {a: '${b:=secret}'}", true},
		"variables":       {"kind: Secret\nstringData: {a: '${b}', c: '${d}${e}'}", false},
		"empty":           {"kind: Secret\ndata: {a: ''}", false},
		"none":            {"kind: Secret\ntype: kubernetes.io/service-account-token", false},
		"encrypted":       {"kind: Secret\ndata: {a: 'ENC[…]'}\nsops: {mac: x}", false},
		"another kind":    {"kind: ConfigMap\ndata: {a: hi}", false},
	} {
		t.Run(name, func(t *testing.T) {
			tree := memtree.New(map[string]string{"a.yaml": "apiVersion: v1\nmetadata: {name: a}\n" + c.manifest + "\n"})
			res, err := render.NewEngine(render.Limits{}).Render(t.Context(), render.Request{Tree: tree, Path: ".", Tool: render.Plain})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(res.ClearSecrets) == 1; got != c.clear {
				t.Fatalf("in clear: %t, want %t", got, c.clear)
			}
		})
	}
}
