package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	argoproj "github.com/fairway-cd/fairway/api/argoproj/v1alpha1"
	"github.com/fairway-cd/fairway/internal/core"
)

func TestInstanceRemembersItsOptions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	inst, err := OpenInstance(dir)
	if err != nil {
		t.Fatal(err)
	}
	if inst.Config.Nodes != NodesAuto || inst.Running() {
		t.Errorf("a new instance has %+v", inst.Config)
	}
	inst.Config.Port, inst.Config.Nodes, inst.Config.Listen = 8500, NodesKWOK, []string{"10.0.0.1:8500"}
	if err := inst.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenInstance(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Config.Port != 8500 || again.Config.Nodes != NodesKWOK || !slices.Equal(again.Config.Listen, inst.Config.Listen) {
		t.Errorf("it remembers %+v", again.Config)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("others can look into the directory: %v, %v", st.Mode(), err)
	}
}

func TestInstanceExistsOnce(t *testing.T) {
	inst, err := OpenInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	lock, err := inst.lock()
	if err != nil {
		t.Fatal(err)
	}
	if !inst.Running() {
		t.Error("a locked instance does not count as running")
	}
	if _, err := inst.lock(); err == nil {
		t.Error("the instance could be locked twice")
	}
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if up, err := inst.settle(t.Context()); up || err != nil {
		t.Errorf("without a server it settles as %v, %v", up, err)
	}
}

func TestContextIsAddedToTheUsersKubeconfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config")
	t.Setenv("KUBECONFIG", path)
	theirs := clientcmdapi.NewConfig()
	theirs.Clusters["a"] = &clientcmdapi.Cluster{Server: "https://a"}
	theirs.Contexts["a"] = &clientcmdapi.Context{Cluster: "a"}
	theirs.CurrentContext = "a"
	if err := clientcmd.WriteToFile(*theirs, path); err != nil {
		t.Fatal(err)
	}
	inst, err := OpenInstance(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := inst.writeKubeconfig(&rest.Config{Host: "https://127.0.0.1:16443"}, "secret"); err != nil {
		t.Fatal(err)
	}
	if err := inst.AddContext(); err != nil {
		t.Fatal(err)
	}
	got, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Clusters["fairway"]; c == nil || c.Server != "https://127.0.0.1:16443" {
		t.Errorf("the cluster is %+v", c)
	}
	if u := got.AuthInfos["fairway"]; u == nil || u.Token != "secret" {
		t.Error("the user is not there")
	}
	if got.CurrentContext != "a" || got.Clusters["a"] == nil {
		t.Errorf("what was there has changed: %+v", got)
	}
}

func TestImagesOfAnyKind(t *testing.T) {
	images := imageSet{}
	images.addObject(map[string]any{
		"image": map[string]any{"repository": "not-a-name"},
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers":     []any{map[string]any{"name": "a", "image": "localhost:8420/a@sha256:1"}},
			"initContainers": []any{map[string]any{"image": "b:1"}},
		}}},
	})
	got := images.list()
	slices.Sort(got)
	if want := []string{"b:1", "localhost:8420/a@sha256:1"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestIdentityOfAUserIsNoAddress(t *testing.T) {
	id := identityOf(core.User{Name: "system:serviceaccount:a:b <x@example.com>"})
	if strings.ContainsAny(id.Email, "<>: ") || !strings.HasSuffix(id.Email, "@fairway.invalid") || strings.Count(id.Email, "@") != 1 {
		t.Errorf("the address is %q", id.Email)
	}
}

func TestApplicationSummary(t *testing.T) {
	app := &argoproj.Application{}
	app.Namespace, app.Name = "argocd", "web"
	app.Spec.Source = &argoproj.ApplicationSource{RepoURL: "https://example.com/r.git", Path: "web"}
	app.Status.Sync.Status, app.Status.Sync.Revision = "OutOfSync", "0123456789abcdef0123456789abcdef01234567"
	app.Status.Conditions = []argoproj.ApplicationCondition{{Type: "ComparisonError", Message: "it is broken"}}
	d := applicationSummary(app)
	if d.Revision != "0123456" || d.Sync != "OutOfSync" || d.Message != "ComparisonError: it is broken" {
		t.Errorf("it is shown as %+v", d)
	}
	if got := shortRevision("main@sha1:0123456789abcdef0123456789abcdef01234567"); got != "main@0123456" {
		t.Errorf("Flux' revision is shown as %q", got)
	}
}

// FuzzShortRevision: whatever a status holds, showing it does not fail.
func FuzzShortRevision(f *testing.F) {
	for _, seed := range []string{"", "main@sha1:0123456789abcdef", "@sha1:", "sha256:abc", "main"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, revision string) {
		if got := shortRevision(revision); len(got) > len(revision) {
			t.Errorf("%q is shown longer, as %q", revision, got)
		}
	})
}
