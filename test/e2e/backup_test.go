package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	agekey "filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// lost is what an instance is asked before it is lost, and after it is back.
type lost struct {
	repositories, image, referrers, history, app, objects, robots string
}

func (i *instance) remember(t *testing.T, image string) lost {
	t.Helper()
	return lost{
		repositories: i.must(t, "repo", "show", "bk", "-o", "jsonpath={.refs}") + i.must(t, "repo", "show", "team/lib", "-o", "jsonpath={.refs} {.lastPushBy} {.lastPush}") +
			i.must(t, "repo", "show", "team/empty", "-o", "jsonpath={.name}"),
		image:     i.must(t, "image", "inspect", "team/web:v1", "-o", "json"),
		referrers: i.registryGet(t, "/v2/team/web/referrers/"+image),
		history:   i.must(t, "app", "history", "bk", "-o", "json"),
		app: i.kubectl(t, "get", "application", "bk", "-n", "argocd", "-o",
			"jsonpath={.metadata.annotations} {.spec} {.status.sync} {.status.health.status} {.status.operationState.finishedAt}"),
		objects: i.kubectl(t, "get", "configmap", "a", "-n", "bk", "-o", "json", "--show-managed-fields",
			"-o", "jsonpath={.data} {.metadata.annotations} {.metadata.labels} {.metadata.managedFields}"),
		robots: i.kubectl(t, "get", "serviceaccounts,roles,rolebindings", "-n", "team", "-l", "fairway-cd.io/robot", "-o",
			"jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.annotations} {.rules} {.subjects} {.roleRef}{end}"),
	}
}

func (i *instance) registryGet(t *testing.T, path string) string {
	t.Helper()
	return i.registrySend(t, http.MethodGet, path, "", nil)
}

