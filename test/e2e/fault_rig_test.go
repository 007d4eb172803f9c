package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"

	"github.com/fairway-cd/fairway/internal/testkit"
)

// faultRig is an instance on a cluster and a Git server that are not its own,
// with something between each two of them that a test can spoil, and one
// delivery of each dialect.
type faultRig struct {
	*instance
	cluster *testkit.Cluster
	// direct asks the API server past the proxy.
	direct dynamic.Interface
	api    *apiProxy
	git    *gitServer
	work   map[string]string // the work trees, by repository
	// small has the mirrors on a disk of their own.
	small   bool
	version int
	report  *faultReport
	rows    map[string]*faultRow
}

func newFaultRig(t *testing.T) *faultRig {
	t.Helper()
	bin, err := program("FAIRWAY_BIN", "fairway")
	if err != nil {
		t.Fatal(err)
	}
	r := &faultRig{
		instance: newInstance(bin, filepath.Join(t.TempDir(), "data")),
		cluster:  testkit.StartCluster(t, testkit.ClusterOptions{}),
		git:      newGitServer(t), work: map[string]string{}, report: newFaultReport(), rows: map[string]*faultRow{},
	}
	if r.direct, err = dynamic.NewForConfig(r.cluster.Config); err != nil {
		t.Fatal(err)
	}
	r.api = newAPIProxy(t, r.cluster.Config)
	r.must(t, "up", "--kubeconfig", r.api.kubeconfig(t), "--port", fmt.Sprint(freePort()))
	t.Cleanup(func() {
		r.api.set(nil)
		_, _ = r.instance.run(context.Background(), "down")
	})
	r.deliver(t)
	return r
}

// kubectl asks the API server past the proxy.
func (r *faultRig) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	program, err := program("FAIRWAY_CLUSTER", "fairway-cluster")
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.exec(t.Context(), "", program, append([]string{"kubectl", "--kubeconfig", r.cluster.Kubeconfig}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// says waits until kubectl answers so.
func (r *faultRig) says(t *testing.T, want string, args ...string) {
	t.Helper()
	eventually(t, func() string {
		if got := r.kubectl(t, args...); got != want {
			return fmt.Sprintf("kubectl %s: got %q, want %q", strings.Join(args, " "), got, want)
		}
		return ""
	})
}

func (r *faultRig) apply(t *testing.T, manifest string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "manifest.yaml")
	if err := os.WriteFile(path, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	r.kubectl(t, "apply", "-f", path)
}

// keep leaves what there is to be read of a failure where FAIRWAY_FAULTS says.
func (r *faultRig) keep(t *testing.T) {
	t.Helper()
	if r.report.path == "" {
		return
	}
	log, err := os.ReadFile(filepath.Join(r.data, "log", "fairway.log"))
	if err != nil {
		t.Error(err)
	}
	for name, content := range map[string]string{
		"log": string(log), "yaml": r.kubectl(t, "get", "applications,kustomizations,helmreleases,gitrepositories,helmcharts,jobs,configmaps", "-A", "-o", "yaml"),
	} {
		if err := os.WriteFile(r.report.path+"-failed."+name, []byte(content), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// kill ends the server as kill -9 does, and starts it again.
func (r *faultRig) kill(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(r.status(t).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.up(t)
}

// mirrors is where the instance has what it has fetched.
func (r *faultRig) mirrors() string { return filepath.Join(r.data, "git", "mirrors") }

// up starts the server. A small disk is mounted in a mount namespace of the
// server's own, so that it is gone with the server, however that ends.
func (r *faultRig) up(t *testing.T) {
	t.Helper()
	if !r.small {
		r.must(t, "up")
		return
	}
	// What is embedded stays where it is: the disk is that of what is fetched.
	script := `set -e
mkdir -p "$1-kept" && mount --bind "$1" "$1-kept" && mount -t tmpfs -o size=8m,mode=0700 none "$1"
cd "$1-kept" && for d in *; do [ "$d" = mirrors ] || [ "$d" = tmp ] || if [ -d "$d" ]; then mkdir "$1/$d" && mount --bind "$d" "$1/$d"; else cp -a "$d" "$1/$d"; fi; done
mkdir -p "$1/mirrors" "$1/tmp" && cd / && exec "$2" up`
	if _, err := r.exec(t.Context(), "", "unshare", "--mount", "sh", "-c", script, "sh", filepath.Join(r.data, "git"), r.bin); err != nil {
		t.Fatal(err)
	}
}

// gitServer is git's own, over HTTP, with what a test does to it before it.
type gitServer struct {
	*httptest.Server
	dir string
	// away has it answer nothing, refuse or fail.
	away atomic.Pointer[func(http.ResponseWriter, *http.Request)]
}

func newGitServer(t *testing.T) *gitServer {
	t.Helper()
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	g := &gitServer{dir: t.TempDir()}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + g.dir, "GIT_HTTP_EXPORT_ALL=1"}}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if away := g.away.Load(); away != nil {
			(*away)(w, req)
			return
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(func() {
		g.away.Store(nil)
		g.CloseClientConnections()
		g.Close()
	})
	return g
}

// set has the server do this to every request; nil ends that.
func (g *gitServer) set(away func(http.ResponseWriter, *http.Request)) {
	if away == nil {
		g.away.Store(nil)
		return
	}
	g.away.Store(&away)
}

// external makes a repository on the Git server, and a work tree of it.
func (r *faultRig) external(t *testing.T, name string, files map[string]string) {
	t.Helper()
	bare, dir := filepath.Join(r.git.dir, name+".git"), t.TempDir()
	r.instance.git(t, r.git.dir, "init", "-q", "--bare", "-b", "main", bare)
	r.instance.git(t, dir, "init", "-q", "-b", "main")
	r.instance.git(t, dir, "remote", "add", "origin", bare)
	r.push(t, dir, files)
	r.work[name] = dir
}

// soak says whether the long tests are to run.
func soak() bool { return os.Getenv("FAIRWAY_SOAK") != "" }

// long is how long a fault lasts: a moment, or in a soak minutes.
func long(quick, soaked time.Duration) time.Duration {
	if soak() {
		return soaked
	}
	return quick
}
