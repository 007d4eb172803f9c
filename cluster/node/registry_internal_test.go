package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRegistriesFollowTheirList(t *testing.T) {
	r := &registries{data: t.TempDir(), dir: t.TempDir(), inNode: "/run/certs.d"}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(ca, []byte("authority"), 0o600); err != nil {
		t.Fatal(err)
	}
	set := func(list ...RegistryConfig) {
		t.Helper()
		if err := WriteRegistries(r.data, list); err != nil {
			t.Fatal(err)
		}
		if err := r.sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.sync(); err != nil {
		t.Fatalf("without a list: %v", err)
	}
	one := RegistryConfig{Names: []string{"localhost:8080", "127.0.0.1:8080"}, Endpoint: "https://10.0.0.1:8080", CAFile: ca, Username: "node", Password: "secret"}
	set(one)
	for _, name := range one.Names {
		got, err := os.ReadFile(filepath.Join(r.dir, name, "hosts.toml"))
		if err != nil {
			t.Fatal(err)
		}
		want := `server = "https://10.0.0.1:8080"
capabilities = ["pull", "resolve"]
ca = "/run/certs.d/` + name + `/ca.crt"
[header]
Authorization = "Basic bm9kZTpzZWNyZXQ="
`
		if string(got) != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	set(RegistryConfig{Names: []string{"localhost:8080"}, Endpoint: "http://10.0.0.1:9"})
	got, err := os.ReadFile(filepath.Join(r.dir, "localhost:8080", "hosts.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), "Authorization") {
		t.Errorf("the credential of before is left: %s", got)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "127.0.0.1:8080")); err == nil {
		t.Error("a name is left that was taken off the list")
	}
}

// FuzzRegistries reads any list: an error, or directories below its own only.
func FuzzRegistries(f *testing.F) {
	f.Add(`[{"names":["localhost:8080"],"endpoint":"https://10.0.0.1:8080","username":"a","password":"b"}]`)
	f.Add(`[{"names":["../../etc"],"endpoint":"https://x"}]`)
	f.Add(`[{"names":[".."],"endpoint":"https://x\"\n[host]"}]`)
	f.Add(`[`)
	f.Fuzz(func(t *testing.T, list string) {
		if strings.Contains(list, "caFile") {
			t.Skip("reads any file that the list names, as it is to")
		}
		above := t.TempDir()
		r := &registries{data: t.TempDir(), dir: filepath.Join(above, "certs.d"), inNode: "/run/certs.d"}
		if err := os.Mkdir(r.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.data, registryFile), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = r.sync()
		entries, err := os.ReadDir(above)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 1 {
			t.Errorf("%q wrote %v", list, entries)
		}
	})
}