// registrySend asks the registry as the operator.
func (i *instance) registrySend(t *testing.T, method, path, mediaType string, body []byte) string {
	t.Helper()
	s := i.status(t)
	u, err := url.Parse(s.GitURL)
	if err != nil {
		t.Fatal(err)
	}
	token, _ := u.User.Password()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Registry+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("any", token)
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Accept", "*/*")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %v %s", method, path, answer.Status, err, data)
	}
	return string(data)
}

// attach pushes evidence about an image.
func (i *instance) attach(t *testing.T, image string) {
	t.Helper()
	var about struct {
		Config map[string]any `json:"config"`
	}
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	content := i.registryGet(t, "/v2/team/web/manifests/"+image)
	if err := json.Unmarshal([]byte(content), &about); err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "artifactType": "application/x-evidence",
		"config": about.Config, "layers": []any{about.Config},
		"subject": map[string]any{"mediaType": mediaType, "digest": image, "size": len(content)}})
	if err != nil {
		t.Fatal(err)
	}
	i.registrySend(t, http.MethodPut, fmt.Sprintf("/v2/team/web/manifests/sha256:%x", sha256.Sum256(manifest)), mediaType, manifest)
}

// A machine is lost, and a fresh one has the same state.
func TestBackupAndRestore(t *testing.T) {
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		t.Fatal(err)
	}
	key, err := agekey.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	keyFile, file := filepath.Join(root, "key.txt"), filepath.Join(root, "monday.fairway")
	if err := os.WriteFile(keyFile, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := newInstance(bin, filepath.Join(root, "data"))
	own.must(t, "up", "--nodes", "kwok", "--port", fmt.Sprint(freePort()))
	t.Cleanup(func() { _, _ = own.run(context.Background(), "down") })

	const value = "swordfish-in-clear-text"
	own.kubectl(t, "create", "namespace", "team")
	own.repository(t, "team/lib", map[string]string{"README": "lib\n"})
	own.must(t, "repo", "create", "team/empty")
	own.kubectl(t, "create", "secret", "generic", "by-hand", "-n", "team", "--from-literal=password="+value)
	own.must(t, "token", "create", "pusher", "-n", "team", "--can", "push:team/web")
	content := filepath.Join(root, "content")
	if err := os.WriteFile(content, []byte("web"), 0o600); err != nil {
		t.Fatal(err)
	}
	own.must(t, "image", "create", "-t", "team/web:v1", "--add", content+":/content")
	var image struct{ Digest string }
	if err := json.Unmarshal([]byte(own.must(t, "image", "inspect", "team/web:v1", "-o", "json")), &image); err != nil {
		t.Fatal(err)
	}
	own.attach(t, image.Digest)

	dir := own.repository(t, "bk", map[string]string{"app/a.yaml": configMap("a", "one")})
	own.apply(t, application("bk", own.publicGit(t)+"/bk.git", "app", "bk"))
	own.key(t, "bk", "a", "one")
	own.history(t, "bk", 1)
	own.push(t, dir, map[string]string{"app/a.yaml": configMap("a", "two")})
	own.key(t, "bk", "a", "two")
	own.history(t, "bk", 2)
	own.synced(t, "bk")
	own.must(t, "app", "pin", "bk", "--reason", "a backup")
	own.isPinned(t, "bk", "a backup")
	own.want(t, "Healthy", "get", "application", "bk", "-n", "argocd", "-o", "jsonpath={.status.health.status}")

	own.refused(t, "no key is named", "backup", file)
	own.must(t, "backup", file, "--recipient", key.Recipient().String())
	checkArchive(t, own, file, value)
	before := own.remember(t, image.Digest)
	own.must(t, "down", "--purge")

	// A copy that was cut short, and a wrong key, leave nothing.
	again := newInstance(bin, filepath.Join(root, "elsewhere"))
	t.Cleanup(func() { _, _ = again.run(context.Background(), "down") })
	again.refused(t, "no key is named", "restore", file)
	half := filepath.Join(root, "half")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(half, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	again.refused(t, "ends before it is whole", "restore", half, "--identity", keyFile)
	if _, err := os.Stat(again.data); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}

	again.killedRestore(t, file, keyFile)
	again.refused(t, "half restored", "up")
	if s := again.status(t); s.State != "half restored" {
		t.Errorf("the state is %q", s.State)
	}
	again.must(t, "restore", file, "--identity", keyFile)
	after := again.remember(t, image.Digest)
	if before != after {
		t.Errorf("before: %+v\nafter:  %+v", before, after)
	}
	if got := again.kubectl(t, "get", "secret", "by-hand", "-n", "team", "-o", "go-template={{.data.password | base64decode}}"); got != value {
		t.Errorf("the secret is %q", got)
	}
	again.refused(t, "another fairway runs on", "restore", file, "--identity", keyFile, "--data", again.data)

	// It goes on from there: the pin holds, the history can be rolled back to,
	// the robot gets a token, and a push is delivered.
	clone := t.TempDir()
	again.git(t, clone, "clone", "-q", again.status(t).GitURL+"/bk.git", ".")
	again.push(t, clone, map[string]string{"app/a.yaml": configMap("a", "three")})
	again.must(t, "app", "unpin", "bk")
	again.key(t, "bk", "a", "three")
	entries := again.history(t, "bk", 3)
	again.rollback(t, "bk", fmt.Sprint(entries[0].ID), "--reason", "a test")
	again.key(t, "bk", "a", "one")
	again.must(t, "token", "create", "pusher", "-n", "team")
}

// killedRestore kills a restore that has begun with the cluster.
func (i *instance) killedRestore(t *testing.T, file, keyFile string) {
	t.Helper()
	cmd := exec.Command(i.bin, "restore", file, "--identity", keyFile)
	cmd.Env = i.env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, func() string {
		if _, err := os.Stat(filepath.Join(i.data, "cluster", "admin.kubeconfig")); err != nil {
			return err.Error()
		}
		return ""
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Fatal("the restore ended before it was killed")
	}
}

// checkArchive reads the whole archive in clear.
func checkArchive(t *testing.T, i *instance, file, secret string) {
	t.Helper()
	list := i.must(t, "backup", "--list", file)
	for _, want := range []string{"default/bk", "team/empty", "team/lib", "team/web", "encrypted"} {
		if !strings.Contains(list, want) {
			t.Errorf("%s is not in\n%s", want, list)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	clear, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{secret, "c3dvcmRmaXNoLWluLWNsZWFyLXRleH"} {
		if bytes.Contains(clear, []byte(s)) {
			t.Errorf("%s is in the backup", s)
		}
	}
	if !bytes.Contains(clear, []byte(`"kind":"Application"`)) {
		t.Error("no object is in the backup")
	}
}

// publicGit is the instance's Git URL without a credential.
func (i *instance) publicGit(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(i.status(t).GitURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = nil
	return u.String()
}
